//! The program `ringmaster`.

use std::process::ExitCode;

/// A request allocates some dozens of times inside Pingora, most of it short-lived and on one thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ringmaster::main()
}
