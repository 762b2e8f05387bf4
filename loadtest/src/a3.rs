//! every endpoint answers as the contract says, and replicas that are killed under load come back unnoticed.
//!
//! The kills are those of the failover experiment, on balancers of our own: of processes, and where an engine answers of
//! containers. How long each stage of a recovery took is what the balancer's own metrics say.

mod calls;
mod plan;
mod recovery;
mod report;
mod stages;

use std::{path::PathBuf, time::Duration};

use tokio::task::block_in_place;

use self::{
    calls::{Answer, make},
    plan::Experiment,
    recovery::{Recovery, Way},
    report::Summary,
};
use crate::{
    Report,
    balancer::{Balancer, Setup},
    client::Connection,
    description,
    engine::Guest,
    manifest::Manifest,
    report::{HTML, MARKDOWN, page},
    run_dir::{MANIFEST, RunDir, SUMMARY},
};

const EXPERIMENT: &str = include_str!("../../conf/experiments/a3.yaml");
const ANSWERS: &str = "answers.csv";
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
    let target = "balancers of our own on free ports".to_owned();
    let manifest = Manifest::new(experiment.seed, target, experiment);
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

    let mut recoveries = vec![Recovery::measure(Way::Kill9, &balancer, experiment, &dir).await?];
    drop(balancer);
    let left_out = match block_in_place(Guest::begin) {
        Ok(guest) => {
            recoveries.push(of_containers(&guest, experiment, &dir).await?);
            None
        }
        Err(error) => Some(format!("{error:#}")),
    };

    let answers = dir.read(ANSWERS, Answer::from_csv)?;
    let summary = Summary { answers, recoveries, left_out };
    dir.write_json(SUMMARY, &summary)?;
    let markdown = report::markdown(&manifest, &summary);
    dir.write(HTML, &page(&experiment.title, &markdown))?;
    dir.write(MARKDOWN, &markdown)?;
    Ok(Report {
        text: format!("{}{}", report::text(&summary), dir.signpost()),
        kept: summary.kept(),
    })
}

async fn of_containers(
    guest: &Guest,
    experiment: &Experiment,
    dir: &RunDir,
) -> anyhow::Result<Recovery> {
    let mut pool = experiment.pool.clone();
    pool.extend(guest.pool(experiment.replicas));
    let setup = Setup { replicas: experiment.replicas, pool, ..Setup::default() };
    let balancer = Balancer::start(setup).await?;
    Recovery::measure(Way::DockerKill, &balancer, experiment, dir).await
}
