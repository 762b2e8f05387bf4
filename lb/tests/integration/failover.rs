//! The promise: kill any replica, nobody notices, no key moves.

use std::collections::BTreeMap;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use crate::harness::{
    Balancer, healing_pool, http, kill_9, load::Load, pool_sizes, server_names, until,
};

const CONNECTIONS: usize = 64;

#[tokio::test]
async fn killing_each_replica_in_turn_fails_no_request_and_moves_no_key() {
    const PER_TURN: usize = 1_500;
    for size in pool_sizes() {
        let balancer = Balancer::start(&healing_pool(size)).await;
        let keys = || (0..300).map(|it| 100_000 + it * 2_971);
        let owners = balancer.owners(keys()).await;

        let load = Load::start(balancer.proxy, CONNECTIONS);
        for name in server_names(size) {
            load.until_sent(load.sent() + PER_TURN).await;
            let victim = balancer.replica(&name).await.unwrap();
            let incarnation = victim["incarnation"].as_u64().unwrap();
            kill_9(&victim);
            balancer.until_serving(&name, incarnation).await;
            let healed = balancer.replica(&name).await.unwrap();
            assert_eq!(healed["incarnation"], incarnation + 1);
            assert_eq!(healed["last_exit"]["code"], 137, "{healed}");
            assert_eq!(healed["number"], victim["number"]);
        }
        load.until_sent(load.sent() + PER_TURN).await;
        let outcome = load.finish().await;

        assert_eq!(outcome.failures, BTreeMap::new(), "of {} requests", outcome.sent);
        assert_eq!(balancer.owners(keys()).await, owners, "a heal moves no key");
        balancer.stop().await;
    }
}

#[tokio::test]
async fn a_hung_replica_is_replaced_and_its_requests_are_answered() {
    for size in pool_sizes() {
        let balancer = Balancer::start(&healing_pool(size)).await;
        let name = format!("Server{size}");
        let load = Load::start(balancer.proxy, CONNECTIONS);
        load.until_sent(1_000).await;
        let victim = balancer.replica(&name).await.unwrap();
        let pid = nix::unistd::Pid::from_raw(victim["pid"].as_i64().unwrap() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
        balancer.until_serving(&name, victim["incarnation"].as_u64().unwrap()).await;
        let outcome = load.finish().await;
        assert_eq!(outcome.failures, BTreeMap::new(), "of {} requests", outcome.sent);
        let last_exit = balancer.replica(&name).await.unwrap()["last_exit"].take();
        assert_eq!(last_exit["reason"], "killed by signal 9", "{last_exit}");
        balancer.stop().await;
    }
}

#[tokio::test]
async fn with_all_but_one_down_every_request_is_answered() {
    for size in pool_sizes().filter(|size| *size > 1) {
        // The back-off is longer than the test, and no service long enough to escape it: what is down stays down.
        let balancer = Balancer::start(&format!(
            "pools: {{ default: {{ replicas: {size}, backoff: {{ min_ms: 600000, max_ms: 600000, healthy_after_ms: 600000 }} }} }}"
        ))
        .await;
        for name in server_names(size).filter(|name| name != "Server2") {
            kill_9(&balancer.replica(&name).await.unwrap());
        }
        let load = Load::start(balancer.proxy, 8);
        load.until_sent(1_000).await;
        let outcome = load.finish().await;
        assert_eq!(outcome.failures, BTreeMap::new());
        let rep = balancer.get("/rep").await.json();
        assert_eq!(rep["message"], json!({"N": 1, "replicas": ["Server2"]}));
        balancer.stop().await;
    }
}

#[tokio::test]
async fn requests_are_held_while_nobody_serves_and_refused_after_that() {
    for size in pool_sizes() {
        let balancer = Balancer::start(&format!(
            "pools: {{ default: {{ replicas: {size}, hold: {{ timeout_ms: 20000 }} }} }}"
        ))
        .await;
        for replica in balancer.replicas().await {
            kill_9(&replica);
        }
        assert_eq!(balancer.get("/home").await.status, 200, "held until one was back");
        balancer.stop().await;

        let balancer = Balancer::start(&format!(
            "pools: {{ default: {{ replicas: {size}, hold: {{ timeout_ms: 50 }},
                                   backoff: {{ min_ms: 600000, max_ms: 600000, healthy_after_ms: 600000 }} }} }}"
        ))
        .await;
        for replica in balancer.replicas().await {
            kill_9(&replica);
        }
        until("they are down", async || {
            balancer.replicas().await.iter().all(|it| it["phase"] == "down").then_some(())
        })
        .await
        .unwrap();
        let answer = balancer.get("/home").await;
        assert_eq!(answer.status, 503);
        assert_eq!(answer.header("retry-after"), "1");
        assert_eq!(
            answer.json(),
            json!({"message": "<Error> No replica is available", "status": "failure"})
        );
        balancer
            .until_counted(
                r#"ringmaster_request_failures_total{pool="default",reason="no_replica"} 1"#,
            )
            .await;
        balancer.stop().await;
    }
}

#[tokio::test]
async fn adding_and_removing_under_load_fails_no_request() {
    for size in pool_sizes() {
        let balancer =
            Balancer::start(&format!("pools: {{ default: {{ replicas: {size} }} }}")).await;
        let load = Load::start(balancer.proxy, CONNECTIONS);
        for _ in 0..3 {
            load.until_sent(load.sent() + 500).await;
            let answer = http::send(balancer.proxy, "POST", "/add", &[], r#"{"n":2}"#).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            load.until_sent(load.sent() + 500).await;
            let answer = http::send(balancer.proxy, "DELETE", "/rm", &[], r#"{"n":2}"#).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            assert_eq!(answer.json()["message"]["N"], size);
        }
        let outcome = load.finish().await;
        assert_eq!(outcome.failures, BTreeMap::new(), "of {} requests", outcome.sent);
        balancer.stop().await;
    }
}

/// A killed replica misses heartbeats, too: requests that cannot connect bring the next one forward, and here the first
/// silence is a failure. Whatever notices first, the count tells what happened.
#[tokio::test]
async fn a_kill_under_load_is_counted_as_an_exit_whatever_noticed_it_first() {
    const KILLS: usize = 12;
    for replicas in 1..=3 {
        let balancer = Balancer::start(&format!(
            "pools: {{ default: {{ replicas: {replicas}, hold: {{ timeout_ms: 20000 }},
                                   heartbeat: {{ interval_ms: 1000, timeout_ms: 999, missed_max: 1 }},
                                   backoff: {{ healthy_after_ms: 1 }} }} }}"
        ))
        .await;
        let load = Load::start(balancer.proxy, 8);
        for turn in 0..KILLS {
            // In between, the time passes that must lie between two heartbeats.
            load.until_sent(load.sent() + 300).await;
            let name = format!("Server{}", turn % replicas + 1);
            let victim = balancer.replica(&name).await.unwrap();
            kill_9(&victim);
            balancer.until_serving(&name, victim["incarnation"].as_u64().unwrap()).await;
            let last_exit = &balancer.replica(&name).await.unwrap()["last_exit"];
            assert_eq!(last_exit["code"], 137, "{last_exit}");
        }
        let outcome = load.finish().await;
        assert_eq!(outcome.failures, BTreeMap::new(), "of {} requests", outcome.sent);
        assert_eq!(respawns(&balancer).await, BTreeMap::from([("exit".to_owned(), KILLS)]));
        balancer.stop().await;
    }
}

#[tokio::test]
async fn a_hang_is_counted_as_missed_heartbeats_although_it_ends_by_a_kill() {
    let balancer =
        Balancer::start("pools: { default: { heartbeat: { interval_ms: 100, timeout_ms: 99 } } }")
            .await;
    let victim = balancer.replica("Server2").await.unwrap();
    let pid = Pid::from_raw(victim["pid"].as_i64().unwrap() as i32);
    kill(pid, Signal::SIGSTOP).unwrap();
    balancer.until_serving("Server2", victim["incarnation"].as_u64().unwrap()).await;
    let hung = r#"ringmaster_respawns_total{cause="missed",pool="default",replica="Server2"}"#;
    assert_eq!(count(&balancer, hung).await, 1);
    let exit = r#"ringmaster_respawns_total{cause="exit",pool="default",replica="Server2"}"#;
    assert_eq!(count(&balancer, exit).await, 0);
    let last_exit = balancer.replica("Server2").await.unwrap()["last_exit"].clone();
    assert_eq!(last_exit["reason"], "killed by signal 9", "{last_exit}");
    balancer.stop().await;
}

/// With a back-off longer than the test, only a replica that needs none comes back.
#[tokio::test]
async fn a_replica_that_had_served_for_long_enough_comes_back_at_once_each_time() {
    let balancer = Balancer::start(
        "pools: { default: { replicas: 2, backoff: { min_ms: 600000, max_ms: 600000, healthy_after_ms: 300 } } }",
    )
    .await;
    for turn in 1..=5 {
        let served = async || {
            let replica = balancer.replica("Server1").await?;
            (replica["uptime_s"].as_f64()? >= 0.3).then_some(replica)
        };
        let victim = crate::harness::until("it has served", served).await.unwrap();
        kill_9(&victim);
        balancer.until_serving("Server1", turn).await;
        assert_eq!(balancer.replica("Server1").await.unwrap()["attempts"], 0);
    }
    balancer.stop().await;
}

/// cause → how often a replica was started again for it, where that is not never.
async fn respawns(balancer: &Balancer) -> BTreeMap<String, usize> {
    let metrics = http::get(balancer.admin, "/metrics").await.body;
    let mut respawns = BTreeMap::new();
    for line in metrics.lines() {
        let Some(rest) = line.strip_prefix("ringmaster_respawns_total{cause=\"") else { continue };
        let (cause, rest) = rest.split_once('"').unwrap();
        let count: usize = rest.rsplit(' ').next().unwrap().parse().unwrap();
        if count > 0 {
            *respawns.entry(cause.to_owned()).or_default() += count;
        }
    }
    respawns
}

async fn count(balancer: &Balancer, series: &str) -> usize {
    let metrics = http::get(balancer.admin, "/metrics").await.body;
    let line = metrics.lines().find(|line| line.starts_with(series));
    let line = line.unwrap_or_else(|| panic!("{series} is not in:\n{metrics}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}
