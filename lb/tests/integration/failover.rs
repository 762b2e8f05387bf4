//! The promise: kill any replica, nobody notices, no key moves.

use std::collections::BTreeMap;

use serde_json::json;

use crate::harness::{Balancer, http, kill_9, load::Load};

const CONNECTIONS: usize = 64;

#[tokio::test]
async fn killing_each_replica_in_turn_fails_no_request_and_moves_no_key() {
    let balancer = Balancer::start("").await;
    let keys = || (0..300).map(|it| 100_000 + it * 2_971);
    let owners = balancer.owners(keys()).await;

    let load = Load::start(balancer.proxy, CONNECTIONS);
    for (turn, name) in ["Server1", "Server2", "Server3"].into_iter().enumerate() {
        load.until_sent((turn + 1) * 2_500).await;
        let victim = balancer.replica(name).await.unwrap();
        let incarnation = victim["incarnation"].as_u64().unwrap();
        kill_9(&victim);
        balancer.until_serving(name, incarnation).await;
        let healed = balancer.replica(name).await.unwrap();
        assert_eq!(healed["incarnation"], incarnation + 1);
        assert_eq!(healed["last_exit"]["code"], 137, "{healed}");
        assert_eq!(healed["number"], victim["number"]);
    }
    load.until_sent(10_000).await;
    let outcome = load.finish().await;

    assert!(outcome.sent >= 10_000);
    assert_eq!(outcome.failures, BTreeMap::new(), "of {} requests", outcome.sent);
    assert_eq!(balancer.owners(keys()).await, owners, "a heal moves no key");
    balancer.stop().await;
}

#[tokio::test]
async fn a_hung_replica_is_replaced_and_its_requests_are_answered() {
    let balancer = Balancer::start("").await;
    let load = Load::start(balancer.proxy, CONNECTIONS);
    load.until_sent(1_000).await;
    let victim = balancer.replica("Server2").await.unwrap();
    let pid = nix::unistd::Pid::from_raw(victim["pid"].as_i64().unwrap() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    balancer.until_serving("Server2", victim["incarnation"].as_u64().unwrap()).await;
    let outcome = load.finish().await;
    assert_eq!(outcome.failures, BTreeMap::new(), "of {} requests", outcome.sent);
    let last_exit = balancer.replica("Server2").await.unwrap()["last_exit"].take();
    assert_eq!(last_exit["reason"], "killed by signal 9", "{last_exit}");
    balancer.stop().await;
}

#[tokio::test]
async fn with_all_but_one_down_every_request_is_answered() {
    // The back-off is longer than the test: who is down stays down.
    let balancer =
        Balancer::start("pools: { default: { backoff: { min_ms: 600000, max_ms: 600000 } } }")
            .await;
    for name in ["Server1", "Server3"] {
        kill_9(&balancer.replica(name).await.unwrap());
    }
    let load = Load::start(balancer.proxy, 8);
    load.until_sent(1_000).await;
    let outcome = load.finish().await;
    assert_eq!(outcome.failures, BTreeMap::new());
    let rep = balancer.get("/rep").await.json();
    assert_eq!(rep["message"], json!({"N": 1, "replicas": ["Server2"]}));
    balancer.stop().await;
}

#[tokio::test]
async fn requests_are_held_while_nobody_serves_and_refused_after_that() {
    let balancer =
        Balancer::start("pools: { default: { replicas: 1, hold: { timeout_ms: 20000 } } }").await;
    kill_9(&balancer.replica("Server1").await.unwrap());
    assert_eq!(balancer.get("/home").await.status, 200, "held until it was back");
    balancer.stop().await;

    let balancer = Balancer::start(
        "pools: { default: { replicas: 1, hold: { timeout_ms: 50 },
                             backoff: { min_ms: 600000, max_ms: 600000 } } }",
    )
    .await;
    kill_9(&balancer.replica("Server1").await.unwrap());
    crate::harness::until("it is down", async || {
        (balancer.replica("Server1").await?["phase"] == "down").then_some(())
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
        .until_counted(r#"ringmaster_request_failures_total{pool="default",reason="no_replica"} 1"#)
        .await;
    balancer.stop().await;
}

#[tokio::test]
async fn adding_and_removing_under_load_fails_no_request() {
    let balancer = Balancer::start("").await;
    let load = Load::start(balancer.proxy, CONNECTIONS);
    for turn in 1..=4 {
        load.until_sent(turn * 1_000).await;
        let answer = http::send(balancer.proxy, "POST", "/add", &[], r#"{"n":2}"#).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        load.until_sent(turn * 1_000 + 500).await;
        let answer = http::send(balancer.proxy, "DELETE", "/rm", &[], r#"{"n":2}"#).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.json()["message"]["N"], 3);
    }
    let outcome = load.finish().await;
    assert_eq!(outcome.failures, BTreeMap::new(), "of {} requests", outcome.sent);
    balancer.stop().await;
}
