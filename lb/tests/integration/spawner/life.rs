//! A balancer whose replicas are containers, without the engine's socket.

use std::collections::BTreeMap;

use serde_json::json;

use super::Spawner;
use crate::harness::{
    Balancer, config_file,
    docker::{Lab, docker, inspect},
    http,
    load::Load,
    ringmaster, until,
};

const CONNECTIONS: usize = 8;

#[tokio::test]
async fn replicas_live_and_go_through_a_spawner_and_over_its_restart() {
    let Some(lab) = Lab::open() else { return };
    let mut spawner = Spawner::start(&lab).await;
    let names = lab.names(3);
    let config = lab.config(
        &format!("names: {names:?}, backoff: {{ healthy_after_ms: 1 }}"),
        &format!("{}, {}", lab.image(), spawner.key()),
    );
    let balancer = Balancer::start(&config).await;
    assert_eq!(lab.containers(), names);

    let load = Load::start(balancer.proxy, CONNECTIONS);
    load.until_sent(100).await;
    let since = incarnation(&balancer, &names[0]).await;
    docker(&["kill", &names[0]]);
    balancer.until_serving(&names[0], since).await;
    let last_exit = balancer.replica(&names[0]).await.unwrap()["last_exit"]["reason"].take();
    assert_eq!(last_exit, "killed by signal 9", "the spawner told of it at once");

    spawner.restart(&lab).await;
    let since = incarnation(&balancer, &names[1]).await;
    docker(&["kill", &names[1]]);
    balancer.until_serving(&names[1], since).await;
    load.until_sent(load.sent() + 100).await;
    let outcome = load.finish().await;
    assert_eq!(outcome.failures, BTreeMap::new(), "of {} requests", outcome.sent);
    assert_eq!(lab.containers(), names, "each once, and no other");

    // By its labels, whatever it is called and whoever has its name.
    let renamed = lab.name("renamed");
    docker(&["rename", &names[2], &renamed]);
    docker(&["run", "-d", "--name", &names[2], "--network", "none", &lab.id]);
    let foreign = inspect(&names[2])["State"].take();
    let body = json!({"n": 1, "hostnames": [names[2]]}).to_string();
    let answer = http::send(balancer.admin, "POST", "/rm", &[], &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(lab.containers(), names[..2]);
    assert_eq!(inspect(&names[2])["State"], foreign, "it is untouched");

    let ports = "listen: 127.0.0.1:0\nadmin: { listen: 127.0.0.1:0 }\n";
    let file = config_file(&format!("{ports}{config}"));
    let second = ringmaster().arg("-c").arg(file.path()).output().await.unwrap();
    let text = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{text}");
    assert!(text.contains("is held by another balancer on this engine: process "), "{text}");

    balancer.stop().await;
    assert_eq!((lab.claims(), lab.networks()), (vec![], String::new()));
    assert_eq!(lab.containers(), [""; 0], "none outlives the balancer");
    spawner.stop().await;
}

#[tokio::test]
async fn without_a_spawner_it_is_said_what_to_start() {
    let Some(lab) = Lab::open() else { return };
    let mut spawner = Spawner::start(&lab).await;
    spawner.child.kill().await.unwrap();
    let config = lab.config("replicas: 0", &format!("{}, {}", lab.image(), spawner.key()));
    let balancer = Balancer::start_unready(&config).await;
    let body = json!({"n": 1, "hostnames": [lab.name("1")]}).to_string();
    let add = async || http::send(balancer.admin, "POST", "/add", &[], &body).await;
    let expected = format!(
        "no spawner answers at {} (connection refused): is `ringmaster spawner` running?",
        spawner.socket().display()
    );
    // Until the first try has failed there is no reason to name yet.
    let told = until("it is told", async || {
        let answer = add().await;
        assert_eq!(answer.status, 503, "{}", answer.body);
        answer.body.contains(&expected).then_some(())
    });
    assert!(told.await.is_some(), "{}", balancer.output());

    spawner.restart(&lab).await;
    let added = until("it is added", async || (add().await.status == 200).then_some(())).await;
    assert!(added.is_some(), "{}", balancer.output());
    assert_eq!(lab.containers(), lab.names(1));
    balancer.stop().await;
    spawner.stop().await;
}

async fn incarnation(balancer: &Balancer, name: &str) -> u64 {
    balancer.replica(name).await.unwrap()["incarnation"].as_u64().unwrap()
}
