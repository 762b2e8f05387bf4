//! How containers are made, and how they go.

use serde_json::{Value, json};

use crate::{
    harness::{
        Balancer,
        docker::{Lab, docker, inspect},
    },
    story,
};

#[tokio::test]
async fn containers_are_made_as_configured_and_serve() {
    let Some(lab) = Lab::open() else { return };
    let name = lab.name("1");
    let balancer = Balancer::start(&lab.config(
        &format!("replicas: 1, names: ['{name}:6000']"),
        &format!(
            "{}, command: [--listen, '0.0.0.0:6000'], environment: {{ MODE: 'a b' }}, \
             memory_mb: 64, cpu_millis: 500, pids: 50",
            lab.image()
        ),
    ))
    .await;
    let answer = balancer.get("/home").await.json();
    assert_eq!(answer["id"], json!(name), "the host name is the replica's");
    assert_eq!(answer["message"], "Hello from Server: 1", "SERVER_ID is its number");

    let container = inspect(&name);
    let host = &container["HostConfig"];
    for (key, expected) in [
        ("Memory", json!(64 << 20)),
        ("MemorySwap", json!(64 << 20)),
        ("NanoCpus", json!(500_000_000)),
        ("PidsLimit", json!(50)),
        ("ReadonlyRootfs", json!(true)),
        ("CapDrop", json!(["ALL"])),
        ("SecurityOpt", json!(["no-new-privileges"])),
        ("Privileged", json!(false)),
        ("Binds", Value::Null),
        ("RestartPolicy", json!({"Name": "no", "MaximumRetryCount": 0})),
        ("LogConfig", json!({"Type": "json-file", "Config": {"max-file": "1", "max-size": "4m"}})),
    ] {
        assert_eq!(host[key], expected, "{key}");
    }
    let config = &container["Config"];
    assert_eq!(config["Env"].as_array().unwrap()[..2], [json!("MODE=a b"), json!("SERVER_ID=1")]);
    let labels = &config["Labels"];
    for (label, expected) in [
        ("cluster", lab.id.as_str()),
        ("pool", "default"),
        ("name", &name),
        ("number", "1"),
        ("incarnation", "1"),
        ("port", "6000"),
        ("network", &lab.id),
    ] {
        assert_eq!(labels[format!("ringmaster.{label}")], expected);
    }
    let network = &container["NetworkSettings"]["Networks"][&lab.id];
    assert!(network["Aliases"].as_array().unwrap().contains(&json!(name)), "{network}");
    let address = format!("{}:6000", network["IPAddress"].as_str().unwrap());
    assert_eq!(balancer.replica(&name).await.unwrap()["address"], json!(address));
    assert_eq!(docker(&["network", "inspect", "-f", "{{.Driver}}", &lab.id]), "bridge");

    balancer.stop().await;
    assert_eq!(lab.containers(), [""; 0], "none outlives the balancer");
}

#[tokio::test]
async fn a_container_is_told_its_name_if_that_is_its_id() {
    let Some(lab) = Lab::open() else { return };
    let name = lab.name("1");
    let pool = format!("replicas: 1, names: [{name}], server_id: name");
    let balancer = Balancer::start(&lab.config(&pool, &lab.image())).await;
    let answer = balancer.get("/home").await.json();
    assert_eq!(answer["message"], format!("Hello from Server: {name}"));
    let environment = inspect(&name)["Config"]["Env"].clone();
    assert_eq!(environment[0], format!("SERVER_ID={name}"));
    balancer.stop().await;
}

#[tokio::test]
async fn the_story_of_every_provider() {
    story::of_containers().await;
}
