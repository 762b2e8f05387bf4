//! The comparison: Ringmaster and its peers do the same work on the same machine with the same backends in one run, in
//! turns.
//!
//! What decides are ratios: instructions per request, which repeat whatever else the machine does, and processor time
//! of the same round. With one thread, the proxy has a core of its own; load and backends have the others.

mod client;
mod figure;
pub(crate) mod guard;
mod instructions;
mod measure;
mod peer;
mod report;
pub(crate) mod scaling;
mod scenario;
mod stage;
mod summary;

use std::path::PathBuf;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use self::{
    figure::Figure, instructions::Counter, measure::Measure, peer::Peer, scenario::Scenario,
    stage::Stage, summary::Summary,
};
use crate::{
    Report,
    manifest::Manifest,
    progress,
    report::{HTML, MARKDOWN, page},
    run_dir::{MANIFEST, RunDir, SUMMARY},
};

const FIGURES: &str = "figures.csv";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Who takes part; those that are not installed are left out, and named
    #[arg(long, value_delimiter = ',', default_values_t = Peer::ALL)]
    peers: Vec<Peer>,

    /// Which loads are driven for processor time, by name (json, 10k, …) [default: all]
    #[arg(long, value_delimiter = ',', value_parser = Scenario::from_key)]
    scenarios: Option<Vec<Scenario>>,

    /// How often each peer does each load
    #[arg(long, default_value_t = 3)]
    rounds: u32,

    /// How long each load lasts
    #[arg(long, value_name = "S", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,

    /// Requests per second of the load that is the same for all
    #[arg(long, default_value_t = 4_000)]
    rate: u64,

    /// Directory for the results, without those of another run [default: results/compare-SECONDS]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What was to be done, and with what.
#[derive(Serialize, Deserialize)]
struct Plan {
    peers: Vec<Peer>,
    versions: Vec<(Peer, String)>,
    /// Asked for, but not installed.
    absent: Vec<Peer>,
    scenarios: Option<Vec<Scenario>>,
    rounds: u32,
    seconds: u64,
    rate: u64,
    /// What counted instructions: `perf` counts all, `callgrind` only the user's.
    counter: Option<String>,
}

impl Plan {
    fn scenarios(&self) -> Vec<Scenario> {
        self.scenarios.clone().unwrap_or_else(|| Scenario::ALL.to_vec())
    }
}

/// Measures, summarises, draws.
pub(crate) async fn run(args: Args) -> anyhow::Result<Report> {
    let dir = RunDir::open(args.out.clone(), "compare")?;
    // Processes, threads and blocking sockets only.
    tokio::task::block_in_place(|| measure(&args, &dir))?;
    dir.write_json(SUMMARY, &Summary::of(&dir.read(FIGURES, Figure::from_csv)?))?;
    draw(&dir)?;
    let summary: Summary = dir.read_json(SUMMARY)?;
    let text = format!("{}{}", report::headline(&summary), dir.signpost());
    Ok(Report { text, kept: summary.errors == 0 })
}

fn measure(args: &Args, dir: &RunDir) -> anyhow::Result<()> {
    let mut versions = Vec::new();
    let mut absent = Vec::new();
    for &peer in &args.peers {
        match peer.version() {
            Some(version) => versions.push((peer, version)),
            None => absent.push(peer),
        }
    }
    ensure!(!versions.is_empty(), "none of the peers is installed");
    let counter = Counter::choose();
    let plan = Plan {
        peers: versions.iter().map(|(peer, _)| *peer).collect(),
        versions,
        absent,
        scenarios: args.scenarios.clone(),
        rounds: args.rounds,
        seconds: args.seconds,
        rate: args.rate,
        counter: counter.map(|it| it.name().to_owned()),
    };
    let manifest = Manifest::new(1, "peers on free ports of this machine".to_owned(), plan);
    dir.write_json(MANIFEST, &manifest)?;
    let stage = Stage::set().context("setting the stage")?;
    let figures = Measure { stage, plan: &manifest.plan, figures: Vec::new() }.all(counter)?;
    progress::show("");
    dir.write(FIGURES, &Figure::to_csv(&figures)?)
}

fn draw(dir: &RunDir) -> anyhow::Result<()> {
    let manifest: Manifest<Plan> = dir.read_json(MANIFEST)?;
    let summary: Summary = dir.read_json(SUMMARY)?;
    for (file, chart) in report::charts(&summary) {
        dir.write(file, &chart.to_string())?;
    }
    let markdown = report::markdown(&manifest, &summary);
    dir.write(HTML, &page("Ringmaster and its peers", &markdown))?;
    dir.write(MARKDOWN, &markdown)
}
