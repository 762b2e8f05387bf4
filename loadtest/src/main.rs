//! Experiments against a running Ringmaster.
//!
//! Every experiment has the same steps, joined by files in one directory: *measure* leaves
//! `manifest.json` and tables as CSV, *summarise* makes `summary.json` from those, *draw* makes SVG
//! from the summary. So a figure can always be traced to the requests behind it, and no later step
//! can change what was measured.
//!
//! Exit code: 0 when the target kept its promises, 1 when it broke one or the experiment could not
//! run, 2 for a wrong command line.

mod a1;
mod a3;
mod admin;
mod all;
mod balancer;
mod chaos;
mod client;
mod compare;
mod csv;
mod description;
mod drive;
mod engine;
mod failover;
mod failure;
mod manifest;
mod metrics;
mod overload;
mod percentiles;
mod progress;
mod reasons;
mod replica;
mod report;
mod request;
mod request_id;
mod run_dir;
mod running;
mod served;
mod soak;
mod svg;
mod sweep;
mod tally;
mod target;
mod victim;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Parser, Subcommand};

/// Measures a running Ringmaster.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    experiment: Experiment,
}

#[derive(Subcommand)]
enum Experiment {
    /// failover and the comparison, one after the other, with one report
    All(all::Args),
    /// How evenly and how fast requests with random ids are answered
    A1(a1::Args),
    /// The load of each replica while their number goes up and down again
    A2(sweep::Args),
    /// Every endpoint, and replicas killed under load: how long each stage of a recovery takes
    A3(a3::Args),
    /// with other hash functions, and what joining and leaving moves
    A4(sweep::Args),
    /// What a request costs here and at nginx, HAProxy, Caddy and a bare Pingora
    Compare(compare::Args),
    /// What a request costs as replicas and connections grow
    Scaling(compare::scaling::Args),
    /// Whether a request needs as many instructions as the committed figure says
    Guard(compare::guard::Args),
    /// Faults under load: what is lost, what is served twice, how long nobody is answered
    Chaos(chaos::Args),
    /// Ten times what replicas can serve: how many are served, and whether operators are answered
    Overload(overload::Args),
    /// A long time of load and changes: whether the balancer grows
    Soak(soak::Args),
    /// How long a killed replica is missing, and whether anybody notices
    Failover(failover::Args),
}

/// What an experiment found.
struct Report {
    /// For people: a few lines.
    text: String,
    /// Whether the target did all that it promises.
    kept: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match report(Args::parse().experiment).await {
        Ok(Report { kept: true, .. }) => ExitCode::SUCCESS,
        Ok(Report { kept: false, .. }) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ringmaster-loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the experiment and prints what it found.
async fn report(experiment: Experiment) -> anyhow::Result<Report> {
    let report = match experiment {
        Experiment::All(args) => all::run(args).await?,
        Experiment::A1(args) => a1::run(args).await?,
        Experiment::A2(args) => sweep::run(args, &sweep::A2).await?,
        Experiment::A3(args) => a3::run(args).await?,
        Experiment::A4(args) => sweep::run(args, &sweep::A4).await?,
        Experiment::Compare(args) => compare::run(args).await?,
        Experiment::Scaling(args) => compare::scaling::run(args).await?,
        Experiment::Guard(args) => compare::guard::run(args).await?,
        Experiment::Chaos(args) => chaos::run(args).await?,
        Experiment::Overload(args) => overload::run(args).await?,
        Experiment::Soak(args) => soak::run(args).await?,
        Experiment::Failover(args) => failover::run(args).await?,
    };
    io::stdout().write_all(report.text.as_bytes()).context("printing the report")?;
    Ok(report)
}
