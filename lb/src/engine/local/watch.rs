//! The engine's events as happenings, for as long as somebody listens.
//!
//! Each connection begins with the containers that have ended by then, followed by a gap: whoever listens then knows
//! of every end, of those that were removed meanwhile by comparing lists. Ends may be told twice.

use std::{
    collections::HashMap,
    pin::pin,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bollard::{
    Docker,
    models::{ContainerSummaryStateEnum, EventMessage},
    query_parameters::{EventsOptions, ListContainersOptions},
};
use futures_util::StreamExt;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tracing::{info, warn};

use super::{Local, fault::Fault, labels};
use crate::engine::{End, EngineError, Happening};

/// The waits between attempts to connect: they double from the first to the second.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Events are asked for from this long ago: what happens between the list and the stream is in both, even if the
/// engine's clock is not quite ours.
const OVERLAP: Duration = Duration::from_secs(2);

impl Local {
    /// Reports what happens, over interruptions, until nobody listens.
    pub(super) async fn keep_watching(&self, cluster: &str, happenings: &mpsc::Sender<Happening>) {
        let mut backoff = BACKOFF_MIN;
        loop {
            let began = Instant::now();
            let Err(fault) = self.watch(cluster, happenings).await else { return };
            if began.elapsed() > BACKOFF_MAX {
                backoff = BACKOFF_MIN;
            }
            let error = EngineError::from(fault);
            warn!(cluster, %error, retry_in = ?backoff, "The engine's events are not heard");
            if happenings.send(Happening::Lost(error)).await.is_err() {
                return;
            }
            sleep(backoff).await;
            backoff = BACKOFF_MAX.min(backoff * 2);
        }
    }

    /// Until the connection breaks, or nobody listens.
    async fn watch(
        &self,
        cluster: &str,
        happenings: &mpsc::Sender<Happening>,
    ) -> Result<(), Fault> {
        let docker = self.docker().await?;
        let since = SystemTime::now() - OVERLAP;
        for happening in self.ended(&docker, cluster).await? {
            if happenings.send(happening).await.is_err() {
                return Ok(());
            }
        }
        if happenings.send(Happening::Gap).await.is_err() {
            return Ok(());
        }
        let mut events = pin!(docker.events(Some(options(cluster, since))));
        while let Some(event) = events.next().await {
            let event = event.map_err(|error| Fault::new(&self.address, error))?;
            if let Some(happening) = self.translate(&docker, cluster, event).await
                && happenings.send(happening).await.is_err()
            {
                return Ok(());
            }
        }
        Err(Fault::Unreachable(format!(
            "the engine at {} has closed the stream",
            self.address.host
        )))
    }

    /// The ends of the containers that are there, but run no more.
    async fn ended(&self, docker: &Docker, cluster: &str) -> Result<Vec<Happening>, Fault> {
        let states = [ContainerSummaryStateEnum::EXITED, ContainerSummaryStateEnum::DEAD];
        let filters = [
            ("label".to_owned(), vec![labels::filter(cluster)]),
            ("status".to_owned(), states.map(|it| it.to_string()).to_vec()),
        ];
        let options = ListContainersOptions {
            all: true,
            filters: Some(filters.into()),
            ..Default::default()
        };
        let listed = self.call(docker.list_containers(Some(options))).await?;
        let mut ended = Vec::new();
        for it in listed {
            let replica = it.labels.as_ref().and_then(|it| labels::replica(cluster, it));
            if let (Some((name, incarnation)), Some(id)) = (replica, it.id) {
                let end = self.end_of(docker, &id, &HashMap::new()).await;
                ended.push(Happening::Ended { name, incarnation, id, end });
            }
        }
        Ok(ended)
    }

    async fn translate(
        &self,
        docker: &Docker,
        cluster: &str,
        event: EventMessage,
    ) -> Option<Happening> {
        let actor = event.actor?;
        let (id, attributes) = (actor.id?, actor.attributes?);
        let (name, incarnation) = labels::replica(cluster, &attributes)?;
        match event.action?.as_str() {
            "die" => {
                let end = self.end_of(docker, &id, &attributes).await;
                Some(Happening::Ended { name, incarnation, id, end })
            }
            // After "die" unless the container never ran.
            "destroy" => {
                let end = End { code: None, reason: "removed".to_owned(), log: Vec::new() };
                Some(Happening::Ended { name, incarnation, id, end })
            }
            action => {
                // Told, not acted upon: heartbeats decide about health.
                info!(replica = name, incarnation, action, "The engine tells of a container");
                None
            }
        }
    }
}

fn options(cluster: &str, since: SystemTime) -> EventsOptions {
    let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
    let filters = [
        ("type", vec!["container".to_owned()]),
        ("label", vec![labels::filter(cluster)]),
        ("event", ["die", "destroy", "health_status"].map(str::to_owned).to_vec()),
    ];
    let filters = filters.map(|(key, values)| (key.to_owned(), values));
    EventsOptions {
        since: Some(since.as_secs().to_string()),
        until: None,
        filters: Some(filters.into()),
    }
}
