//! The workbench without a terminal: keys go in, screens come out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

mod bytes;
mod flows;
mod keys;
mod performance;
mod recorded;
mod report;
mod screens;
mod terminals;
mod walks;
