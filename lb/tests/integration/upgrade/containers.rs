//! Upgrades of a balancer whose replicas are containers: they go on as they are.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{facts, load::Mixed, successor::Service};
use crate::harness::{
    docker::{Lab, docker, inspect},
    swarm::SwarmLab,
    until,
};

const UPGRADES: usize = 5;

/// What no container has in common with another one, or with itself after a restart.
fn life(container: &str) -> Value {
    let it = inspect(container);
    json!([it["Id"], it["State"]["Pid"], it["State"]["StartedAt"], it["RestartCount"]])
}

/// Upgrades under load; `container` is that of a replica.
async fn is_not_noticed(
    service: &mut Service,
    names: &[String],
    container: impl Fn(&String) -> String,
) {
    let lives = || names.iter().map(|name| life(&container(name))).collect::<Vec<_>>();
    let (replicas, before) = (facts(service.admin).await, lives());
    let load = Mixed::start(service.proxy, service.admin);
    for _ in 0..UPGRADES {
        load.until_each_has_sent(20).await;
        service.upgrade("").await;
        assert_eq!(facts(service.admin).await, replicas);
        assert_eq!(lives(), before, "the same containers");
    }
    load.until_each_has_sent(20).await;
    let outcome = load.finish().await;
    assert_eq!(outcome.failures, BTreeMap::new(), "of {:?}", outcome.sent);

    // They are kept as if they were its own: a death is noticed, and mended.
    let (victim, admin) = (&names[0], service.admin);
    docker(&["kill", &container(victim)]);
    let mended = async || {
        let now = facts(admin).await[victim].clone();
        (now[1] != replicas[victim][1] && now[4] == "serving").then_some(())
    };
    assert!(until("it is started again", mended).await.is_some(), "{}", service.output());
}

#[tokio::test]
async fn containers_outlive_upgrades_and_nobody_notices() {
    let Some(lab) = Lab::open() else { return };
    let names = lab.names(3);
    let yaml = lab.config(&format!("names: {names:?}"), &lab.image());
    let mut service = Service::start(&yaml).await;
    is_not_noticed(&mut service, &names, String::clone).await;
    assert_eq!(lab.containers(), names, "each once, and no other");
    service.stop().await;
    assert_eq!(lab.containers(), [""; 0], "none outlives the balancer");
}

#[tokio::test]
async fn services_outlive_upgrades_and_nobody_notices() {
    let Some(swarm) = SwarmLab::open() else { return };
    let names = swarm.lab.names(3);
    let yaml = swarm.config(&format!("names: {names:?}, start_timeout_ms: 60000"));
    let mut service = Service::of(swarm.start(&yaml).await);
    let container = |name: &String| swarm.containers(name).pop().expect("it has a task");
    is_not_noticed(&mut service, &names, container).await;
    swarm.until_each_runs_once(&names).await;
    service.stop().await;
}
