//! Two balancers with one cluster on one engine: the first keeps it.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{
    Balancer, config_file,
    docker::{Lab, docker, inspect},
    http, ringmaster, until,
};

/// What no container has in common with another one, or with itself after a restart.
fn lives(names: &[String]) -> Vec<Value> {
    let life = |name: &String| {
        let it = inspect(name);
        json!([it["Id"], it["State"]["Pid"], it["State"]["StartedAt"]])
    };
    names.iter().map(life).collect()
}

/// Starts a balancer that is to be refused; what it says.
async fn refused(yaml: &str) -> String {
    let ports = "listen: 127.0.0.1:0\nadmin: { listen: 127.0.0.1:0 }\n";
    let config = config_file(&format!("{ports}{yaml}"));
    let output = ringmaster().arg("-c").arg(config.path()).output().await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let mut said = text.lines().filter_map(|line| line.strip_prefix("ringmaster: "));
    let line = said.next().unwrap_or_else(|| panic!("{text}")).to_owned();
    assert_eq!(said.next(), None, "one line says it");
    line
}

#[tokio::test]
async fn a_second_balancer_is_told_who_holds_the_cluster_and_touches_nothing() {
    let Some(lab) = Lab::open() else { return };
    let names = lab.names(2);
    let yaml = lab.config(&format!("replicas: 2, names: {names:?}"), &lab.image());
    let first = Balancer::start(&yaml).await;
    let before = lives(&names);
    // It would end one of them as an orphan, and start others.
    let other = format!("replicas: 3, names: {:?}", [lab.name("3"), names[0].clone()]);
    for yaml in [&yaml, &lab.config(&other, &lab.image())] {
        let line = refused(yaml).await;
        let expected = format!(
            "cluster {} is held by another balancer on this engine: process {} on ",
            lab.id,
            first.pid()
        );
        assert!(line.starts_with(&expected), "{line}");
        let admin = format!(", admin {}, since 2", first.admin);
        assert!(line.contains(&admin), "{line}");
        let advice =
            "; end that one, give this one another `cluster`, or start it with --take-over";
        assert!(line.ends_with(advice), "{line}");
        assert_eq!(lives(&names), before);
        assert_eq!(lab.containers(), names);
    }
    first.stop().await;
    assert_eq!(lab.claims(), [""; 0], "it was released");
    let second = Balancer::start(&yaml).await;
    second.stop().await;
}

#[tokio::test]
async fn a_balancer_that_is_taken_over_leaves_the_replicas_alone() {
    let Some(lab) = Lab::open() else { return };
    let names = lab.names(2);
    let yaml = lab.config(&format!("replicas: 2, names: {names:?}"), &lab.image());
    let mut first = Balancer::start(&yaml).await;
    let before = lives(&names);
    let ports = "listen: 127.0.0.1:0\nadmin: { listen: 127.0.0.1:0 }\n";
    let config = config_file(&format!("{ports}{yaml}"));
    let mut command = ringmaster();
    command.arg("--take-over").arg("-c").arg(config.path());
    let second = Balancer::launch(command, Some(config)).await;
    second.until_printed("ready in").await;
    assert_eq!(lives(&names), before, "they were adopted");

    let lost = format!("cluster {} was taken over by another balancer: process ", lab.id);
    first.until_printed(&lost).await;
    let trouble = first.admin("/api/v1/pools/default").await["trouble"].take();
    assert!(trouble.as_str().unwrap().starts_with(&lost), "{trouble}");
    assert_eq!(first.get("/home").await.status, 200, "its clients are served");
    docker(&["kill", &names[0]]);
    second.until_serving(&names[0], 1).await;
    let after = lives(&names);
    let body = json!({"n": 1, "hostnames": [names[1]]}).to_string();
    let refused = http::send(first.admin, "POST", "/rm", &[], &body).await;
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(refused.body.contains(&lost), "{}", refused.body);
    first.signal(Signal::SIGTERM);
    assert!(first.ended().await.success(), "{}", first.output());
    assert_eq!(lives(&names), after);
    assert_eq!(lab.claims().len(), 1, "that of the second");
    second.stop().await;
    assert_eq!((lab.containers(), lab.claims()), (vec![], vec![]));
}

#[tokio::test]
async fn a_pool_that_a_reload_brings_waits_for_who_holds_the_cluster() {
    let Some(lab) = Lab::open() else { return };
    let names = lab.names(1);
    let pool = |name: &str| format!("replicas: 1, names: ['{name}']");
    let yaml = lab.config(&pool(&names[0]), &lab.image());
    let first = Balancer::start(&yaml).await;
    let before = lives(&names);
    let cluster = format!("cluster: {}\n", lab.id);
    let second = Balancer::start(&format!("{cluster}pools: {{ other: {{ replicas: 1 }} }}")).await;
    second.rewrite_config(&yaml);
    let reloaded = http::send(second.admin, "POST", "/api/v1/reload", &[], "").await;
    assert_eq!(reloaded.status, 200, "{}", reloaded.body);
    let held = format!("cluster {} is held by another balancer on this engine: ", lab.id);
    let told = until("the trouble is told", async || {
        let trouble = second.admin("/api/v1/pools/default").await["trouble"].take();
        trouble.as_str()?.starts_with(&held).then_some(())
    });
    assert!(told.await.is_some(), "{}", second.output());
    assert_eq!(lives(&names), before);
    first.stop().await;
    second.until_serving(&names[0], 0).await;
    second.stop().await;
    assert_eq!((lab.containers(), lab.claims()), (vec![], vec![]));
}
