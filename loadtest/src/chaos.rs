//! Chaos: faults under load, one after the other. What is lost, what is served twice, how long is nobody answered?
//!
//! An open loop sends numbered requests, and replicas write down which of them they served. Each fault has a load of its
//! own, so that what a row of the report says is that fault's doing; the next one waits until all is well again.

mod account;
mod crowd;
mod fault;
mod ground;
mod meter;
mod plan;
mod report;
mod row;
mod summary;

use std::path::{PathBuf, absolute};

use tokio::task::block_in_place;

pub(crate) use self::{
    fault::{Fault, Site},
    row::Row,
    summary::Outcome,
};
use self::{
    ground::Ground,
    plan::Experiment,
    summary::{LeftOut, Summary},
};
use crate::{
    Report, description,
    engine::OwnEngine,
    manifest::Manifest,
    progress,
    report::{HTML, MARKDOWN, page},
    request::Request,
    run_dir::{MANIFEST, REQUESTS, RunDir, SUMMARY},
    served::Served,
    svg::BarChart,
};

const EXPERIMENT: &str = include_str!("../../conf/experiments/chaos.yaml");
const SHORT: &str = include_str!("../../conf/experiments/chaos-short.yaml");

const ROWS: &str = "rows.csv";
const LEFT_OUT: &str = "left-out.json";
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
    crowd::raise_descriptors()?;
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
    let mut left_out: Vec<LeftOut> = Vec::new();
    for stage in &plan.stages {
        let engine = match stage.engine.then(|| block_in_place(OwnEngine::start)).transpose() {
            Ok(engine) => engine,
            Err(error) => {
                left_out.push(LeftOut { stage: stage.name.clone(), reason: format!("{error:#}") });
                continue;
            }
        };
        let mut ground = Ground::prepare(stage, engine, &served_log).await?;
        for step in &stage.steps {
            progress::show(&format!("{}: {}", stage.name, step.name));
            let (row, requests) = ground.undergo(step, plan, next).await?;
            next += requests.len() as u32;
            // Kept one by one: what happened before an error is known.
            let own = RunDir::open(Some(dir.path(&format!("{:02}", rows.len() + 1))), "chaos")?;
            own.write(REQUESTS, &Request::to_csv(&requests)?)?;
            rows.push(row);
        }
        ground.end(&served_log)?;
    }
    progress::show("");
    dir.write_json(LEFT_OUT, &left_out)?;
    dir.write(ROWS, &Row::to_csv(&rows)?)
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
    let left_out = dir.read_json(LEFT_OUT)?;
    dir.write_json(SUMMARY, &Summary::of(rows, &requests, plan.posts, &served, left_out))
}
