//! Whatever happens to a container, requests are answered and it comes back, once.

use std::collections::BTreeMap;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::harness::{
    Balancer,
    docker::{Lab, docker, inspect},
    load::Load,
    relay::Relay,
    until,
};

const CONNECTIONS: usize = 16;

/// What is done to a container, and how its end is told: code and reason, unless only the silence is.
type Fault = (&'static str, fn(&Lab, &str), Option<(i32, &'static str)>);

const KILLED: Option<(i32, &str)> = Some((137, "killed by signal 9"));

const FAULTS: [Fault; 6] = [
    ("kill -9 of its process", kill_process, KILLED),
    ("docker kill", |_, name| drop(docker(&["kill", name])), KILLED),
    ("docker stop", |_, name| drop(docker(&["stop", name])), Some((0, "exit 0"))),
    ("docker rm -f", |_, name| drop(docker(&["rm", "-f", name])), KILLED),
    ("docker pause", |_, name| drop(docker(&["pause", name])), None),
    ("docker network disconnect", disconnect, None),
];

fn kill_process(_: &Lab, name: &str) {
    let pid = inspect(name)["State"]["Pid"].as_i64().unwrap();
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
}

fn disconnect(lab: &Lab, name: &str) {
    docker(&["network", "disconnect", "--force", &lab.id, name]);
}

#[tokio::test]
async fn a_container_that_fails_in_any_way_is_replaced_and_nobody_notices() {
    let Some(lab) = Lab::open() else { return };
    let names = lab.names(3);
    let pool = format!("names: {names:?}, backoff: {{ healthy_after_ms: 1 }}");
    let balancer = Balancer::start(&lab.config(&pool, &lab.image())).await;
    for (turn, (what, fail, end)) in FAULTS.into_iter().enumerate() {
        let victim = &names[turn % names.len()];
        let before = balancer.replica(victim).await.unwrap();
        let load = Load::start(balancer.proxy, CONNECTIONS);
        load.until_sent(200).await;
        fail(&lab, victim);
        balancer.until_serving(victim, before["incarnation"].as_u64().unwrap()).await;
        load.until_sent(load.sent() + 200).await;
        let outcome = load.finish().await;
        assert_eq!(outcome.failures, BTreeMap::new(), "{what}: of {} requests", outcome.sent);
        let after = balancer.replica(victim).await.unwrap();
        assert_eq!(incarnation(&after), incarnation(&before) + 1, "{what}: {after}");
        assert_eq!(after["number"], before["number"], "{what}");
        if end.is_none() {
            let exit = &after["last_exit"];
            assert_eq!(exit["reason"], "killed by signal 9", "{what}: its silence was the reason");
            assert_eq!(exit["log"][0], "listening on 0.0.0.0:5000", "{what}: {exit}");
        }
        assert_eq!(lab.containers(), names, "{what}: each once, and no other");
    }
    balancer.stop().await;
    assert_eq!(lab.containers(), [""; 0]);
}

#[tokio::test]
async fn how_a_container_ended_is_told() {
    let Some(lab) = Lab::open() else { return };
    let names = lab.names(1);
    // Heartbeats would notice, too, and without knowing why: here they leave it to the engine.
    let pool = format!(
        "replicas: 1, names: {names:?}, backoff: {{ healthy_after_ms: 1 }}, heartbeat: {{ missed_max: 100 }}"
    );
    let balancer = Balancer::start(&lab.config(&pool, &lab.image())).await;
    for (what, fail, end) in FAULTS {
        let Some((code, reason)) = end else { continue };
        let before = balancer.replica(&names[0]).await.unwrap();
        fail(&lab, &names[0]);
        balancer.until_serving(&names[0], incarnation(&before)).await;
        let after = balancer.replica(&names[0]).await.unwrap();
        let exit = &after["last_exit"];
        assert_eq!((&exit["code"], &exit["reason"]), (&code.into(), &reason.into()), "{what}");
        // Of one that was removed at once the engine may not know the log any more.
        if what != "docker rm -f" {
            assert_eq!(exit["log"][0], "listening on 0.0.0.0:5000", "{what}: {exit}");
        }
    }
    balancer.stop().await;
}

#[tokio::test]
async fn who_takes_too_much_memory_is_told_apart_from_who_is_killed() {
    let Some(lab) = Lab::open() else { return };
    let names = lab.names(2);
    let docker_keys = format!("{}, memory_mb: 24", lab.image());
    // Short of memory it is slow for a while, and shall not be replaced for that.
    let pool = format!("replicas: 2, names: {names:?}, heartbeat: {{ missed_max: 100 }}");
    let balancer = Balancer::start(&lab.config(&pool, &docker_keys)).await;
    docker(&["exec", "--detach", &names[0], "/hog"]);
    balancer.until_serving(&names[0], 1).await;
    let healed = balancer.replica(&names[0]).await.unwrap();
    assert_eq!(healed["last_exit"]["reason"], "out of memory (limit 24 MiB)", "{healed}");
    assert_eq!(healed["last_exit"]["code"], 137, "{healed}");
    assert_eq!(lab.containers(), names);
    balancer.stop().await;
}

#[tokio::test]
async fn an_engine_out_of_reach_changes_nothing_until_it_is_back() {
    let Some(lab) = Lab::open() else { return };
    let mut relay = Relay::open();
    let names = lab.names(3);
    let socket = format!("{}, socket: '{}'", lab.image(), relay.socket().display());
    // So that at the end the engine's news comes first.
    let pool = format!("names: {names:?}, heartbeat: {{ missed_max: 6 }}");
    let balancer = Balancer::start(&lab.config(&pool, &socket)).await;
    let load = Load::start(balancer.proxy, CONNECTIONS);
    load.until_sent(200).await;

    relay.cut().await;
    until("the trouble is told", async || trouble(&balancer).await).await.unwrap();
    load.until_sent(load.sent() + 1_000).await;
    for name in &names {
        let replica = balancer.replica(name).await.unwrap();
        assert_eq!((&replica["phase"], incarnation(&replica)), (&"serving".into(), 1));
    }
    // Nobody tells of its end: its heartbeats do.
    docker(&["rm", "-f", &names[0]]);
    until("it is down", async || {
        (balancer.replica(&names[0]).await?["phase"] == "down").then_some(())
    })
    .await
    .unwrap();
    load.until_sent(load.sent() + 1_000).await;

    relay.restore();
    balancer.until_serving(&names[0], 1).await;
    let over = async || trouble(&balancer).await.is_none().then_some(());
    until("the trouble is over", over).await.unwrap();
    let outcome = load.finish().await;
    assert_eq!(outcome.failures, BTreeMap::new(), "of {} requests", outcome.sent);
    assert_eq!(lab.containers(), names);

    // The stream is heard again.
    docker(&["kill", &names[1]]);
    balancer.until_serving(&names[1], 1).await;
    let healed = balancer.replica(&names[1]).await.unwrap();
    assert_eq!(healed["last_exit"]["reason"], "killed by signal 9", "{healed}");
    balancer.stop().await;
    assert_eq!(lab.containers(), [""; 0]);
}

async fn trouble(balancer: &Balancer) -> Option<String> {
    balancer.admin("/api/v1/pools/default").await["trouble"].as_str().map(str::to_owned)
}

fn incarnation(replica: &Value) -> u64 {
    replica["incarnation"].as_u64().unwrap()
}
