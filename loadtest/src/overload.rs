//! Overload: ten times what replicas can serve. Do those that are served stay as many, and can operators still operate?
//!
//! The capacity is that of the replicas, which take their time, not that of the machine: else the load itself would
//! take away what is measured.

mod report;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use self::report::Summary;
use crate::{
    Report,
    balancer::{Balancer, Setup},
    client::Connection,
    csv, description,
    drive::{Content, Load, Pace},
    manifest::Manifest,
    progress,
    replica::Replica,
    report::{HTML, MARKDOWN, page},
    request::Request,
    run_dir::{MANIFEST, RunDir, SUMMARY},
};

const EXPERIMENT: &str = include_str!("../../conf/experiments/overload.yaml");
const SEED: u64 = 1;

const PEAK: &str = "peak.csv";
const OVERLOAD: &str = "overload.csv";
const ADMIN: &str = "admin.csv";
const ADMIN_HEADER: [&str; 2] = ["load", "latency_us"];

/// How often the operator asks.
const ASK_EVERY: Duration = Duration::from_millis(50);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The description of the experiment [default: the one in conf/experiments]
    #[arg(long, value_name = "FILE")]
    experiment: Option<PathBuf>,

    /// Directory for the results, without those of another run [default: results/overload-SECONDS]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What is to be done. Unknown keys are errors.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Experiment {
    title: String,
    replicas: u32,
    /// How long each takes to answer.
    delay_ms: u64,
    pool: serde_yaml::Mapping,
    /// Of the closed loop that finds the peak.
    peak_connections: u16,
    /// So many times the peak is offered.
    factor: u32,
    /// Of the open loop.
    connections: u16,
    /// Of each loop.
    seconds: u32,
    timeout_ms: u64,
}

impl Experiment {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let it: Self = serde_yaml::from_str(text)?;
        for (key, value) in [
            ("replicas", it.replicas),
            ("peak_connections", it.peak_connections.into()),
            ("factor", it.factor),
            ("connections", it.connections.into()),
            ("seconds", it.seconds),
        ] {
            ensure!(value > 0, "{key} is 0, must be at least 1");
        }
        Ok(it)
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

/// One question of the operator.
struct Ask {
    /// Whether it was asked under overload.
    loaded: bool,
    /// `None`: it was not answered.
    latency_us: Option<u64>,
}

/// Measures, summarises, writes.
pub(crate) async fn run(args: Args) -> anyhow::Result<Report> {
    let experiment = description::read(args.experiment.as_deref(), EXPERIMENT, Experiment::parse)?;
    let dir = RunDir::open(args.out, "overload")?;
    let manifest =
        Manifest::new(SEED, "a balancer of our own on free ports".to_owned(), experiment);
    dir.write_json(MANIFEST, &manifest)?;
    measure(&manifest.plan, &dir).await?;
    summarise(&dir)?;
    let summary: Summary = dir.read_json(SUMMARY)?;
    let markdown = report::markdown(&manifest, &summary);
    dir.write(HTML, &page(&manifest.plan.title, &markdown))?;
    dir.write(MARKDOWN, &markdown)?;
    Ok(Report {
        text: format!("{}{}", report::text(&summary), dir.signpost()),
        kept: summary.kept(),
    })
}

async fn measure(plan: &Experiment, dir: &RunDir) -> anyhow::Result<()> {
    let files = tempfile::Builder::new().prefix("ringmaster-loadtest-").tempdir()?;
    let mut replicas = Vec::new();
    for number in 1..=plan.replicas {
        let name = format!("S{number}");
        replicas.push(Replica::start(&name, plan.delay_ms, None, files.path()).await?);
    }
    let mut pool = plan.pool.clone();
    pool.extend(Replica::pool(&replicas));
    let setup = Setup { replicas: plan.replicas, pool, ..Setup::default() };
    let balancer = Balancer::start(setup).await?;

    progress::show("the peak");
    let (peak, _) = under(&balancer, plan, Pace::Free, plan.peak_connections).await?;
    dir.write(PEAK, &Request::to_csv(&peak)?)?;
    let per_second = report::answered_per_second(&peak, plan.seconds);
    ensure!(per_second >= 1.0, "nothing was answered: there is no peak to go beyond");

    progress::show("nobody but the operator");
    let mut asks = operate(&balancer, plan, false, sleep(seconds(plan))).await;
    progress::show("overload");
    let pace = Pace::PerSecond((per_second * f64::from(plan.factor)) as u32);
    let (requests, loaded) = under(&balancer, plan, pace, plan.connections).await?;
    progress::show("");
    asks.extend(loaded);
    dir.write(OVERLOAD, &Request::to_csv(&requests)?)?;
    let row = |it: &Ask| {
        let load = if it.loaded { "overload" } else { "none" };
        [load.to_owned(), it.latency_us.map(|us| us.to_string()).unwrap_or_default()]
    };
    dir.write(ADMIN, &csv::write(ADMIN_HEADER, asks.iter().map(row))?)
}

fn seconds(plan: &Experiment) -> Duration {
    Duration::from_secs(plan.seconds.into())
}

/// A load, and an operator who asks meanwhile.
async fn under(
    balancer: &Balancer,
    plan: &Experiment,
    pace: Pace,
    connections: u16,
) -> anyhow::Result<(Vec<Request>, Vec<Ask>)> {
    let content = Content::Drawn { seed: SEED };
    let load = Arc::new(Load::new(balancer.target(), plan.timeout(), content, pace, u64::MAX));
    let run = tokio::spawn(load.clone().run(connections.into()));
    let asks = operate(balancer, plan, true, sleep(seconds(plan))).await;
    load.stop();
    Ok((run.await.context("the load ended early")?, asks))
}

/// Asks about the pool, again and again, until `end`.
async fn operate(
    balancer: &Balancer,
    plan: &Experiment,
    loaded: bool,
    end: impl Future<Output = ()>,
) -> Vec<Ask> {
    let mut connection = Connection::new(balancer.admin(), plan.timeout());
    let mut asks = Vec::new();
    let ask = async {
        let mut times = interval(ASK_EVERY);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            times.tick().await;
            let began = Instant::now();
            let answer = connection.get("/api/v1/pools/default").await;
            let took_us = began.elapsed().as_micros() as u64;
            asks.push(Ask { loaded, latency_us: answer.is_ok().then_some(took_us) });
        }
    };
    tokio::select! {
        () = ask => {}
        () = end => {}
    }
    asks
}

fn summarise(dir: &RunDir) -> anyhow::Result<()> {
    let Manifest { plan, .. } = dir.read_json::<Manifest<Experiment>>(MANIFEST)?;
    let peak = dir.read(PEAK, Request::from_csv)?;
    let requests = dir.read(OVERLOAD, Request::from_csv)?;
    let ask = |[load, latency]: [&str; 2]| {
        let latency = (!latency.is_empty()).then(|| latency.parse()).transpose();
        Ok(Ask { loaded: load == "overload", latency_us: latency.context("latency_us")? })
    };
    let asks = dir.read(ADMIN, |text| csv::read(text, ADMIN_HEADER, ask))?;
    dir.write_json(SUMMARY, &Summary::of(plan.seconds, &peak, &requests, &asks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_with_the_program_is_valid() {
        Experiment::parse(EXPERIMENT).unwrap();
        let error =
            Experiment::parse(&EXPERIMENT.replace("factor: 10", "factor: 0")).err().unwrap();
        assert_eq!(error.to_string(), "factor is 0, must be at least 1");
    }
}
