//! `ringmaster-server`: one replica as a process.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use ringmaster_server::ServerArgs;

/// One replica: answers /home and /heartbeat until it is told to stop.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    server: ServerArgs,
}

// One thread: no handler blocks, and a machine runs many replicas.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match ringmaster_server::serve(Args::parse().server).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "ringmaster-server: {error:#}"); // Lost if nobody reads it.
            ExitCode::FAILURE
        }
    }
}
