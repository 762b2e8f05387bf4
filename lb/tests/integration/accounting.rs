//! Every request ends in exactly one way: what clients count is what the balancer counts and logs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{
    Balancer, backend::Backend, healing_pool, http, kill_9, load::Load, pool_sizes, server_names,
    until,
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
