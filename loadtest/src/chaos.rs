//! Chaos: faults under load, one after the other. What is lost, what is served twice, how long is nobody answered?
//!
//! An open loop sends numbered requests, and replicas write down which of them they served. Each fault has a load of its
//! own, so that what a row of the report says is that fault's doing; the next one waits until all is well again.

mod account;
mod fault;
mod meter;
mod plan;
mod report;
mod row;
mod summary;

use std::{
    path::{Path, PathBuf, absolute},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, sleep_until};

pub(crate) use self::{
    fault::{Fault, Site},
    row::Row,
    summary::Outcome,
};
use self::{
    plan::{Experiment, Stage, Step},
    summary::Summary,
};
use crate::{
    Report,
    balancer::{Balancer, Setup},
    description,
    drive::{Content, Load, Pace},
    manifest::Manifest,
    progress,
    replica::Replica,
    report::{HTML, MARKDOWN, page},
    request::Request,
    run_dir::{MANIFEST, REQUESTS, RunDir, SUMMARY},
    served::Served,
    svg::BarChart,
};

const EXPERIMENT: &str = include_str!("../../conf/experiments/chaos.yaml");
const SHORT: &str = include_str!("../../conf/experiments/chaos-short.yaml");

const ROWS: &str = "rows.csv";
const SERVED: &str = "served.log";
const GAPS: &str = "gaps.svg";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The description of the experiment [default: the one in conf/experiments]
    #[arg(long, value_name = "FILE")]
    experiment: Option<PathBuf>,

    /// Half a minute instead of minutes, for a test
    #[arg(long, conflicts_with = "experiment")]
    short: bool,

    /// Directory for the results, without those of another run [default: results/chaos-SECONDS]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Measures, summarises, draws.
pub(crate) async fn run(args: Args) -> anyhow::Result<Report> {
    let own = if args.short { SHORT } else { EXPERIMENT };
    let experiment = description::read(args.experiment.as_deref(), own, Experiment::parse)?;
    fault::raise_descriptors()?;
    let dir = RunDir::open(args.out, "chaos")?;
    let target = "balancers of our own on free ports".to_owned();
    let manifest = Manifest::new(0, target, experiment);
    dir.write_json(MANIFEST, &manifest)?;
    measure(&manifest.plan, &dir).await?;
    summarise(&dir)?;
    let summary: Summary = dir.read_json(SUMMARY)?;
    let gaps = BarChart {
        title: "Longest time without an answer".into(),
        axis: "ms".into(),
        bars: summary.rows.iter().map(|it| (it.fault.clone(), it.gap_ms())).collect(),
        mean: false,
    };
    dir.write(GAPS, &gaps.to_string())?;
    let markdown = report::markdown(&manifest, &summary, GAPS);
    dir.write(HTML, &page(&manifest.plan.title, &markdown))?;
    dir.write(MARKDOWN, &markdown)?;
    let text = format!("{}{}", report::text(&summary), dir.signpost());
    Ok(Report { text, kept: summary.kept() })
}

async fn measure(plan: &Experiment, dir: &RunDir) -> anyhow::Result<()> {
    let served_log = absolute(dir.path(SERVED))?;
    let mut rows: Vec<Row> = Vec::new();
    let mut next = 1;
    for stage in &plan.stages {
        let mut ground = Ground::prepare(stage, &served_log).await?;
        for step in &stage.steps {
            progress::show(&format!("{}: {}", stage.name, step.name));
            let (row, requests) = ground.undergo(step, plan, next).await?;
            next += requests.len() as u32;
            // Kept one by one: what happened before an error is known.
            let own = RunDir::open(Some(dir.path(&format!("{:02}", rows.len() + 1))), "chaos")?;
            own.write(REQUESTS, &Request::to_csv(&requests)?)?;
            rows.push(row);
        }
    }
    progress::show("");
    dir.write(ROWS, &Row::to_csv(&rows)?)
}

/// Where faults are let loose: a balancer, and replicas if it keeps none itself.
struct Ground {
    // Dropped in this order.
    site: Site,
    _replicas: Vec<Replica>,
    _dir: TempDir,
}

impl Ground {
    async fn prepare(stage: &Stage, served_log: &Path) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("ringmaster-loadtest-").tempdir()?;
        let mut replicas = Vec::new();
        for (delay_ms, number) in stage.own_delays_ms.iter().zip(1..) {
            let name = format!("S{number}");
            replicas.push(Replica::start(&name, *delay_ms, Some(served_log), dir.path()).await?);
        }
        let mut pool = stage.pool.clone();
        let mut count = stage.replicas;
        if !replicas.is_empty() {
            pool.extend(Replica::pool(&replicas));
            count = replicas.len() as u32;
        }
        let balancer = Balancer::start(Setup {
            replicas: count,
            pool: pool.clone(),
            descriptors: stage.descriptors,
            served_log: Some(served_log.to_owned()),
        })
        .await?;
        Ok(Self { site: Site::new(balancer, count, pool).await?, _replicas: replicas, _dir: dir })
    }

    /// Lets a fault happen under load; ids count from `first`.
    async fn undergo(
        &mut self,
        step: &Step,
        plan: &Experiment,
        first: u32,
    ) -> anyhow::Result<(Row, Vec<Request>)> {
        let content = Content::Numbered { first, posts: plan.posts };
        let target = self.site.balancer().target();
        let pace = Pace::PerSecond(plan.rate);
        let load = Arc::new(Load::new(target, plan.timeout(), content, pace, u64::MAX));
        let began = Instant::now();
        let run = tokio::spawn(load.clone().run(plan.connections.into()));
        for time in 0..step.times {
            sleep(Duration::from_millis(if time == 0 { step.at_ms } else { step.every_ms })).await;
            let told = || format!("{}, time {} of {}", step.name, time + 1, step.times);
            self.site.let_loose(&step.fault).await.with_context(told)?;
        }
        sleep_until(began + Duration::from_millis(step.for_ms)).await;
        load.stop();
        let requests = run.await.context("the load ended early")?;
        let row = Row {
            fault: step.name.clone(),
            times: step.times,
            by_force: step.fault.is_by_force(),
            first,
            account: self.site.account(&requests).await?,
        };
        Ok((row, requests))
    }
}

fn summarise(dir: &RunDir) -> anyhow::Result<()> {
    let Manifest { plan, .. } = dir.read_json::<Manifest<Experiment>>(MANIFEST)?;
    let rows = dir.read(ROWS, Row::from_csv)?;
    let requests = (1..=rows.len()).map(|number| {
        RunDir::open(Some(dir.path(&format!("{number:02}"))), "chaos")?
            .read(REQUESTS, Request::from_csv)
    });
    let requests = requests.collect::<anyhow::Result<Vec<_>>>()?;
    let served = Served::read(&dir.path(SERVED))?;
    dir.write_json(SUMMARY, &Summary::of(rows, &requests, plan.posts, &served))
}
