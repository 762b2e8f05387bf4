//! Every request ends in exactly one way: what clients count is what the balancer counts and logs.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::harness::{
    Balancer, backend::Backend, healing_pool, http, kill_9, load::Load, pool_sizes, server_names,
    tls::Authority, until,
};

/// All that ended, by outcome and reason.
async fn ended(balancer: &Balancer) -> BTreeMap<String, u64> {
    let metrics = http::get(balancer.admin, "/metrics").await.body;
    let ended = metrics.lines().filter_map(|line| {
        let line = line.strip_prefix("ringmaster_requests_ended_total{outcome=\"")?;
        let (labels, count) = line.split_once("\"} ")?;
        let count: u64 = count.parse().ok()?;
        (count > 0).then(|| (labels.replace("\",reason=\"", " "), count))
    });
    ended.collect()
}

/// The lines of the access log, by outcome and reason.
fn logged(balancer: &Balancer) -> BTreeMap<String, u64> {
    let mut logged = BTreeMap::new();
    for line in balancer.output().lines().filter(|line| line.starts_with('{')) {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|it| panic!("{it} in {line}"));
        let text = |key: &str| line[key].as_str().unwrap_or_else(|| panic!("{key} in {line}"));
        *logged.entry(format!("{} {}", text("outcome"), text("reason"))).or_default() += 1;
    }
    logged
}

async fn until_accounted(balancer: &Balancer, due: &BTreeMap<String, u64>) {
    let both = async || (ended(balancer).await == *due && logged(balancer) == *due).then_some(());
    let accounted = until("all is accounted for", both).await;
    assert!(
        accounted.is_some(),
        "{due:#?} are due, {:#?} are counted, {:#?} are logged",
        ended(balancer).await,
        logged(balancer)
    );
}

#[tokio::test]
async fn each_way_to_end_is_counted_once_and_logged_once() {
    for size in pool_sizes() {
        let backend = Backend::with_replicas(size).await;
        let config = "
            access_log: true
            client: { body_bytes_max: 100 }
            routes: [{ host: a, pool: default }]
            ";
        let balancer =
            Balancer::start(&format!("{config}\n            {}", backend.pool(""))).await;
        let mut due = BTreeMap::new();
        let error = b"HTTP/1.1 500 Broken\r\nContent-Length: 2\r\n\r\nno";
        let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nno";
        for (times, ending, answer, request) in [
            (
                7,
                "ok answered",
                crate::harness::backend::OK,
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            ),
            (
                5,
                "upstream_error answered",
                &error[..],
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            ),
            (
                2,
                "failed not_retryable",
                b"",
                "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            ),
            (
                2,
                "failed bad_answer",
                b"what\r\n\r\n",
                "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            ),
            (
                3,
                "failed broken_answer",
                cut,
                "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            ),
            (2, "ok operator", b"", "GET /rep HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n"),
            (3, "rejected bad_head", b"", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
            (
                2,
                "rejected bad_body",
                b"",
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx",
            ),
            (
                2,
                "rejected body_too_large",
                b"",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n",
            ),
            (
                2,
                "rejected loop",
                b"",
                "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 ringmaster, 1.1 ringmaster, 1.1 ringmaster, 1.1 ringmaster, \
                 1.1 ringmaster, 1.1 ringmaster\r\n\r\n",
            ),
            (2, "rejected no_route", b"", "GET / HTTP/1.1\r\nHost: b\r\n\r\n"),
        ] {
            // A whole answer keeps its connection: one that ends right behind it may be taken for the next request.
            let is_whole = answer.ends_with(b"ok") || answer == error;
            backend.says(answer, !is_whole);
            for _ in 0..times {
                http::raw(balancer.proxy, &[request.as_bytes()], Duration::ZERO).await;
            }
            due.insert(ending.to_owned(), times);
            until_accounted(&balancer, &due).await;
        }
        balancer.stop().await;
    }
}

#[tokio::test]
async fn sums_are_right_while_replicas_die() {
    for size in pool_sizes() {
        let balancer = Balancer::start(&healing_pool(size)).await;
        let load = Load::start(balancer.proxy, 16);
        for name in server_names(size) {
            load.until_sent(load.sent() + 500).await;
            let victim = balancer.replica(&name).await.unwrap();
            kill_9(&victim);
            balancer.until_serving(&name, victim["incarnation"].as_u64().unwrap()).await;
        }
        let outcome = load.finish().await;
        assert_eq!(outcome.failures, BTreeMap::new(), "of {} requests", outcome.sent);
        let due = BTreeMap::from([("ok answered".to_owned(), outcome.sent as u64)]);
        let counted = async || (ended(&balancer).await == due).then_some(());
        assert!(until("the sums agree", counted).await.is_some(), "{:?}", ended(&balancer).await);
        balancer.stop().await;
    }
}

#[tokio::test]
async fn sums_are_right_while_replicas_die_over_http2() {
    const WORKERS: usize = 16;
    const PER_TURN: u64 = 200;
    let authority = Authority::new();
    for size in pool_sizes() {
        let limits = "client: { requests_per_connection_max: 1000000 }\n";
        let config = format!("{limits}{}{}", authority.config(""), healing_pool(size));
        let balancer = Balancer::start(&config).await;
        let http2 = authority.http2(&balancer).await;
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            let (mut http2, stop, answered) = (http2.clone(), stop.clone(), answered.clone());
            workers.spawn(async move {
                while !stop.load(Ordering::Acquire) {
                    let answer = http2.get("/home").await.unwrap();
                    assert_eq!(answer.status, 200, "{}", answer.body);
                    answered.fetch_add(1, Ordering::AcqRel);
                }
            });
        }
        let until_more = async || {
            let goal = answered.load(Ordering::Acquire) + PER_TURN;
            let more = async || (answered.load(Ordering::Acquire) >= goal).then_some(());
            assert!(until("more is answered", more).await.is_some());
        };
        for name in server_names(size) {
            until_more().await;
            let victim = balancer.replica(&name).await.unwrap();
            kill_9(&victim);
            balancer.until_serving(&name, victim["incarnation"].as_u64().unwrap()).await;
        }
        until_more().await;
        stop.store(true, Ordering::Release);
        workers.join_all().await;
        let due = BTreeMap::from([("ok answered".to_owned(), answered.load(Ordering::Acquire))]);
        let counted = async || (ended(&balancer).await == due).then_some(());
        assert!(until("the sums agree", counted).await.is_some(), "{:?}", ended(&balancer).await);
        balancer.stop().await;
    }
}

/// The client must not take a part of the answer for the whole.
#[tokio::test]
async fn an_answer_that_breaks_off_is_reset_over_http2_and_counted_as_broken() {
    let authority = Authority::new();
    for size in pool_sizes() {
        let backend = Backend::with_replicas(size).await;
        let config = format!("access_log: true\n{}{}", authority.config(""), backend.pool(""));
        let balancer = Balancer::start(&config).await;
        backend.says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart", true);
        let mut http2 = authority.http2(&balancer).await;
        for _ in 0..5 {
            http2.get("/").await.unwrap_err();
        }
        until_accounted(&balancer, &BTreeMap::from([("failed broken_answer".to_owned(), 5)])).await;
        backend.says(crate::harness::backend::OK, false);
        assert_eq!(http2.get("/").await.unwrap().status, 200, "the connection goes on");
        balancer.stop().await;
    }
}
