//! Load of every kind at once: connections that are kept, with requests that may be sent again and such that may not,
//! connections of one request each, and an operator who looks all the time.

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

use crate::harness::{http::Connection, until};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    KeptGet,
    KeptPost,
    New,
    Operator,
}

const WORKERS: [(Kind, usize); 4] =
    [(Kind::KeptGet, 8), (Kind::KeptPost, 8), (Kind::New, 8), (Kind::Operator, 2)];

#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) sent: BTreeMap<Kind, usize>,
    /// What happened in place of an answer of a replica, or of the operator's API.
    pub(super) failures: BTreeMap<String, usize>,
}

pub(super) struct Mixed {
    stop: Arc<AtomicBool>,
    sent: Vec<Arc<AtomicUsize>>,
    workers: JoinSet<(Kind, usize, Vec<String>)>,
}

impl Mixed {
    pub(super) fn start(proxy: SocketAddr, admin: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut sent, mut workers) = (Vec::new(), JoinSet::new());
        for (kind, n) in WORKERS {
            for _ in 0..n {
                let count = Arc::new(AtomicUsize::new(0));
                sent.push(count.clone());
                let addr = if kind == Kind::Operator { admin } else { proxy };
                workers.spawn(work(kind, addr, stop.clone(), count));
            }
        }
        Self { stop, sent, workers }
    }

    /// Waits until every worker has sent so many more.
    pub(super) async fn until_each_has_sent(&self, n: usize) {
        let counts = || self.sent.iter().map(|it| it.load(Ordering::Relaxed));
        let goals: Vec<_> = counts().map(|it| it + n).collect();
        let sent = async || counts().zip(&goals).all(|(it, goal)| it >= *goal).then_some(());
        assert!(until("each sends more", sent).await.is_some());
    }

    pub(super) async fn finish(mut self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        let mut outcome = Outcome::default();
        while let Some(worker) = self.workers.join_next().await {
            let (kind, sent, failures) = worker.unwrap();
            *outcome.sent.entry(kind).or_default() += sent;
            for failure in failures {
                *outcome.failures.entry(failure).or_default() += 1;
            }
        }
        outcome
    }
}

async fn work(
    kind: Kind,
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
) -> (Kind, usize, Vec<String>) {
    let mut kept = None;
    let mut failures = Vec::new();
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        sent += 1;
        if let Err(error) = exchange(kind, addr, &mut kept).await {
            kept = None;
            // Where nobody listens, each attempt fails at once.
            sleep(Duration::from_millis(1)).await;
            failures.push(format!("{kind:?}: {error:#}"));
        }
        count.store(sent, Ordering::Relaxed);
    }
    (kind, sent, failures)
}

async fn exchange(
    kind: Kind,
    addr: SocketAddr,
    kept: &mut Option<Connection>,
) -> anyhow::Result<()> {
    let connection = match kept {
        Some(connection) => connection,
        None => kept.insert(Connection::open(addr).await?),
    };
    // The replica refuses what it is posted, in its own words: that it was asked is what counts.
    let (method, path, status, words) = match kind {
        Kind::KeptGet | Kind::New => ("GET", "/home", 200, "Hello from Server"),
        Kind::KeptPost => ("POST", "/home", 405, "answers GET and HEAD, not POST"),
        Kind::Operator => ("GET", "/readyz", 200, "\"ready\":true"),
    };
    let body = if kind == Kind::KeptPost { "1 pizza" } else { "" };
    let answer = connection.send(method, path, &[], body).await?;
    anyhow::ensure!(
        answer.status == status && answer.body.contains(words),
        "{}: {}",
        answer.status,
        answer.body
    );
    let is_kept = matches!(kind, Kind::KeptGet | Kind::KeptPost);
    if !is_kept || answer.header("connection") == "close" {
        *kept = None;
    }
    Ok(())
}
