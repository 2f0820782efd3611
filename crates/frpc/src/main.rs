//! The `frpc` program. Everything is in the library.

use std::process::ExitCode;

/// The buffers of busy streams come and go by the thousand a second; the system's allocator gives
/// them back to the kernel each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    frpc::program::run(std::env::args_os())
}
