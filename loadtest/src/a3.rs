//! every endpoint answers as the contract says, and replicas that are killed under load come back unnoticed.
//!
//! The kills are those of the failover experiment, on a balancer of our own; how long each stage of a recovery took is
//! what the balancer's own metrics say.

mod calls;
mod plan;
mod report;
mod stages;

use std::{path::PathBuf, time::Duration};

use self::{
    calls::{Answer, make},
    plan::Experiment,
    report::Summary,
    stages::Stage,
};
use crate::{
    Report,
    balancer::{Balancer, Setup},
    client::Connection,
    description, failover,
    manifest::Manifest,
    report::{HTML, MARKDOWN, page},
    run_dir::{MANIFEST, RunDir, SUMMARY},
};

const EXPERIMENT: &str = include_str!("../../conf/experiments/a3.yaml");
const ANSWERS: &str = "answers.csv";
const STAGES: &str = "stages.csv";
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The description of the experiment [default: the one in conf/experiments]
    #[arg(long, value_name = "FILE")]
    experiment: Option<PathBuf>,

    /// Directory for the results, without those of another run [default: results/a3-SECONDS]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// Measures, summarises, draws.
pub(crate) async fn run(args: Args) -> anyhow::Result<Report> {
    let experiment = description::read(args.experiment.as_deref(), EXPERIMENT, Experiment::parse)?;
    let dir = RunDir::open(args.out, "a3")?;
    let manifest = Manifest::new(
        experiment.seed,
        "a balancer of our own on free ports".to_owned(),
        experiment,
    );
    dir.write_json(MANIFEST, &manifest)?;
    let experiment = &manifest.plan;

    let balancer = Balancer::start(Setup {
        replicas: experiment.replicas,
        pool: experiment.pool.clone(),
        ..Setup::default()
    })
    .await?;
    let mut connection = Connection::new(balancer.target(), TIMEOUT);
    let mut answers = Vec::new();
    for call in &experiment.calls {
        answers.push(make(call, &mut connection).await);
    }
    dir.write(ANSWERS, &Answer::to_csv(&answers)?)?;
    balancer.scale_to(experiment.replicas).await?;

    let kills = failover::Args::on(
        balancer.target(),
        balancer.admin(),
        experiment.load(),
        dir.path("failover"),
    );
    let failover = failover::run(kills).await?;
    let metrics = Connection::new(balancer.admin(), TIMEOUT).get("/metrics").await?;
    dir.write(STAGES, &Stage::to_csv(&Stage::all(&String::from_utf8_lossy(&metrics)))?)?;
    drop(balancer);

    let summary = Summary {
        answers: dir.read(ANSWERS, Answer::from_csv)?,
        stages: dir.read(STAGES, Stage::from_csv)?,
        failover: failover.text,
        unnoticed: failover.kept,
    };
    dir.write_json(SUMMARY, &summary)?;
    let markdown = report::markdown(&manifest, &summary);
    dir.write(HTML, &page(&experiment.title, &markdown))?;
    dir.write(MARKDOWN, &markdown)?;
    Ok(Report {
        text: format!("{}{}", report::text(&summary), dir.signpost()),
        kept: summary.kept(),
    })
}
