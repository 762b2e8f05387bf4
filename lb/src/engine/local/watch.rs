//! The engine's events as happenings, for as long as somebody listens.
//!
//! Each connection begins with the containers that have ended by then, followed by a gap: whoever listens then knows
//! of every end, of those that were removed meanwhile by comparing lists. Ends may be told twice.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bollard::{
    Docker,
    models::{ContainerSummaryStateEnum, EventMessage},
    query_parameters::EventsOptions,
};
use futures_util::{StreamExt, stream::FuturesUnordered};
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

/// Ends whose details are asked for at a time; the engine keeps further ones.
const ENDS_MAX: usize = 16;

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
        // The engine is asked for the details of one end while it tells of the next ones: under load each takes a while.
        let mut ends = FuturesUnordered::new();
        let mut ending = HashSet::new();
        loop {
            tokio::select! {
                Some(happening) = ends.next() => {
                    if let Happening::Ended { id, .. } = &happening {
                        ending.remove(id);
                    }
                    if happenings.send(happening).await.is_err() {
                        return Ok(());
                    }
                }
                event = events.next(), if ends.len() < ENDS_MAX => match event {
                    Some(Ok(event)) => {
                        let Some(news) = translate(cluster, event) else { continue };
                        // Of its removal there is nothing to tell but that it ended, which is being found out.
                        if ending.insert(news.id.clone()) {
                            ends.push(self.happening(&docker, news));
                        }
                    }
                    Some(Err(error)) => return Err(Fault::new(&self.address, error)),
                    None => {
                        return Err(Fault::Unreachable(format!(
                            "the engine at {} has closed the stream",
                            self.address.host
                        )));
                    }
                },
            }
        }
    }

    /// The ends of the containers that are there, but run no more.
    async fn ended(&self, docker: &Docker, cluster: &str) -> Result<Vec<Happening>, Fault> {
        let states = [ContainerSummaryStateEnum::EXITED, ContainerSummaryStateEnum::DEAD];
        let filters = [
            ("label", vec![labels::filter(cluster)]),
            ("status", states.map(|it| it.to_string()).to_vec()),
        ];
        let listed = self.list(docker, filters).await?;
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

    async fn happening(&self, docker: &Docker, news: News) -> Happening {
        let News { name, incarnation, id, attributes } = news;
        let end = match attributes {
            Some(attributes) => self.end_of(docker, &id, &attributes).await,
            None => {
                let reason = "removed".to_owned();
                End { code: None, reason, log: Vec::new(), by_itself: false }
            }
        };
        Happening::Ended { name, incarnation, id, end }
    }
}

/// A container of the cluster has ended.
struct News {
    name: String,
    incarnation: u64,
    id: String,
    /// Of the event; `None` for a removal, which follows an end unless the container never ran.
    attributes: Option<HashMap<String, String>>,
}

fn translate(cluster: &str, event: EventMessage) -> Option<News> {
    let actor = event.actor?;
    let (id, attributes) = (actor.id?, actor.attributes?);
    let (name, incarnation) = labels::replica(cluster, &attributes)?;
    let attributes = match event.action?.as_str() {
        "die" => Some(attributes),
        "destroy" => None,
        action => {
            // Told, not acted upon: heartbeats decide about health.
            info!(replica = name, incarnation, action, "The engine tells of a container");
            return None;
        }
    };
    Some(News { name, incarnation, id, attributes })
}

fn options(cluster: &str, since: SystemTime) -> EventsOptions {
    let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
    let filters = [
        ("type", vec!["container".to_owned()]),
        ("label", vec![labels::filter(cluster)]),
        ("event", ["die", "destroy", "health_status", "rename"].map(str::to_owned).to_vec()),
    ];
    let filters = filters.map(|(key, values)| (key.to_owned(), values));
    EventsOptions {
        since: Some(since.as_secs().to_string()),
        until: None,
        filters: Some(filters.into()),
    }
}
