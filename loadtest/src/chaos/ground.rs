//! Where faults are let loose: a balancer, what it speaks to, and the load.

use std::{fs::File, io::Write, path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use tempfile::TempDir;
use tokio::{
    task::block_in_place,
    time::{Instant, sleep, sleep_until},
};

use super::{
    fault::Site,
    plan::{Experiment, Stage, Step},
    row::Row,
};
use crate::{
    balancer::{Balancer, Setup},
    drive::{Content, Load, Pace},
    engine::OwnEngine,
    replica::Replica,
    request::Request,
};

/// The image and the network of containers, on an engine that has no others.
const CONTAINERS: &str = "ringmaster-chaos";

/// A balancer, and replicas if it keeps none itself.
pub(super) struct Ground {
    // Dropped in this order.
    site: Site,
    _replicas: Vec<Replica>,
    _dir: TempDir,
}

impl Ground {
    /// `engine` is there if the stage needs one.
    pub(super) async fn prepare(
        stage: &Stage,
        engine: Option<OwnEngine>,
        served_log: &Path,
    ) -> anyhow::Result<Self> {
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
        if let Some(engine) = &engine {
            block_in_place(|| engine.docker().import_replica(CONTAINERS))?;
            pool.extend(engine.docker().pool(CONTAINERS, CONTAINERS));
        }
        let balancer = Balancer::start(Setup {
            replicas: count,
            pool: pool.clone(),
            descriptors: stage.descriptors,
            served_log: Some(served_log.to_owned()),
        })
        .await?;
        let site = Site::new(balancer, engine, count, pool).await?;
        Ok(Self { site, _replicas: replicas, _dir: dir })
    }

    /// Lets a fault happen under load; ids count from `first`.
    pub(super) async fn undergo(
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

    /// Ends all of it. What its replicas have written down elsewhere goes to `served_log`.
    pub(super) fn end(self, served_log: &Path) -> anyhow::Result<()> {
        let served = self.site.served()?;
        let mut file = File::options().create(true).append(true).open(served_log)?;
        file.write_all(served.as_bytes()).context("writing down what was served")
    }
}
