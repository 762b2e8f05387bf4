//! Replicas as services of a Swarm, kept by several balancers.

use std::collections::{BTreeMap, BTreeSet};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{
    harness::{
        Balancer,
        docker::{docker, inspect},
        http::{self, Answer},
        load::Load,
        swarm::SwarmLab,
        until,
    },
    story,
};

const CONNECTIONS: usize = 8;

/// So that the first step of the back-off is the only one.
const POOL: &str = "start_timeout_ms: 60000, backoff: { healthy_after_ms: 1 }";

/// What is done to a container.
type Fault = (&'static str, fn(&str));

const FAULTS: [Fault; 3] = [
    ("kill -9 of its process", kill_process),
    ("docker pause", |id| drop(docker(&["pause", id]))),
    ("docker stop", |id| drop(docker(&["stop", id]))),
];

fn kill_process(container: &str) {
    let pid = inspect(container)["State"]["Pid"].as_i64().unwrap();
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
}

/// name → number of the replicas that serve.
async fn serving(balancer: &Balancer) -> BTreeMap<String, u64> {
    let replicas = balancer.replicas().await;
    let serving = replicas.iter().filter(|it| it["phase"] == "serving");
    serving
        .map(|it| (it["name"].as_str().unwrap().to_owned(), it["number"].as_u64().unwrap()))
        .collect()
}

/// Waits until both know the same replicas, all of which serve, and answers them.
async fn until_agreed(balancers: [&Balancer; 2], n: usize) -> BTreeMap<String, u64> {
    let agreed = until("they agree", async || {
        let [a, b] = balancers;
        let (known, all) = (serving(a).await, a.replicas().await.len());
        let same = known == serving(b).await && all == b.replicas().await.len();
        (same && known.len() == n && all == n).then_some(known)
    });
    match agreed.await {
        Some(agreed) => agreed,
        None => panic!(
            "{:?}\n{:?}\n{}\n{}",
            balancers[0].replicas().await,
            balancers[1].replicas().await,
            balancers[0].output(),
            balancers[1].output()
        ),
    }
}

async fn change(balancer: &Balancer, path: &str, body: Value) -> Answer {
    http::send(
        balancer.admin,
        "POST",
        path,
        &[("content-type", "application/json")],
        &body.to_string(),
    )
    .await
}

async fn crash(mut balancer: Balancer) {
    balancer.signal(Signal::SIGKILL);
    balancer.ended().await;
}

#[tokio::test]
async fn the_story_of_every_provider() {
    story::of_services().await;
}

#[tokio::test]
async fn two_balancers_keep_one_set_whoever_changes_it() {
    let Some(swarm) = SwarmLab::open() else { return };
    let lab = &swarm.lab;
    let names = lab.names(2);
    let yaml = swarm.config(&format!("replicas: 2, names: {names:?}, {POOL}"));
    // At once, so that both find nothing and would create everything.
    let (a, b) = tokio::join!(swarm.start(&yaml), swarm.start(&yaml));
    let agreed = until_agreed([&a, &b], 2).await;
    assert_eq!(
        agreed.into_iter().collect::<Vec<_>>(),
        [(names[0].clone(), 1), (names[1].clone(), 2)]
    );
    swarm.until_each_runs_once(&names).await;

    // Both add, with a name that only one of them can have.
    let both = lab.name("both");
    let add = |own: &str| json!({"n": 2, "hostnames": [both, lab.name(own)]});
    let (one, other) = tokio::join!(change(&a, "/add", add("a")), change(&b, "/add", add("b")));
    assert_eq!((one.status, other.status), (200, 200), "{}\n{}", one.body, other.body);
    let agreed = until_agreed([&a, &b], 6).await;
    for name in [both.clone(), lab.name("a"), lab.name("b")] {
        assert!(agreed.contains_key(&name), "{name} is not in {agreed:?}");
    }
    let numbers: BTreeSet<u64> = agreed.values().copied().collect();
    assert_eq!(numbers, (1..=6).collect(), "each number once, the lowest that are free");
    let known: Vec<String> = agreed.into_keys().collect();
    swarm.until_each_runs_once(&known).await;

    // One adds while the other removes.
    let gone = [names[0].clone(), both];
    let (added, removed) = tokio::join!(
        change(&a, "/add", json!({"n": 1, "hostnames": [lab.name("late")]})),
        change(&b, "/rm", json!({"n": 2, "hostnames": gone})),
    );
    assert_eq!((added.status, removed.status), (200, 200), "{}\n{}", added.body, removed.body);
    let mut left: Vec<_> = known.into_iter().filter(|name| !gone.contains(name)).collect();
    left.push(lab.name("late"));
    left.sort();
    let agreed = until_agreed([&a, &b], 5).await;
    assert_eq!(agreed.into_keys().collect::<Vec<_>>(), left);
    swarm.until_each_runs_once(&left).await;

    // Both remove the same one: one of them is told that there is none.
    let body = || json!({"n": 1, "hostnames": [lab.name("late")]});
    let (one, other) = tokio::join!(change(&a, "/rm", body()), change(&b, "/rm", body()));
    let statuses = BTreeSet::from([one.status, other.status]);
    assert!(
        statuses == [200, 400].into() || statuses == [200].into(),
        "{}\n{}",
        one.body,
        other.body
    );
    until_agreed([&a, &b], 4).await;

    // An end ends none.
    a.stop().await;
    left.retain(|name| *name != lab.name("late"));
    swarm.until_each_runs_once(&left).await;
    assert_eq!(change(&b, "/rm", json!({"n": 4})).await.status, 200);
    swarm.until_each_runs_once(&[]).await;
    b.stop().await;
}

#[tokio::test]
async fn a_task_that_fails_is_replaced_under_its_name_and_nobody_notices() {
    let Some(swarm) = SwarmLab::open() else { return };
    let names = swarm.lab.names(3);
    let yaml = swarm.config(&format!("names: {names:?}, {POOL}"));
    let (a, b) = tokio::join!(swarm.start(&yaml), swarm.start(&yaml));
    let before = until_agreed([&a, &b], 3).await;
    for ((what, fail), victim) in FAULTS.into_iter().zip(&names) {
        let containers = swarm.containers(victim);
        let since = |replica: Option<Value>| replica.unwrap()["incarnation"].as_u64().unwrap();
        let sinces = (since(a.replica(victim).await), since(b.replica(victim).await));
        let loads = [&a, &b].map(|it| Load::start(it.proxy, CONNECTIONS));
        for load in &loads {
            load.until_sent(100).await;
        }
        fail(&containers[0]);
        a.until_serving(victim, sinces.0).await;
        b.until_serving(victim, sinces.1).await;
        for load in loads {
            load.until_sent(load.sent() + 100).await;
            let outcome = load.finish().await;
            assert_eq!(outcome.failures, BTreeMap::new(), "{what}: of {} requests", outcome.sent);
        }
        assert_eq!(until_agreed([&a, &b], 3).await, before, "{what}");
        swarm.until_each_runs_once(&names).await;
        assert_ne!(swarm.containers(victim), containers, "{what}");
    }
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn a_balancer_that_crashed_finds_what_became_of_the_replicas_and_restarts_none() {
    let Some(swarm) = SwarmLab::open() else { return };
    let names = swarm.lab.names(3);
    // Of the configured replicas there are two when it comes back: that is what was agreed on.
    let yaml = swarm.config(&format!("names: {names:?}, {POOL}"));
    let (a, b) = tokio::join!(swarm.start(&yaml), swarm.start(&yaml));
    until_agreed([&a, &b], 3).await;
    let left = &names[1..];
    let containers = || left.iter().map(|name| swarm.containers(name)).collect::<Vec<_>>();
    let before = containers();
    crash(a).await;
    let removed = change(&b, "/rm", json!({"n": 1, "hostnames": [names[0]]})).await;
    assert_eq!(removed.status, 200, "{}", removed.body);
    let a = swarm.start(&yaml).await;
    until_agreed([&a, &b], 2).await;
    assert_eq!(containers(), before, "0 restarts, 0 duplicates");
    swarm.until_each_runs_once(left).await;

    // All of them crash, and a replica dies meanwhile.
    crash(a).await;
    crash(b).await;
    docker(&["kill", &before[0][0]]);
    let a = swarm.start(&yaml).await;
    a.until_serving(&left[0], 0).await;
    assert_eq!(serving(&a).await.into_keys().collect::<Vec<_>>(), left);
    assert_eq!(containers()[1], before[1]);
    a.stop().await;
}

#[tokio::test]
async fn other_settings_reach_every_replica_while_balancers_of_both_run() {
    let Some(swarm) = SwarmLab::open() else { return };
    let names = swarm.lab.names(2);
    let config = |mode: &str| {
        let docker = format!("{}, environment: {{ MODE: {mode} }}", swarm.image());
        swarm.lab.config_of("swarm", &format!("replicas: 2, names: {names:?}, {POOL}"), &docker)
    };
    let old = config("old");
    let (a, b) = tokio::join!(swarm.start(&old), swarm.start(&old));
    let before = until_agreed([&a, &b], 2).await;
    let load = Load::start(a.proxy, CONNECTIONS);
    crash(b).await;
    let b = swarm.start(&config("new")).await;
    let renewed = until("all have the new settings", async || {
        let has = |name: &String| {
            let ids = swarm.containers(name);
            let env = |id: &String| inspect(id)["Config"]["Env"].clone();
            ids.len() == 1
                && ids.iter().any(|id| env(id).as_array().unwrap().contains(&json!("MODE=new")))
        };
        names.iter().all(has).then_some(())
    });
    assert!(renewed.await.is_some(), "{}", b.output());
    assert_eq!(until_agreed([&a, &b], 2).await, before);
    load.until_sent(load.sent() + 100).await;
    let outcome = load.finish().await;
    assert_eq!(outcome.failures, BTreeMap::new(), "of {} requests", outcome.sent);
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn what_is_not_wanted_is_removed_and_what_is_not_ours_is_named_and_let_alone() {
    let Some(swarm) = SwarmLab::open() else { return };
    let lab = &swarm.lab;
    let create = |name: &str, labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(key, value)| format!("--label=ringmaster.{key}={value}"));
        let labels: Vec<_> = labels.collect();
        let mut command = vec!["service", "create", "--detach", "--replicas", "0", "--name", name];
        command.extend(labels.iter().map(String::as_str));
        command.extend(["--no-resolve-image", &lab.id]);
        docker(&command)
    };
    // As if its remover had crashed between the wanted set and the service.
    let orphan = lab.name("orphan");
    let others = [
        ("pool", "default"),
        ("number", "9"),
        ("incarnation", "1"),
        ("spec", "0"),
        ("port", "5000"),
    ];
    create(&orphan, &[&[("cluster", lab.id.as_str()), ("name", &orphan)][..], &others].concat());
    let theirs = lab.name("theirs");
    let id = create(&theirs, &[("cluster", "theirs")]);
    let pool = "replicas: 1, start_timeout_ms: 10000, drain_timeout_ms: 100";
    let a = swarm.start(&swarm.config(&format!("{pool}, names: [{}]", lab.name(1)))).await;

    let answer = change(&a, "/add", json!({"n": 1, "hostnames": [theirs]})).await;
    assert_eq!(answer.status, 500, "{}", answer.body);
    let short: String = id.chars().take(12).collect();
    let expected = format!(
        "the name {theirs} is held by a service of cluster theirs ({short}, image {}",
        lab.id
    );
    assert!(answer.body.contains(&expected), "{}", answer.body);
    // Names that no service can have, or none beside the one that is there.
    for (name, rule) in [
        (lab.name("a.b"), "the name of a Swarm service consists of letters, digits, '_' and '-'"),
        (lab.name(1).to_uppercase(), "a Swarm does not tell it from"),
    ] {
        let answer = change(&a, "/add", json!({"n": 1, "hostnames": [name]})).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert!(answer.body.contains(rule), "{}", answer.body);
    }
    swarm.until_each_runs_once(&[lab.name(1)]).await;
    assert_eq!(docker(&["service", "inspect", "--format", "{{.ID}}", &theirs]), id);
    a.stop().await;
}

#[tokio::test]
async fn why_a_service_does_not_start_is_told_in_one_line() {
    let Some(swarm) = SwarmLab::open() else { return };
    let lab = &swarm.lab;
    let pool = "replicas: 0, start_timeout_ms: 6000, backoff: { min_ms: 600000, max_ms: 600000 }";
    for (keys, expected) in [
        (
            "image: 'sha256:0000000000000000000000000000000000000000000000000000000000000000'"
                .to_owned(),
            "No such image",
        ),
        (format!("{}, command: [--no-such-flag]", swarm.image()), "exit 2: "),
        (
            format!("{}, network: bridge", swarm.image()),
            "network bridge has the driver bridge, not overlay",
        ),
    ] {
        let a = swarm.start_unready(&lab.config_of("swarm", pool, &keys)).await;
        let begun = async || {
            let answer = change(&a, "/add", json!({"n": 1, "hostnames": [lab.name(1)]})).await;
            Some(answer).filter(|answer| answer.status != 503)
        };
        let answer = until("it takes changes", begun).await.unwrap();
        assert_eq!(answer.status, 500, "{}", answer.body);
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        let start = format!("<Error> {} did not start in time: ", lab.name(1));
        let reason = message.strip_prefix(&start).unwrap_or_else(|| panic!("{message}"));
        assert!(reason.starts_with(expected), "{keys}: {reason}");
        assert_eq!(reason.lines().count(), 1, "{reason}");
        swarm.until_each_runs_once(&[]).await;
        a.stop().await;
    }
    let yaml = swarm.config("replicas: 1");
    swarm.leave();
    let a = Balancer::start_unready(&yaml).await;
    let told = until("the cause is told", async || {
        let answer = change(&a, "/add", json!({"n": 1})).await;
        assert_eq!(answer.status, 503, "{}", answer.body);
        answer.body.contains("not a swarm manager").then_some(())
    });
    told.await.unwrap();
    a.stop().await;
}
