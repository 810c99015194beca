//! The command line: clap definitions and one file per subcommand.

pub mod inspect;
