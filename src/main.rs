//! The `calib8` command.

fn main() {}
