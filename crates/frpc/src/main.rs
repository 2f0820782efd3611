//! The `frpc` program. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    frpc::program::run(std::env::args_os())
}
