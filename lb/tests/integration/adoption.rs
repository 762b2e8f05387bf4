//! A balancer that crashes, or ends, and the next one that takes over what it leaves.

use std::{collections::BTreeMap, net::TcpListener, path::Path};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{
    Balancer, config_file, http, is_alive, kill_9, pool_sizes, ringmaster, server_names, until,
};

/// name → what must not change by a takeover.
async fn facts(balancer: &Balancer) -> BTreeMap<String, Value> {
    let fact = |it: Value| {
        let name = it["name"].as_str().unwrap().to_owned();
        (name, json!([it["number"], it["incarnation"], it["address"], it["pid"]]))
    };
    balancer.replicas().await.into_iter().map(fact).collect()
}

fn with_state(folder: &Path) -> String {
    format!("state_file: {}", folder.join("state.json").display())
}

async fn crash(mut balancer: Balancer) {
    balancer.until_idle().await;
    balancer.signal(Signal::SIGKILL);
    balancer.ended().await;
}

#[tokio::test]
async fn after_a_crash_every_replica_is_adopted_as_it_is() {
    for size in pool_sizes() {
        let folder = tempfile::tempdir().unwrap();
        let yaml =
            format!("{}\npools: {{ default: {{ replicas: {size} }} }}", with_state(folder.path()));
        let mut balancer = Balancer::start(&yaml).await;
        let added = r#"{"n":2,"hostnames":["Extra","Other:5000"]}"#;
        http::send(balancer.proxy, "POST", "/add", &[], added).await;
        let keys = || (0..100).map(|it| 100_000 + it * 8_971);
        let owners = balancer.owners(keys()).await;
        let before = facts(&balancer).await;
        let rep = balancer.get("/rep").await.json();
        for _ in 0..3 {
            crash(balancer).await;
            balancer = Balancer::start(&yaml).await;
            assert_eq!(facts(&balancer).await, before, "0 restarts, 0 duplicates");
            assert_eq!(balancer.get("/rep").await.json(), rep);
            assert_eq!(balancer.owners(keys()).await, owners, "no key moves");
        }
        // They are kept as if they were its own: a death is noticed, and mended.
        let victim = balancer.replica("Extra").await.unwrap();
        kill_9(&victim);
        balancer.until_serving("Extra", victim["incarnation"].as_u64().unwrap()).await;
        balancer.stop().await;
    }
}

#[tokio::test]
async fn who_died_in_between_is_started_again_under_its_name() {
    for size in pool_sizes() {
        let folder = tempfile::tempdir().unwrap();
        let yaml =
            format!("{}\npools: {{ default: {{ replicas: {size} }} }}", with_state(folder.path()));
        let name = &format!("Server{size}");
        let balancer = Balancer::start(&yaml).await;
        let before = facts(&balancer).await;
        let victim = balancer.replica(name).await.unwrap();
        crash(balancer).await;
        kill_9(&victim);
        let balancer = Balancer::start(&yaml).await;
        let after = facts(&balancer).await;
        for other in server_names(size - 1) {
            assert_eq!(after[&other], before[&other]);
        }
        assert_eq!(after[name][0], before[name][0], "its number is kept");
        assert_eq!(after[name][1], 2, "it is another incarnation");
        balancer.stop().await;
    }
}

#[tokio::test]
async fn a_process_id_alone_proves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = with_state(folder.path());
    let balancer = Balancer::start(&yaml).await;
    let pids: Vec<u64> =
        balancer.replicas().await.iter().map(|it| it["pid"].as_u64().unwrap()).collect();
    crash(balancer).await;
    // As if the machine had been booted since, and the ids given to others.
    let path = folder.path().join("state.json");
    let mut state: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for entry in state["pools"]["default"].as_array_mut().unwrap() {
        let started = entry["process"]["started"].as_u64().unwrap();
        entry["process"]["started"] = json!(started + 1);
    }
    std::fs::write(&path, state.to_string()).unwrap();
    let balancer = Balancer::start(&yaml).await;
    for replica in balancer.replicas().await {
        assert!(!pids.contains(&replica["pid"].as_u64().unwrap()), "{replica} was not its own");
    }
    assert!(
        pids.iter().all(|&pid| is_alive(pid as u32)),
        "what is not known to be ours is let alone"
    );
    balancer.stop().await;
    let ended = async || pids.iter().all(|&pid| !is_alive(pid as u32)).then_some(());
    until("replicas without heartbeats end", ended).await.unwrap();
}

#[tokio::test]
async fn the_wanted_set_survives_an_end() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = with_state(folder.path());
    let balancer = Balancer::start(&yaml).await;
    http::send(balancer.proxy, "POST", "/add", &[], r#"{"n":1,"hostnames":["Extra"]}"#).await;
    http::send(balancer.proxy, "DELETE", "/rm", &[], r#"{"n":1,"hostnames":["Server2"]}"#).await;
    let rep = balancer.get("/rep").await.json();
    balancer.stop().await;
    let balancer = Balancer::start(&yaml).await;
    assert_eq!(balancer.get("/rep").await.json(), rep);
    assert_eq!(balancer.replica("Extra").await.unwrap()["number"], 4);
    balancer.stop().await;
}

#[tokio::test]
async fn without_a_state_file_a_crash_is_survived_and_an_end_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = [("XDG_RUNTIME_DIR", folder.path())];
    // A fixed port is what makes the next balancer this one's successor.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let yaml = format!("admin: {{ listen: '127.0.0.1:{port}' }}");
    let balancer = Balancer::start_in(&runtime, &yaml).await;
    let before = facts(&balancer).await;
    crash(balancer).await;
    let balancer = Balancer::start_in(&runtime, &yaml).await;
    assert_eq!(facts(&balancer).await, before);
    balancer.stop().await;
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_state_file_that_cannot_be_used_is_an_error_not_a_reset() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    std::fs::write(&path, "{ half a file").unwrap();
    let yaml = format!(
        "listen: 127.0.0.1:0\nadmin: {{ listen: 127.0.0.1:0 }}\n{}",
        with_state(folder.path())
    );
    let file = config_file(&yaml);
    let start = async || {
        let output = ringmaster().arg("-c").arg(file.path()).output().await.unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = start().await;
    assert_eq!(code, Some(1), "{text}");
    let last = text.lines().last().unwrap();
    assert!(last.starts_with(&format!("ringmaster: state file {}: ", path.display())), "{text}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{ half a file");

    std::fs::remove_file(&path).unwrap();
    let balancer = Balancer::start(&with_state(folder.path())).await;
    let (code, text) = start().await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("another balancer uses it"), "{text}");
    balancer.stop().await;
}
