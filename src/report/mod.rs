//! The three accuracy reports: rows, metrics, aggregates, CSV, JSON, HTML.
