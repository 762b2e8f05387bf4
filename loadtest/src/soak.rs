//! Soak: a mixed load for a long time, while replicas come, go, die and are restarted. Does the balancer grow?

mod report;
mod sample;

use std::{
    path::{PathBuf, absolute},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use self::{report::Summary, sample::Sample};
use crate::{
    Report,
    balancer::{Balancer, Setup},
    chaos::{Fault, Row, Site},
    description,
    drive::{Content, Load, Pace, Posts},
    manifest::Manifest,
    progress,
    report::{HTML, MARKDOWN, page},
    request::Request,
    run_dir::{MANIFEST, REQUESTS, RunDir, SUMMARY},
    served::Served,
    target::Target,
};

const EXPERIMENT: &str = include_str!("../../conf/experiments/soak.yaml");

const SAMPLES: &str = "samples.csv";
const CHURN: &str = "churn.csv";
const SERVED: &str = "served.log";
const CHART: &str = "growth.svg";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The description of the experiment [default: the one in conf/experiments]
    #[arg(long, value_name = "FILE")]
    experiment: Option<PathBuf>,

    /// How long the load lasts
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,

    /// Directory for the results, without those of another run [default: results/soak-SECONDS]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What is to be done. Unknown keys are errors.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Experiment {
    title: String,
    replicas: u32,
    pool: serde_yaml::Mapping,
    rate: u32,
    connections: u16,
    #[serde(rename = "posts_every")]
    posts: Posts,
    timeout_ms: u64,
    /// How often the balancer is looked at.
    sample_ms: u64,
    /// From the end of one change to the next.
    churn_ms: u64,
    /// One after the other, again and again.
    churn: Vec<Fault>,
}

impl Experiment {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let it: Self = serde_yaml::from_str(text)?;
        ensure!(it.replicas > 0, "replicas is 0, must be at least 1");
        ensure!(it.rate > 0, "rate is 0, must be at least 1");
        ensure!(it.connections > 0, "connections is 0, must be at least 1");
        ensure!(!it.churn.is_empty(), "churn is empty, must name at least one change");
        Ok(it)
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

/// Measures, summarises, draws.
pub(crate) async fn run(args: Args) -> anyhow::Result<Report> {
    let experiment = description::read(args.experiment.as_deref(), EXPERIMENT, Experiment::parse)?;
    let dir = RunDir::open(args.out, "soak")?;
    let manifest = Manifest::new(0, "a balancer of our own on free ports".to_owned(), experiment);
    dir.write_json(MANIFEST, &manifest)?;
    measure(&manifest.plan, Duration::from_secs(60) * args.minutes, &dir).await?;
    summarise(&dir)?;
    let summary: Summary = dir.read_json(SUMMARY)?;
    dir.write(CHART, &report::chart(&dir.read(SAMPLES, Sample::from_csv)?).to_string())?;
    let markdown = report::markdown(&manifest, &summary, CHART);
    dir.write(HTML, &page(&manifest.plan.title, &markdown))?;
    dir.write(MARKDOWN, &markdown)?;
    Ok(Report {
        text: format!("{}{}", report::text(&summary), dir.signpost()),
        kept: summary.kept(),
    })
}

async fn measure(plan: &Experiment, time: Duration, dir: &RunDir) -> anyhow::Result<()> {
    let balancer = Balancer::start(Setup {
        replicas: plan.replicas,
        pool: plan.pool.clone(),
        served_log: Some(absolute(dir.path(SERVED))?),
        ..Setup::default()
    })
    .await?;
    let (pid, target, admin) = (balancer.pid(), balancer.target(), balancer.admin());
    let mut site = Site::new(balancer, None, plan.replicas, plan.pool.clone()).await?;
    let content = Content::Numbered { first: 1, posts: plan.posts };
    let pace = Pace::PerSecond(plan.rate);
    let load = Arc::new(Load::new(target, plan.timeout(), content, pace, u64::MAX));
    let run = tokio::spawn(load.clone().run(plan.connections.into()));

    let mut changes = 0;
    let mut samples = Vec::new();
    let ended = tokio::select! {
        ended = churn(&mut site, plan, &mut changes) => ended,
        ended = look(pid, &admin, plan, &mut samples) => ended,
        () = sleep(time) => Ok(()),
    };
    progress::show("");
    load.stop();
    let requests = run.await.context("the load ended early")?;
    // Kept even if it ended in an error: they are what happened.
    dir.write(SAMPLES, &Sample::to_csv(&samples)?)?;
    dir.write(REQUESTS, &Request::to_csv(&requests)?)?;
    ended?;
    let row = Row {
        fault: "churn".into(),
        times: changes,
        by_force: plan.churn.iter().any(Fault::is_by_force),
        first: 1,
        account: site.account(&requests).await?,
    };
    dir.write(CHURN, &Row::to_csv(&[row])?)
}

/// Changes the fleet until something does not come well again.
async fn churn(site: &mut Site, plan: &Experiment, changes: &mut u32) -> anyhow::Result<()> {
    for fault in plan.churn.iter().cycle() {
        sleep(Duration::from_millis(plan.churn_ms)).await;
        site.let_loose(fault).await.with_context(|| format!("change {changes}: {fault:?}"))?;
        *changes += 1;
    }
    Ok(())
}

/// Looks at the balancer until it is gone.
async fn look(
    pid: i32,
    admin: &Target,
    plan: &Experiment,
    samples: &mut Vec<Sample>,
) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        samples.push(Sample::take(began.elapsed(), pid, admin).await?);
        progress::show(&format!("{} s", began.elapsed().as_secs()));
        sleep(Duration::from_millis(plan.sample_ms)).await;
    }
}

fn summarise(dir: &RunDir) -> anyhow::Result<()> {
    let Manifest { plan, .. } = dir.read_json::<Manifest<Experiment>>(MANIFEST)?;
    let churn = dir.read(CHURN, Row::from_csv)?.pop().context("churn.csv has no row")?;
    let requests = dir.read(REQUESTS, Request::from_csv)?;
    let served = Served::read(&dir.path(SERVED))?;
    let samples = dir.read(SAMPLES, Sample::from_csv)?;
    dir.write_json(SUMMARY, &Summary::of(churn, &requests, plan.posts, &served, &samples)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_with_the_program_is_valid() {
        Experiment::parse(EXPERIMENT).unwrap();
    }
}
