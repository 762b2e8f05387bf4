//! The command line: what can be asked for, and what the exit code says of it.

mod answers;
mod client;
mod doctor;
mod follow;
mod healthcheck;
mod remote;
mod render;
mod spawner;
mod text;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use ipnet::IpNet;
use ringmaster_server::ServerArgs;

use self::{client::ClientError, healthcheck::HealthcheckArgs};
use crate::{
    app,
    config::{Config, ConfigError, Source},
    log, privileges, tls,
};

/// A reverse proxy that keeps its replicas alive.
#[derive(Debug, Parser)]
#[command(version = concat!(env!("CARGO_PKG_VERSION"), " (", env!("RINGMASTER_COMMIT"), ")"))]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(flatten)]
    up: UpArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts the balancer and its replicas; the default.
    Up(UpArgs),
    /// Checks a configuration and says everything that is wrong with it.
    Check {
        /// The configuration.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Exits with 0 once every pool of a running balancer has served: the health check of its container.
    Healthcheck(HealthcheckArgs),
    /// Runs a replica.
    Replica(ServerArgs),
    /// Speaks to a Docker engine for a balancer, and lets nothing through but what it is told to.
    Spawner(spawner::SpawnerArgs),
    /// Finds what keeps a balancer from running as it should, before its start or while it runs, and says what to do
    /// about it. Exits with 0 if no check fails, with 1 if one does, and with 2 for bad arguments.
    Doctor(doctor::Args),
    #[command(flatten)]
    Remote(remote::Command),
}

#[derive(Debug, clap::Args)]
struct UpArgs {
    /// The configuration; without one, three replicas behind port 5000.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A network, ADDRESS/BITS, that may call the operators' endpoints without a token, beside those in `admin.trust`.
    /// Can be given several times.
    #[arg(long, value_name = "NETWORK")]
    trust: Vec<IpNet>,
    /// Takes the cluster over from a balancer that holds it on the same Docker engine, even if that one still runs.
    #[arg(long)]
    take_over: bool,
}

/// Why the command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The configuration is bad: exit code 2.
    Config(ConfigError),
    /// An argument is bad in a way that only its use shows: exit code 2.
    Usage(String),
    /// Anything else: exit code 1.
    Failed(anyhow::Error),
}

impl Failure {
    /// Says it on standard error, and in the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        let (text, code) = match self {
            Self::Config(error) => (error.to_string(), 2),
            Self::Usage(text) => (text.clone(), 2),
            Self::Failed(error) => (format!("{error:#}"), 1),
        };
        for line in text.lines() {
            // Nobody is left to hear it.
            let _ = writeln!(io::stderr(), "ringmaster: {line}");
        }
        ExitCode::from(code)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Failed(error.into())
    }
}

/// Does what the command line asks for.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    privileges::renounce_new()?;
    match args.command.unwrap_or(Command::Up(args.up)) {
        Command::Up(args) => up(&args),
        Command::Check { config } => check(&config),
        Command::Healthcheck(args) => Ok(healthcheck::run(&args)?),
        Command::Replica(args) => Ok(block_on(ringmaster_server::serve(args))??),
        Command::Spawner(args) => {
            log::start();
            Ok(block_on(spawner::run(args))??)
        }
        Command::Doctor(args) => block_on(doctor::run(args))?,
        Command::Remote(command) => block_on(remote::run(command))?,
    }
}

fn up(UpArgs { config, trust, take_over }: &UpArgs) -> Result<(), Failure> {
    let source = Source { path: config.clone(), trust: trust.clone() };
    let loaded = source.read()?;
    log::start();
    Ok(app::run(loaded, source, *take_over)?)
}

fn check(path: &Path) -> Result<(), Failure> {
    let config = Config::load(path)?;
    tls::acceptor(&config.tls).map_err(|error| Failure::Usage(error.to_string()))?;
    say(&format!(
        "{}: good: {} pools, {} routes\n",
        path.display(),
        config.pools.len(),
        config.routes.len()
    ));
    for remark in config.remarks() {
        say(&format!("{}: {remark}\n", path.display()));
    }
    Ok(())
}

/// Runs one task, as everything but the balancer is.
fn block_on<T>(task: impl Future<Output = T>) -> anyhow::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(task))
}

/// Prints for people and scripts. One that does not read to the end still has the exit code.
fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}
