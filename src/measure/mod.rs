//! Throughput, latency, per-layer time; paired comparison and its statistics.
