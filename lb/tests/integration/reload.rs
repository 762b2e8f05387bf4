//! Another configuration while requests are served: put in place as a whole, or not at all.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Balancer, Replica, http, load::Load, pool_sizes, ringmaster, until};

const CONNECTIONS: usize = 32;

async fn reload(balancer: &Balancer, query: &str) -> http::Answer {
    http::send(balancer.admin, "POST", &format!("/api/v1/reload{query}"), &[], "").await
}

/// The names of a pool's replicas, those that leave included.
async fn names(balancer: &Balancer, pool: &str) -> Option<Vec<String>> {
    let view = balancer.admin(&format!("/api/v1/pools/{pool}/replicas")).await;
    let replicas = view["replicas"].as_array()?;
    Some(replicas.iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect())
}

async fn until_names(balancer: &Balancer, pool: &str, expected: &[&str]) {
    let they_are = async || (names(balancer, pool).await? == expected).then_some(());
    assert!(until("the names", they_are).await.is_some(), "{:?}", names(balancer, pool).await);
}

/// A pool of that many replicas, with `more` about it.
fn pool(size: usize, more: &str) -> String {
    format!("pools: {{ default: {{ replicas: {size}, {more} }} }}")
}

#[tokio::test]
async fn settings_change_under_load_and_nobody_notices() {
    for size in pool_sizes() {
        let balancer = Balancer::start(&pool(size, "")).await;
        let before = balancer.replicas().await;
        let load = Load::start(balancer.proxy, CONNECTIONS);
        load.until_sent(500).await;
        for (yaml, more, key, value) in [
            ("explain_header: true\n", "", "/explain_header", json!(true)),
            (
                "",
                "algorithm: ring, key: path, upstream: { idle_timeout_ms: 1000 }",
                "/pools/default/algorithm",
                json!("ring"),
            ),
            ("", "algorithm: least_requests", "/pools/default/key", json!("request_id")),
            (
                "",
                "heartbeat: { interval_ms: 100, timeout_ms: 90 }, hold: { requests_max: 7 }",
                "/pools/default/hold/requests_max",
                json!(7),
            ),
            ("", "", "/pools/default/algorithm", json!("rendezvous")),
        ] {
            let yaml = format!("{yaml}{}", pool(size, more));
            balancer.rewrite_config(&yaml);
            let answer = reload(&balancer, "").await;
            assert_eq!(answer.status, 200, "{yaml}: {}", answer.body);
            assert_eq!(answer.json()["needs_restart"], json!([]), "{yaml}");
            assert_eq!(balancer.admin("/api/v1/config").await.pointer(key), Some(&value), "{yaml}");
            load.until_sent(load.sent() + 500).await;
        }
        let outcome = load.finish().await;
        assert_eq!(outcome.failures, BTreeMap::new(), "of {} requests", outcome.sent);
        let pids =
            |replicas: &[Value]| replicas.iter().map(|it| it["pid"].clone()).collect::<Vec<_>>();
        assert_eq!(pids(&balancer.replicas().await), pids(&before), "the same processes");
        balancer.until_counted("ringmaster_config_reloads_total{result=\"ok\"} 5").await;
        balancer.stop().await;
    }
}

#[tokio::test]
async fn requests_in_progress_end_with_the_settings_that_they_began_with() {
    let slow = Replica::start(&["--delay-ms", "4000"]).await;
    let balancer = Balancer::start(&format!(
        "pools: {{ slow: {{ provider: fixed, fixed: {{ S1: '{}' }} }} }}",
        slow.addr
    ))
    .await;
    let proxy = balancer.proxy;
    let asked = tokio::spawn(async move { http::get(proxy, "/home").await });
    balancer.until_counted("ringmaster_requests_in_flight{pool=\"slow\",replica=\"S1\"} 1").await;
    // The pool that it waits for is no longer there.
    balancer.rewrite_config("explain_header: true");
    assert_eq!(reload(&balancer, "").await.status, 200);
    let answer = asked.await.unwrap();
    assert_eq!((answer.status, answer.header("x-ringmaster")), (200, ""), "{}", answer.body);
    let answered = async || Some(balancer.get("/home").await).filter(|it| it.status == 200);
    let answer = until("the new pool serves", answered).await.unwrap();
    assert_ne!(answer.header("x-ringmaster"), "");
    balancer.stop().await;
}

#[tokio::test]
async fn pools_and_routes_come_and_go_with_their_replicas_and_series() {
    let balancer = Balancer::start("pools: { default: { replicas: 2, names: [A] } }").await;
    until_names(&balancer, "default", &["A", "Server1"]).await;
    balancer.rewrite_config(
        "pools: { default: { replicas: 2, names: [A] }, more: { replicas: 1, names: [B] } }\n\
         routes: [{ path_prefix: /home, pool: more }, { pool: default }]",
    );
    let load = Load::start(balancer.proxy, CONNECTIONS);
    load.until_sent(100).await;
    assert_eq!(reload(&balancer, "").await.status, 200);
    until("B serves", async || (balancer.get("/home").await.json()["id"] == "B").then_some(()))
        .await
        .unwrap();
    // Another count and another name; what was added by hand gives way.
    balancer.rewrite_config("pools: { default: { replicas: 3, names: [C] } }");
    let answer = reload(&balancer, "?dry_run=true").await.json();
    let changed = json!(["pools.default.names", "pools.default.replicas", "pools.more", "routes"]);
    assert_eq!(answer["changed"], changed);
    assert_eq!(names(&balancer, "more").await.unwrap(), ["B"], "a dry run changes nothing");
    assert_eq!(reload(&balancer, "").await.status, 200);
    let gone = async || names(&balancer, "more").await.is_none().then_some(());
    assert!(until("the pool is gone", gone).await.is_some());
    until_names(&balancer, "default", &["Server1", "C", "Server2"]).await;
    let metrics = http::get(balancer.admin, "/metrics").await.body;
    assert!(!metrics.contains("pool=\"more\""), "{metrics}");
    let outcome = load.finish().await;
    assert_eq!(outcome.failures, BTreeMap::new(), "of {} requests", outcome.sent);
    balancer.stop().await;
}

#[tokio::test]
async fn a_request_that_waits_in_a_pool_follows_its_route_to_another() {
    let alone = "pools: { default: { replicas: 1 } }";
    let balancer = Balancer::start(alone).await;
    // Nobody listens there.
    let dead = "{ provider: fixed, fixed: { S1: '127.0.0.1:1' }, hold: { timeout_ms: 3600000 } }";
    balancer.rewrite_config(&format!(
        "pools: {{ default: {{ replicas: 1 }}, more: {dead} }}\n\
         routes: [{{ path_prefix: /home, pool: more }}, {{ pool: default }}]"
    ));
    assert_eq!(reload(&balancer, "").await.status, 200);
    let proxy = balancer.proxy;
    let waiting = tokio::spawn(async move { http::get(proxy, "/home").await });
    balancer.until_counted(r#"ringmaster_requests_held_total{pool="more"} 1"#).await;
    balancer.rewrite_config(alone);
    assert_eq!(reload(&balancer, "").await.status, 200);
    let answer = waiting.await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    balancer.stop().await;
}

#[tokio::test]
async fn replicas_at_other_addresses_are_asked_there() {
    let (old, new) =
        (Replica::start(&["--id", "old"]).await, Replica::start(&["--id", "new"]).await);
    let yaml =
        |addr| format!("pools: {{ default: {{ provider: fixed, fixed: {{ S1: '{addr}' }} }} }}");
    let balancer = Balancer::start(&yaml(old.addr)).await;
    balancer.rewrite_config(&yaml(new.addr));
    assert_eq!(reload(&balancer, "").await.status, 200);
    let moved = async || {
        let message = balancer.get("/home").await.json()["message"].take();
        (message == "Hello from Server: new").then_some(())
    };
    assert!(until("it is asked at its new address", moved).await.is_some());
    balancer.stop().await;
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_says_all_that_is_wrong() {
    let balancer = Balancer::start("").await;
    let before = balancer.admin("/api/v1/config").await;
    balancer
        .rewrite_config("explain_header: perhaps\npools: { default: { replicas: 0.5 }, b: {} }");
    let answer = reload(&balancer, "").await;
    assert_eq!(answer.status, 400);
    let error = answer.json()["error"].take();
    assert_eq!(error["code"], "bad_config");
    let faults = error["faults"].as_array().unwrap();
    assert_eq!(faults.len(), 3, "{error}");
    assert!(faults[0].as_str().unwrap().contains("explain_header: \"perhaps\": not true or false"));
    balancer.rewrite_config("admin: { listen: 127.0.0.1:0, tokens_file: /no/such/file }");
    let error = reload(&balancer, "").await.json()["error"].take();
    assert!(error["message"].as_str().unwrap().contains("/no/such/file cannot be read"), "{error}");
    assert_eq!(balancer.admin("/api/v1/config").await, before);
    assert_eq!(balancer.get("/home").await.status, 200);
    balancer.until_counted("ringmaster_config_reloads_total{result=\"refused\"} 2").await;
    balancer.stop().await;
}

#[tokio::test]
async fn what_needs_a_new_start_is_named_and_the_rest_takes_effect() {
    let balancer = Balancer::start("").await;
    balancer.rewrite_config("threads: 7\nexplain_header: true\ngrace_period_ms: 9");
    let output = ringmaster()
        .args(["reload", "--admin", &format!("http://{}", balancer.admin)])
        .output()
        .await
        .unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "changed: explain_header, grace_period_ms, threads\n\
         needs a new start: threads, grace_period_ms\n"
    );
    assert_eq!(output.status.code(), Some(0));
    assert_ne!(balancer.get("/home").await.header("x-ringmaster"), "");
    balancer.stop().await;
}

#[tokio::test]
async fn a_signal_or_the_file_itself_brings_the_reload_about() {
    let explained = async |balancer: &Balancer| {
        let is_explained =
            async || (!balancer.get("/home").await.header("x-ringmaster").is_empty()).then_some(());
        let reloaded = until("it is reloaded", is_explained).await;
        assert!(reloaded.is_some(), "{}", balancer.output());
    };
    let balancer = Balancer::start("").await;
    balancer.rewrite_config("explain_header: true");
    balancer.signal(Signal::SIGHUP);
    explained(&balancer).await;
    balancer.stop().await;

    let balancer = Balancer::start("watch_config: true").await;
    balancer.rewrite_config("watch_config: true\nexplain_header: true");
    explained(&balancer).await;
    balancer.stop().await;
}
