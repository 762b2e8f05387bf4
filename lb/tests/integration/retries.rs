//! What becomes of a request that its replica fails: by number of replicas, attempts, failure, method and version of HTTP.

use std::{
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::future::join_all;
use serde_json::Value;
use tokio::io::AsyncReadExt;

use crate::harness::{
    Balancer,
    backend::Backend,
    http,
    tls::{Authority, Http2},
    until,
};

/// How a replica fails requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failing {
    Refuses,
    /// Neither accepts nor refuses connections.
    Ignores,
    /// Resets a connection before anything was read from it.
    ResetsConnections,
    /// Resets a connection after a request was read.
    ResetsRequests,
    Closes,
    /// Takes the request and never answers.
    IsSilent,
    /// Answers with something that is no answer.
    AnswersBadly,
}

const ALL: [Failing; 7] = [
    Failing::Refuses,
    Failing::Ignores,
    Failing::ResetsConnections,
    Failing::ResetsRequests,
    Failing::Closes,
    Failing::IsSilent,
    Failing::AnswersBadly,
];

impl Failing {
    async fn befall(self, backend: &mut Backend) {
        match self {
            Self::Refuses => backend.refuse().await,
            Self::Ignores => backend.ignore().await,
            Self::ResetsConnections => backend.reset_connections().await,
            Self::ResetsRequests => backend.resets(),
            Self::Closes => backend.says(b"", true),
            // No permit is ever added.
            Self::IsSilent => drop(backend.hold()),
            Self::AnswersBadly => backend.says(b"what\r\n\r\n", true),
        }
    }

    /// Whether heartbeats are still answered, so that a request need not wait to know that its replica serves.
    fn leaves_heartbeats(self) -> bool {
        !matches!(self, Self::Refuses | Self::Ignores | Self::ResetsConnections)
    }

    /// The status, the reason and the number of attempts when all of `replicas` fail so.
    fn expected(
        self,
        is_idempotent: bool,
        replicas: usize,
        attempts_max: usize,
    ) -> (u16, &'static str, usize) {
        let attempts = replicas.min(attempts_max);
        match (self, is_idempotent) {
            // Nothing was sent, and a refusal costs nobody anything.
            (Self::Refuses, _) => (502, "connect", replicas),
            (Self::Ignores, _) => (502, "connect", attempts),
            (Self::AnswersBadly, _) => (502, "bad_answer", 1),
            (Self::IsSilent, true) => (504, "retries_exhausted", attempts),
            (Self::IsSilent, false) => (504, "not_retryable", 1),
            (_, true) => (502, "retries_exhausted", attempts),
            (_, false) => (502, "not_retryable", 1),
        }
    }
}

/// Methods, and whether they are idempotent.
const METHODS: [(&str, bool); 3] = [("GET", true), ("PUT", true), ("POST", false)];

/// A request over either version of HTTP; returns the status.
async fn send(balancer: &Balancer, http2: Option<&mut Http2>, method: &str, path: &str) -> u16 {
    let body = if method == "GET" { "" } else { "12345" };
    match http2 {
        None => http::send(balancer.proxy, method, path, &[], body).await.status,
        Some(http2) => {
            let request = ::http::Request::builder()
                .method(method)
                .uri(format!("https://localhost{path}"))
                .body(())
                .unwrap();
            let body = (!body.is_empty()).then_some(body.as_bytes());
            let answer = tokio::time::timeout(crate::harness::DEADLINE, http2.send(request, body));
            let answer = answer.await.unwrap_or_else(|_| panic!("{method} {path}: no answer"));
            answer.unwrap_or_else(|error| panic!("{method} {path}: {error:#}")).status
        }
    }
}

/// The line of the access log for `path`.
async fn logged(balancer: &Balancer, path: &str) -> Value {
    let line = async || {
        let output = balancer.output();
        let mut lines = output.lines().filter(|it| it.starts_with('{'));
        lines.find_map(|it| serde_json::from_str::<Value>(it).ok().filter(|it| it["path"] == path))
    };
    until("it is logged", line).await.unwrap_or_else(|| panic!("{path} is not logged"))
}

/// What becomes of a failed request must not depend on how its replica was chosen.
const ALGORITHMS: [&str; 5] = ["rendezvous", "ring", "maglev", "round_robin", "least_requests"];

/// A pool for each number of replicas and of attempts, all of the same replicas, and a route to each. The algorithms take
/// turns, beginning with another one for each failure.
fn pools(backends: &[Backend], failing: Failing, patience_ms: u32) -> String {
    // Only where something never comes: on a busy machine a replica that is well may take long, too.
    let is_waited_for = matches!(failing, Failing::Ignores | Failing::IsSilent);
    let timeout_ms = if is_waited_for { patience_ms } else { 30_000 };
    // Where heartbeats are answered, waiting for a replacement until the hold ends would be a fault, and show.
    let hold = if failing.leaves_heartbeats() { 600_000 } else { 300 };
    let (mut routes, mut pools) = (String::new(), String::new());
    for replicas in 1..=3 {
        let fixed: Vec<_> = backends[..replicas]
            .iter()
            .enumerate()
            .map(|(index, it)| format!("S{index}: '{}'", it.addr()))
            .collect();
        let fixed = fixed.join(", ");
        for attempts_max in 1..=3 {
            let name = format!("r{replicas}a{attempts_max}");
            let turn = failing as usize + 3 * replicas + attempts_max;
            let algorithm = ALGORITHMS[turn % ALGORITHMS.len()];
            writeln!(routes, "  - {{ path_prefix: /{name}, pool: {name} }}").unwrap();
            writeln!(
                pools,
                "  {name}: {{ provider: fixed, fixed: {{ {fixed} }}, algorithm: {algorithm}, hold: {{ timeout_ms: {hold} }},
                    heartbeat: {{ missed_max: 1000 }}, ejection: {{ connect_failures: 0 }},
                    upstream: {{ attempts_max: {attempts_max}, connect_timeout_ms: {timeout_ms},
                                 read_timeout_ms: {timeout_ms} }} }}"
            )
            .unwrap();
        }
    }
    // Ends with the pool that the harness looks after.
    let (first, fixed) = (backends[0].addr(), "provider: fixed, fixed:");
    // With one worker thread, a request that keeps it busy keeps all others from an answer.
    format!(
        "threads: 1\naccess_log: true\nroutes:\n{routes}  - {{ pool: default }}\npools:\n{pools}  default: {{ {fixed} {{ S0: '{first}' }} }}\n"
    )
}

async fn start(
    authority: &Authority,
    failing: Failing,
    patience_ms: u32,
) -> (Balancer, Vec<Backend>) {
    let mut backends = Vec::new();
    for _ in 0..3 {
        backends.push(Backend::start().await);
    }
    let config = format!("{}{}", authority.config(""), pools(&backends, failing, patience_ms));
    (Balancer::start(&config).await, backends)
}

async fn all_fail(failing: Failing) {
    let authority = Authority::new();
    let (balancer, mut backends) = start(&authority, failing, 300).await;
    for backend in &mut backends {
        failing.befall(backend).await;
    }
    for version in ["1", "2"] {
        let mut http2 = match version {
            "2" => Some(authority.http2(&balancer).await),
            _ => None,
        };
        for replicas in 1..=3 {
            for attempts_max in 1..=3 {
                for (method, is_idempotent) in METHODS {
                    let path = format!("/r{replicas}a{attempts_max}/{method}{version}");
                    let status = send(&balancer, http2.as_mut(), method, &path).await;
                    let line = logged(&balancer, &path).await;
                    let reason = line["reason"].as_str().unwrap();
                    let attempts = line["attempts"].as_u64().unwrap() as usize;
                    let expected = failing.expected(is_idempotent, replicas, attempts_max);
                    let ended = (status, reason, attempts);
                    // A reset may come before the connection is known to be one: then nothing was sent.
                    let is_reset_early = failing == Failing::ResetsConnections
                        && status == 502
                        && (expected.2..=replicas.min(attempts_max)).contains(&attempts)
                        && [expected.1, "connect"].contains(&reason);
                    assert!(
                        ended == expected || is_reset_early,
                        "{failing:?} {path}: not {expected:?}: {line}"
                    );
                }
            }
        }
    }
    balancer.stop().await;
}

/// One replica is well: the others' requests go there.
async fn one_serves(failing: Failing) {
    let authority = Authority::new();
    let (balancer, mut backends) = start(&authority, failing, 2_000).await;
    // The first is in every pool.
    for backend in &mut backends[1..] {
        failing.befall(backend).await;
    }
    let mut http2 = authority.http2(&balancer).await;
    for replicas in 1..=3 {
        for request in 0..2 {
            for http2 in [None, Some(&mut http2)] {
                let path = format!("/r{replicas}a3/{request}");
                let expected = if failing == Failing::AnswersBadly { 502 } else { 200 };
                let status = send(&balancer, http2, "GET", &path).await;
                assert!([200, expected].contains(&status), "{failing:?} {path}: {status}");
            }
        }
    }
    drop(http2);
    balancer.stop().await;
}

#[tokio::test]
async fn a_request_that_every_replica_fails_is_answered_with_the_reason() {
    // Nearly all of their time is spent waiting.
    join_all(ALL.map(all_fail)).await;
}

#[tokio::test]
async fn a_request_is_answered_while_one_replica_is_well() {
    join_all(ALL.map(one_serves)).await;
}

/// A replica that closes a kept connection just as a request is sent on it is not at fault: the request goes there again.
#[tokio::test]
async fn a_request_on_a_connection_that_was_just_closed_goes_to_the_same_replica_again() {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    for attempts_max in 1..=2 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let posts = Arc::new(AtomicUsize::new(0));
        let posted = posts.clone();
        // Answers the first request of each connection, and closes it when the second has come.
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let posted = posted.clone();
                tokio::spawn(async move {
                    let mut head = vec![0; 16 << 10];
                    for turn in 0..2 {
                        let Ok(1..) = stream.read(&mut head).await else { return };
                        posted.fetch_add(usize::from(head.starts_with(b"POST")), Ordering::Relaxed);
                        if turn == 1 {
                            return;
                        }
                        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, ANSWER).await;
                    }
                });
            }
        });
        let balancer = Balancer::start(&format!(
            "pools: {{ default: {{ provider: fixed, fixed: {{ S1: '{addr}' }},
                                   upstream: {{ attempts_max: {attempts_max} }} }} }}"
        ))
        .await;
        for request in 0..10 {
            let status = balancer.get("/").await.status;
            assert_eq!(status, 200, "request {request} with {attempts_max} attempts");
        }
        // Whether the replica has done what a lost POST asked for is unknown, so it is not sent twice.
        let mut sent = 0;
        let lost = until("a POST meets a stale connection", async || {
            sent += 1;
            let status = http::send(balancer.proxy, "POST", "/", &[], "1").await.status;
            assert!([200, 502].contains(&status), "{status}");
            (status == 502).then_some(())
        });
        assert!(lost.await.is_some());
        assert_eq!(posts.load(Ordering::Relaxed), sent);
        balancer.stop().await;
    }
}
