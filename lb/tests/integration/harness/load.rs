//! Load: many connections that send one request after the other, and what came of each.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{task::JoinSet, time::sleep};

use super::http::Connection;

/// What a load has come to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) sent: usize,
    /// Requests that were not answered with 200, by what happened instead.
    pub(crate) failures: BTreeMap<String, usize>,
    /// Answers by replica.
    pub(crate) served: BTreeMap<String, usize>,
}

/// A load that runs until it is stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    workers: JoinSet<Outcome>,
}

impl Load {
    /// Begins to send `GET /home` over `connections` connections.
    pub(crate) fn start(proxy: SocketAddr, connections: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicUsize::new(0));
        let mut workers = JoinSet::new();
        for worker in 0..connections {
            workers.spawn(work(proxy, worker, stop.clone(), sent.clone()));
        }
        Self { stop, sent, workers }
    }

    pub(crate) fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits until at least `count` requests were sent in all.
    pub(crate) async fn until_sent(&self, count: usize) {
        let sent = super::until("enough requests", async || (self.sent() >= count).then_some(()));
        assert!(sent.await.is_some(), "only {} of {count} requests were sent", self.sent());
    }

    /// Stops it and adds up.
    pub(crate) async fn finish(mut self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        let mut sum = Outcome::default();
        while let Some(outcome) = self.workers.join_next().await {
            let outcome = outcome.unwrap();
            sum.sent += outcome.sent;
            for (reason, count) in outcome.failures {
                *sum.failures.entry(reason).or_default() += count;
            }
            for (replica, count) in outcome.served {
                *sum.served.entry(replica).or_default() += count;
            }
        }
        sum
    }
}

async fn work(
    proxy: SocketAddr,
    worker: usize,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut connection = None;
    while !stop.load(Ordering::Relaxed) {
        let id = (100_000 + worker * 1_000_003 + outcome.sent * 7_919) % 1_000_000;
        let answer = exchange(proxy, &mut connection, &id.to_string()).await;
        outcome.sent += 1;
        sent.fetch_add(1, Ordering::Relaxed);
        match answer {
            Ok(replica) => *outcome.served.entry(replica).or_default() += 1,
            Err(error) => {
                connection = None;
                // Where nobody listens, each attempt fails at once.
                sleep(Duration::from_millis(1)).await;
                *outcome.failures.entry(format!("{error:#}")).or_default() += 1;
            }
        }
    }
    outcome
}

async fn exchange(
    proxy: SocketAddr,
    kept: &mut Option<Connection>,
    id: &str,
) -> anyhow::Result<String> {
    let connection = match kept {
        Some(connection) => connection,
        None => kept.insert(Connection::open(proxy).await?),
    };
    let answer = connection.send("GET", "/home", &[("x-request-id", id)], "").await?;
    anyhow::ensure!(answer.status == 200, "{}: {}", answer.status, answer.body);
    let replica = answer.json()["id"].as_str().unwrap_or_default().to_owned();
    if answer.header("connection") == "close" {
        *kept = None;
    }
    Ok(replica)
}
