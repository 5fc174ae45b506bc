//! The `roadstead` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    roadstead::cli::main()
}
