//! Ringmaster: a reverse proxy that owns both halves of the job. It decides which replica a request goes to, and
//! which replicas exist.

mod admin;
mod app;
mod banner;
mod cli;
mod config;
mod descriptors;
mod engine;
mod events;
mod heartbeat;
mod listen;
mod metrics;
mod privileges;
mod provider;
mod proxy;
mod reload;
mod routes;
mod supervisor;
mod tail;
mod upgrade;

use std::process::ExitCode;

use clap::Parser;

/// A request allocates some dozens of times inside Pingora, most of it short-lived and on one thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Of this binary.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// That it was built from.
const COMMIT: &str = env!("RINGMASTER_COMMIT");

fn main() -> ExitCode {
    match cli::run(cli::Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
