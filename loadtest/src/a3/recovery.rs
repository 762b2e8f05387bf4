//! Replicas killed under load, in one way, and what came of it.

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::{plan::Experiment, stages::Stage};
use crate::{balancer::Balancer, client::Connection, failover, run_dir::RunDir};

const STAGES: &str = "stages.csv";

/// How replicas are killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    Kill9,
    DockerKill,
}

/// What came of all kills of one way.
#[derive(Serialize, Deserialize)]
pub(super) struct Recovery {
    pub(super) way: Way,
    pub(super) stages: Vec<Stage>,
    /// The failover experiment's own words.
    pub(super) failover: String,
    pub(super) unnoticed: bool,
}

impl Way {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kill9 => "kill -9",
            Self::DockerKill => "docker kill",
        }
    }

    /// A part of the run's directory.
    fn folder(self) -> &'static str {
        match self {
            Self::Kill9 => "failover",
            Self::DockerKill => "failover-docker",
        }
    }
}

impl Recovery {
    /// Kills replicas of `balancer`, one at a time.
    pub(super) async fn measure(
        way: Way,
        balancer: &Balancer,
        experiment: &Experiment,
        dir: &RunDir,
    ) -> anyhow::Result<Self> {
        let own = RunDir::open(Some(dir.path(way.folder())), "a3")?;
        let docker = way == Way::DockerKill;
        let kills =
            failover::Args::on(balancer, docker, experiment.load(way), dir.path(way.folder()));
        let failover = failover::run(kills).await?;
        let metrics = Connection::new(balancer.admin(), super::TIMEOUT)
            .get("/metrics")
            .await
            .context("asking the balancer for /metrics")?;
        own.write(STAGES, &Stage::to_csv(&Stage::all(&String::from_utf8_lossy(&metrics)))?)?;
        let stages = own.read(STAGES, Stage::from_csv)?;
        Ok(Self { way, stages, failover: failover.text, unnoticed: failover.kept })
    }
}
