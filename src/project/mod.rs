//! Files on disk: atomic writes, locks, hashes.
