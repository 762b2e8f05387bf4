//! Ringmaster: a reverse proxy that owns both halves of the job. It decides which replica a request goes to, and
//! which replicas exist.
//!
//! The program is [`main`]; all else is private. It is a library so that fuzz targets and benches can be linked with it.

mod admin;
mod app;
mod banner;
#[cfg(feature = "bench")]
pub mod benching;
mod cli;
mod config;
mod descriptors;
mod encoding;
mod engine;
mod events;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod heartbeat;
mod listen;
mod log;
mod metrics;
mod privileges;
mod provider;
mod proxy;
mod reload;
mod routes;
mod supervisor;
mod suspicion;
mod sync;
mod systemd;
mod tail;
mod tls;
mod upgrade;

use std::process::ExitCode;

use clap::Parser;

/// Of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// That it was built from.
const COMMIT: &str = env!("RINGMASTER_COMMIT");

/// Does what the command line asks for.
pub fn main() -> ExitCode {
    match cli::run(cli::Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
