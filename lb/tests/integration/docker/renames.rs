//! Containers that somebody renames: they are the same replicas, and end as such.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::{
    Balancer,
    docker::{Lab, docker, inspect, try_docker},
    http, until,
};

fn id(container: &str) -> String {
    inspect(container)["Id"].as_str().unwrap().to_owned()
}

fn exists(id: &str) -> bool {
    try_docker(&["inspect", id]).is_ok()
}

/// Gives the container of `name` another name; its id.
fn rename(lab: &Lab, name: &str) -> String {
    let id = id(name);
    docker(&["rename", &id, &lab.name(format!("other-{}", &id[..12]))]);
    id
}

async fn change(balancer: &Balancer, path: &str, name: &str) -> http::Answer {
    let body = json!({"n": 1, "hostnames": [name]}).to_string();
    http::send(balancer.admin, "POST", path, &[], &body).await
}

#[tokio::test]
async fn a_renamed_container_ends_with_its_replica_and_its_balancer() {
    let Some(lab) = Lab::open() else { return };
    let names = lab.names(3);
    let pool = format!("names: {names:?}, backoff: {{ healthy_after_ms: 1, max_ms: 500 }}");
    let balancer = Balancer::start(&lab.config(&pool, &lab.image())).await;

    // What is asked for its end by the name of the replica, however it is called and whatever it does.
    for prepare in ["", "pause", "stop", "kill"] {
        let name = lab.name(format!("removed{prepare}"));
        let added = change(&balancer, "/add", &name).await;
        assert_eq!(added.status, 200, "{}", added.body);
        let container = rename(&lab, &name);
        if !prepare.is_empty() {
            docker(&[prepare, &container]);
        }
        let removed = change(&balancer, "/rm", &name).await;
        assert_eq!(removed.status, 200, "{prepare}: {}", removed.body);
        assert!(!exists(&container), "{prepare}: told to be gone, and runs on");
    }
    assert_eq!(lab.containers(), names);

    // One that is to be started again, under a name that is free by now.
    let renamed = rename(&lab, &names[0]);
    docker(&["kill", &renamed]);
    balancer.until_serving(&names[0], 1).await;
    assert!(!exists(&renamed));
    assert_eq!(lab.containers(), names, "each once, and no other");

    // And under one that somebody else has taken.
    let renamed = rename(&lab, &names[1]);
    docker(&["run", "-d", "--name", &names[1], "--network", "none", &lab.id]);
    let foreign = inspect(&names[1]);
    docker(&["kill", &renamed]);
    let told = until("it is told who has the name", async || {
        let reason = balancer.replica(&names[1]).await?["last_exit"]["reason"].take();
        reason.as_str()?.contains("is held by a container of somebody else").then_some(())
    });
    assert!(told.await.is_some(), "{}", balancer.output());
    assert!(!exists(&renamed));
    assert_eq!(inspect(&names[1])["State"], foreign["State"], "it is untouched");
    docker(&["rm", "-f", &names[1]]);
    balancer.until_serving(&names[1], 1).await;

    // The name of a replica to come, by one that is there.
    let taken = lab.name("taken");
    docker(&["rename", &names[2], &taken]);
    let refused = change(&balancer, "/add", &taken).await;
    assert_eq!(refused.status, 500, "{}", refused.body);
    let hint = format!("renamed: `docker rename {} {}`", &id(&taken)[..12], names[2]);
    assert!(refused.body.contains(&hint), "{}", refused.body);
    assert_eq!(balancer.replica(&names[2]).await.unwrap()["phase"], "serving");

    balancer.stop().await;
    assert_eq!(lab.containers(), [""; 0], "none outlives the balancer");
}

#[tokio::test]
async fn a_renamed_container_is_adopted() {
    let Some(lab) = Lab::open() else { return };
    let names = lab.names(2);
    let yaml = lab.config(&format!("replicas: 2, names: {names:?}"), &lab.image());
    let mut balancer = Balancer::start(&yaml).await;
    let renamed = rename(&lab, &names[0]);
    balancer.signal(Signal::SIGKILL);
    balancer.ended().await;
    docker(&["run", "-d", "--name", &names[0], "--network", "none", &lab.id]);
    let foreign = inspect(&names[0]);

    let balancer = Balancer::start(&yaml).await;
    let adopted = balancer.replica(&names[0]).await.unwrap();
    assert_eq!((&adopted["phase"], &adopted["incarnation"]), (&json!("serving"), &json!(1)));
    assert!(exists(&renamed));
    balancer.stop().await;
    assert_eq!(lab.containers(), [""; 0]);
    assert_eq!(inspect(&names[0])["State"], foreign["State"]);
}
