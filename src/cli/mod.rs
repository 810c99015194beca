//! The command line: clap definitions and one file per subcommand.

pub mod doctor;
pub mod measure_raw;
