//! A balancer that crashes, and the next one, which finds the containers by their labels.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{
    Balancer,
    docker::{Lab, docker, inspect},
    load::Load,
    until,
};

const CRASHES: usize = 20;

const CONNECTIONS: usize = 8;

/// name → what must not change by a takeover.
async fn facts(balancer: &Balancer) -> BTreeMap<String, Value> {
    let fact = |it: Value| {
        let name = it["name"].as_str().unwrap().to_owned();
        (name, json!([it["number"], it["incarnation"], it["address"]]))
    };
    balancer.replicas().await.into_iter().map(fact).collect()
}

async fn crash(mut balancer: Balancer) {
    balancer.signal(Signal::SIGKILL);
    balancer.ended().await;
}

#[tokio::test]
async fn containers_are_adopted_by_their_labels_and_foreign_ones_let_alone() {
    let Some(lab) = Lab::open() else { return };
    let names = lab.names(3);
    // Nothing is written down: the labels are all there is.
    let pool = format!("names: {names:?}, heartbeat: {{ missed_max: 6 }}");
    let yaml = lab.config(&pool, &lab.image());
    let mut balancer = Balancer::start(&yaml).await;
    let before = facts(&balancer).await;
    let foreign = [("plain", "other=label"), ("theirs", "ringmaster.cluster=theirs")];
    let foreign = foreign.map(|(suffix, label)| {
        let name = lab.name(suffix);
        docker(&["run", "-d", "--name", &name, "--label", label, "--network", &lab.id, &lab.id]);
        (inspect(&name), name)
    });
    let ids = || names.iter().map(|name| inspect(name)["Id"].clone()).collect::<Vec<_>>();
    let made = ids();
    for _ in 0..CRASHES {
        let load = Load::start(balancer.proxy, CONNECTIONS);
        load.until_sent(100).await;
        crash(balancer).await;
        // What was not answered by then has found nobody.
        load.finish().await;
        balancer = Balancer::start(&yaml).await;
        assert_eq!(facts(&balancer).await, before, "0 restarts, 0 duplicates");
        assert_eq!(ids(), made);
    }
    // They are kept as if they were its own: a death is told, and mended.
    docker(&["kill", &names[0]]);
    balancer.until_serving(&names[0], 1).await;
    let healed = balancer.replica(&names[0]).await.unwrap();
    assert_eq!(healed["last_exit"]["reason"], "killed by signal 9", "{healed}");
    balancer.stop().await;
    assert_eq!(lab.containers(), [""; 0]);
    for (before, name) in foreign {
        let after = inspect(&name);
        docker(&["rm", "-f", &name]);
        assert_eq!((&after["Id"], &after["State"]), (&before["Id"], &before["State"]), "{name}");
    }
}

#[tokio::test]
async fn outdated_containers_are_replaced_ended_ones_started_again_orphans_removed() {
    let Some(lab) = Lab::open() else { return };
    let folder = tempfile::tempdir().unwrap();
    let state = format!("state_file: {}\n", folder.path().join("state.json").display());
    let names = lab.names(3);
    let config = |mode: &str| {
        let docker = format!("{}, environment: {{ MODE: {mode} }}", lab.image());
        format!("{state}{}", lab.config(&format!("names: {names:?}"), &docker))
    };
    let balancer = Balancer::start(&config("old")).await;
    let numbers = async |balancer: &Balancer| -> Vec<Value> {
        balancer.replicas().await.iter().map(|it| json!([it["name"], it["number"]])).collect()
    };
    let before = numbers(&balancer).await;
    crash(balancer).await;
    docker(&["kill", &names[1]]);
    // As if it was started and the crash came before it was written down.
    let orphan = lab.name("orphan");
    let mut run = vec!["run", "-d", "--name", &orphan, "--network", &lab.id];
    let labels = [
        format!("ringmaster.cluster={}", lab.id),
        format!("ringmaster.name={orphan}"),
        format!("ringmaster.network={}", lab.id),
    ];
    let others = ["pool=default", "number=4", "incarnation=1", "spec=0", "port=5000"];
    let others = others.map(|it| format!("ringmaster.{it}"));
    run.extend(labels.iter().chain(&others).flat_map(|it| ["--label", it]));
    run.push(&lab.id);
    docker(&run);

    let balancer = Balancer::start(&config("new")).await;
    for name in &names {
        balancer.until_serving(name, 1).await;
        let env = inspect(name)["Config"]["Env"].clone();
        assert!(env.as_array().unwrap().contains(&json!("MODE=new")), "{name}: {env}");
    }
    assert_eq!(numbers(&balancer).await, before);
    let gone = until("the orphan is gone", async || (lab.containers() == names).then_some(()));
    assert!(gone.await.is_some(), "{:?}", lab.containers());
    balancer.stop().await;
    assert_eq!(lab.containers(), [""; 0]);
}
