//! Parses the command line and dispatches; everything else is the library's.

use std::process::ExitCode;

fn main() -> ExitCode {
    outboxfs::cli::run()
}
