//! the same requests again and again while the number of replicas goes up and down, for each of several
//! ways to choose a replica. How even is the load, what does a change move, how fast is it?
//!
//! The mean alone says nothing, it is requests divided by replicas by construction; what tells is how far the replicas
//! are from it.

mod plan;
mod report;
mod skew;
mod tables;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;

use self::{
    plan::{Experiment, Variant},
    skew::Skew,
    tables::{Change, Step},
};
use crate::{
    Report,
    a1::summary::Summary as Run,
    balancer::{Balancer, Setup},
    description,
    drive::{Content, Load, Pace},
    manifest::Manifest,
    progress,
    report::{HTML, MARKDOWN, page},
    request::Request,
    run_dir::{MANIFEST, RunDir, SUMMARY},
};

const STEPS: &str = "steps.csv";
const CHANGES: &str = "changes.csv";
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The description of the experiment [default: the one in conf/experiments]
    #[arg(long, value_name = "FILE")]
    experiment: Option<PathBuf>,

    /// Write every request with the replica that served it: a table for each step
    #[arg(long)]
    log: bool,

    /// Directory for the results, without those of another run [default: results/NAME-SECONDS]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// An experiment of this kind, as it comes with the program.
pub(crate) struct Kind {
    name: &'static str,
    experiment: &'static str,
    /// Whether the classic hash functions are explained.
    skew: bool,
}

pub(crate) const A2: Kind =
    Kind { name: "a2", experiment: include_str!("../../conf/experiments/a2.yaml"), skew: false };
pub(crate) const A4: Kind =
    Kind { name: "a4", experiment: include_str!("../../conf/experiments/a4.yaml"), skew: true };

/// Measures, summarises, draws.
pub(crate) async fn run(args: Args, kind: &Kind) -> anyhow::Result<Report> {
    let experiment =
        description::read(args.experiment.as_deref(), kind.experiment, Experiment::parse)?;
    let dir = RunDir::open(args.out.clone(), kind.name)?;
    measure(experiment, args.log, &dir).await?;
    let steps = dir.read(STEPS, Step::from_csv)?;
    let changes = dir.read(CHANGES, Change::from_csv)?;
    let skew = if kind.skew { Skew::of_all()? } else { Vec::new() };
    dir.write_json(SUMMARY, &report::Summary { steps, changes, skew })?;
    draw(&dir)?;
    let summary: report::Summary = dir.read_json(SUMMARY)?;
    let missing: u64 = summary.steps.iter().map(|it| it.missing).sum();
    Ok(Report { text: format!("{}{}", report::text(&summary), dir.signpost()), kept: missing == 0 })
}

async fn measure(experiment: Experiment, log: bool, dir: &RunDir) -> anyhow::Result<()> {
    let seed = experiment.seed;
    let target = "balancers of our own on free ports".to_owned();
    let manifest = Manifest::new(seed, target, experiment);
    dir.write_json(MANIFEST, &manifest)?;
    let experiment = &manifest.plan;
    let (mut steps, mut changes) = (Vec::new(), Vec::new());
    for variant in &experiment.variants {
        measure_variant(experiment, variant, log, dir, &mut steps, &mut changes)
            .await
            .with_context(|| format!("variant {}", variant.name))?;
    }
    progress::show("");
    dir.write(STEPS, &Step::to_csv(&steps)?)?;
    dir.write(CHANGES, &Change::to_csv(&changes)?)
}

async fn measure_variant(
    experiment: &Experiment,
    variant: &Variant,
    log: bool,
    dir: &RunDir,
    steps: &mut Vec<Step>,
    changes: &mut Vec<Change>,
) -> anyhow::Result<()> {
    let balancer = Balancer::start(Setup {
        replicas: experiment.replicas[0],
        pool: variant.pool.clone(),
        ..Setup::default()
    })
    .await?;
    for (number, &replicas) in experiment.replicas.iter().enumerate() {
        progress::show(&format!(
            "{}: step {} of {}",
            variant.name,
            number + 1,
            experiment.replicas.len()
        ));
        balancer.scale_to(replicas).await?;
        let names = balancer.names().await?;
        let load = Load::new(
            balancer.target(),
            TIMEOUT,
            Content::Drawn { seed: experiment.seed },
            Pace::Free,
            experiment.requests,
        );
        let requests = Arc::new(load).run(experiment.connections.into()).await;
        if log {
            dir.write(
                &format!("requests-{}-{number}.csv", variant.name),
                &Request::to_csv(&requests)?,
            )?;
        }
        let run = Run::of(experiment.requests, &names, &requests);
        steps.push(Step::of(&variant.name, number, replicas, &run));
        if replicas == experiment.change_at && changes.iter().all(|it| it.variant != variant.name) {
            for change in ["add=1", "remove="] {
                let leaver =
                    if change == "remove=" { names.first().map_or("", String::as_str) } else { "" };
                let plan =
                    balancer.ask(&format!("/api/v1/pools/default/plan?{change}{leaver}")).await?;
                changes.push(Change::of(&variant.name, change.trim_end_matches('='), &plan)?);
            }
        }
    }
    Ok(())
}

fn draw(dir: &RunDir) -> anyhow::Result<()> {
    let manifest: Manifest<Experiment> = dir.read_json(MANIFEST)?;
    let summary: report::Summary = dir.read_json(SUMMARY)?;
    for (file, chart) in report::charts(&manifest.plan, &summary) {
        dir.write(file, &chart.to_string())?;
    }
    let markdown = report::markdown(&manifest, &summary);
    dir.write(HTML, &page(&manifest.plan.title, &markdown))?;
    dir.write(MARKDOWN, &markdown)
}
