//! The load: workers with one connection each, all taking their requests from one numbered
//! sequence.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hyper::Method;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{client::Connection, request::Request, request_id::request_id, target::Target};

/// When a request is due.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// As soon as a connection is free: the target decides the rate (a closed loop).
    Free,
    /// At its own time, whatever the target does (an open loop). Latency counts from that time, so
    /// waiting for a free connection and the timer's inexactness (up to 1 ms) are part of it.
    PerSecond(u32),
}

/// What is asked; always for `/home`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content {
    /// GETs with ids drawn from a seed, some of which come twice.
    Drawn { seed: u64 },
    /// Each request with an id of its own, counted from `first`.
    Numbered { first: u32, posts: Posts },
}

/// Of requests with ids of their own, the multiples of this are POSTs; so the id alone tells the method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Posts(NonZeroU32);

impl Posts {
    pub(crate) fn has(self, id: u32) -> bool {
        id.is_multiple_of(self.0.get())
    }
}

impl Content {
    fn request(self, index: u64) -> (Method, u32) {
        match self {
            Self::Drawn { seed } => (Method::GET, request_id(seed, index)),
            Self::Numbered { first, posts } => {
                let id = u32::try_from(index).ok().and_then(|it| first.checked_add(it));
                let id = id.expect("no experiment sends four billion requests");
                (if posts.has(id) { Method::POST } else { Method::GET }, id)
            }
        }
    }
}

/// A load that runs, or is about to.
pub(crate) struct Load {
    target: Target,
    timeout: Duration,
    content: Content,
    pace: Pace,
    origin: Instant,
    /// The next index. Whoever waits for that request's time holds it, so at most one worker
    /// sleeps.
    next: Mutex<u64>,
    /// No request with this index or above is sent.
    end: AtomicU64,
}

impl Load {
    /// A load of `requests` requests; its clock starts here.
    pub(crate) fn new(
        target: Target,
        timeout: Duration,
        content: Content,
        pace: Pace,
        requests: u64,
    ) -> Self {
        Self {
            target,
            timeout,
            content,
            pace,
            origin: Instant::now(),
            next: Mutex::new(0),
            end: AtomicU64::new(requests),
        }
    }

    /// Sends everything over `connections` connections; returns every request in order of its
    /// index.
    pub(crate) async fn run(self: Arc<Self>, connections: usize) -> Vec<Request> {
        let workers: JoinSet<_> = (0..connections).map(|_| self.clone().work()).collect();
        let mut requests = workers.join_all().await.concat();
        requests.sort_unstable_by_key(|request| request.index);
        requests
    }

    /// Sends no more; requests that are under way are still waited for.
    pub(crate) fn stop(&self) {
        self.end.store(0, Ordering::Relaxed);
    }

    /// How many requests have been sent.
    pub(crate) async fn sent(&self) -> u64 {
        *self.next.lock().await
    }

    /// Microseconds since the load's clock started.
    pub(crate) fn clock_us(&self) -> u64 {
        self.micros(Instant::now())
    }

    async fn work(self: Arc<Self>) -> Vec<Request> {
        let mut connection = Connection::new(self.target.clone(), self.timeout);
        let mut requests = Vec::new();
        while let Some((index, due)) = self.take().await {
            let (method, id) = self.content.request(index);
            let outcome = connection.home(method, id).await;
            let latency_us = self.micros(Instant::now()) - self.micros(due);
            requests.push(Request { index, id, start_us: self.micros(due), latency_us, outcome });
        }
        requests
    }

    /// The next request, once it is due; `None` when there are no more.
    async fn take(&self) -> Option<(u64, Instant)> {
        let mut next = self.next.lock().await;
        let index = *next;
        let due = match self.pace {
            Pace::Free => Instant::now(),
            Pace::PerSecond(rate) => {
                let due =
                    self.origin + Duration::from_nanos(index * 1_000_000_000 / u64::from(rate));
                sleep_until(due).await;
                due
            }
        };
        // Asked only after the sleep, during which the load may have been stopped.
        (index < self.end.load(Ordering::Relaxed)).then(|| {
            *next += 1;
            (index, due)
        })
    }

    fn micros(&self, time: Instant) -> u64 {
        let since = time.saturating_duration_since(self.origin).as_micros();
        u64::try_from(since).expect("64 bits of microseconds last 500,000 years")
    }
}

#[cfg(test)]
mod tests {
    use ringmaster_server::{Behaviour, Replica, run};
    use tokio::net::TcpListener;

    use super::*;

    const CONTENT: Content = Content::Drawn { seed: 1 };
    const DELAY: Duration = Duration::from_millis(50);

    /// The address of a replica that takes [`DELAY`] for every request.
    async fn slow_replica() -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("http://{}", listener.local_addr().unwrap());
        let behaviour = Behaviour { delay: DELAY, ..Behaviour::default() };
        let replica = Replica { behaviour, ..Replica::new("S1") };
        tokio::spawn(run(listener, replica, std::future::pending()));
        target.parse().unwrap()
    }

    #[test]
    fn numbers_go_on_and_tell_the_method() {
        let posts = Posts(NonZeroU32::new(3).unwrap());
        let content = Content::Numbered { first: 5, posts };
        let sent: Vec<_> = (0..5).map(|index| content.request(index)).collect();
        let (get, post) = (Method::GET, Method::POST);
        assert_eq!(
            sent,
            [(get.clone(), 5), (post.clone(), 6), (get.clone(), 7), (get, 8), (post, 9)]
        );
    }

    #[tokio::test]
    async fn an_open_loop_counts_the_wait_for_a_connection() {
        let timeout = Duration::from_secs(10);
        let load = Load::new(slow_replica().await, timeout, CONTENT, Pace::PerSecond(100), 5);
        let requests = Arc::new(load).run(1).await;
        assert_eq!(requests.len(), 5);
        for (index, request) in (0..).zip(requests) {
            assert_eq!((request.index, request.start_us), (index, 10_000 * index));
            // All those before it went over the same connection.
            let least_us = 50_000 * (index + 1) - request.start_us;
            assert!(request.latency_us >= least_us, "{request:?} took less than {least_us}");
        }
    }

    #[tokio::test]
    async fn a_closed_loop_waits_for_the_target() {
        let timeout = Duration::from_secs(10);
        let requests =
            Arc::new(Load::new(slow_replica().await, timeout, CONTENT, Pace::Free, 3)).run(1).await;
        for pair in requests.windows(2) {
            assert!(pair[1].start_us >= pair[0].end_us(), "{pair:?}");
        }
    }

    #[tokio::test]
    async fn a_stopped_load_ends_with_every_request_accounted_for() {
        let timeout = Duration::from_secs(10);
        let load = Arc::new(Load::new(
            slow_replica().await,
            timeout,
            CONTENT,
            Pace::PerSecond(1_000),
            u64::MAX,
        ));
        let run = tokio::spawn(load.clone().run(8));
        while load.sent().await < 20 {
            tokio::task::yield_now().await;
        }
        load.stop();
        let requests = run.await.unwrap();
        assert!(requests.iter().all(|request| request.outcome.is_ok()), "{requests:?}");
        assert_eq!(requests.len() as u64, load.sent().await);
    }
}
