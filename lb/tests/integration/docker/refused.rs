//! What cannot be started: each cause in one line, with what to do, and nothing changed.

use std::{
    fs::{Permissions, set_permissions},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::UnixListener,
    },
    path::Path,
};

use serde_json::json;

use crate::harness::{
    Balancer, config_file,
    docker::{Lab, docker, inspect},
    http::{self, Answer},
    ringmaster, until,
};

#[tokio::test]
async fn why_a_container_does_not_start_is_told_in_one_line() {
    let Some(lab) = Lab::open() else { return };
    let image = lab.image();
    // The next try is later than the patience, so each failure is told at once.
    let patient = "replicas: 0, backoff: { min_ms: 600000, max_ms: 600000 }";
    let impatient = "replicas: 0, start_timeout_ms: 4000";
    for (pool, keys, expected) in [
        (
            patient,
            "image: 'no.such.registry/x:1'",
            "image no.such.registry/x:1 is not on the engine: `docker pull no.such.registry/x:1`",
        ),
        (patient, &format!("{image}, command: [--no-such-flag]"), "exit 2: "),
        (impatient, &format!("{image}, port: 5999"), "it answered no heartbeat"),
        (
            patient,
            &format!("{image}, network: host"),
            "network host has the driver host, not bridge: name another network",
        ),
        (patient, &format!("{image}, network: bridge"), "network bridge is the engine's own"),
        (patient, &format!("{image}, cpu_millis: 1024000"), "Range of CPUs is from"),
    ] {
        let balancer = Balancer::start_unready(&lab.config(pool, keys)).await;
        let name = lab.name("1");
        let message = refusal(&balancer, &name).await;
        let start = format!("<Error> {name} did not start in time: ");
        let reason = message.strip_prefix(&start).unwrap_or_else(|| panic!("{message}"));
        assert!(reason.starts_with(expected), "{keys}: {reason}");
        assert_eq!(reason.lines().count(), 1, "{reason}");
        let gone = until("nothing is left", async || lab.containers().is_empty().then_some(()));
        assert!(gone.await.is_some(), "{keys}: {:?}", lab.containers());
        balancer.stop().await;
    }
}

#[tokio::test]
async fn why_an_engine_is_not_reached_is_told_in_one_line() {
    let Some(lab) = Lab::open() else { return };
    let folder = tempfile::tempdir().unwrap();
    let socket = |name: &str| folder.path().join(name).display().to_string();
    // Nobody listens at the first, and nobody answers at the second.
    drop(UnixListener::bind(socket("dead")).unwrap());
    let _silent = UnixListener::bind(socket("silent")).unwrap();
    for (name, expected) in [
        ("none", format!("no engine at unix://{}: ", socket("none"))),
        ("dead", format!("no engine answers at unix://{}; start Docker", socket("dead"))),
        (
            "silent",
            format!("the engine at unix://{} has not answered within 3 s", socket("silent")),
        ),
    ] {
        let keys = format!("{}, socket: '{}'", lab.image(), socket(name));
        let balancer = Balancer::start_unready(&lab.config("replicas: 0", &keys)).await;
        until_told(&balancer, &lab.name("1"), &expected).await;
        balancer.stop().await;
    }
}

#[tokio::test]
async fn a_socket_that_may_not_be_used_is_told_from_one_that_is_not_there() {
    const NOBODY: u32 = 65_534;
    let Some(lab) = Lab::open() else { return };
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("closed");
    let _listening = UnixListener::bind(&socket).unwrap();
    let allow = |path: &Path, mode| set_permissions(path, Permissions::from_mode(mode)).unwrap();
    allow(folder.path(), 0o755);
    allow(&socket, 0o000);
    let keys = format!("{}, socket: '{}'", lab.image(), socket.display());
    let file = config_file(&format!(
        "listen: 127.0.0.1:0\nadmin: {{ listen: 127.0.0.1:0 }}\n{}",
        lab.config("replicas: 0, start_timeout_ms: 1000", &keys)
    ));
    allow(file.path(), 0o644);
    let mut command = ringmaster();
    // Root may use any socket.
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        command.uid(NOBODY);
    }
    command.arg("-c").arg(file.path());
    let balancer = Balancer::launch(command, Some(file)).await;
    let expected = format!("no permission to speak to the engine at unix://{}: ", socket.display());
    until_told(&balancer, &lab.name("1"), &expected).await;
    balancer.stop().await;
}

#[tokio::test]
async fn a_container_of_somebody_else_is_named_and_not_touched() {
    let Some(lab) = Lab::open() else { return };
    let name = lab.name("1");
    docker(&["run", "-d", "--name", &name, "--network", "none", &lab.id]);
    let before = inspect(&name);
    let pool = "replicas: 0, backoff: { min_ms: 600000, max_ms: 600000 }";
    let balancer = Balancer::start_unready(&lab.config(pool, &lab.image())).await;
    let message = refusal(&balancer, &name).await;
    let after = inspect(&name);
    docker(&["rm", "-f", &name]);
    let id: String = before["Id"].as_str().unwrap().chars().take(12).collect();
    let expected = format!(
        "the name {name} is held by a container of somebody else ({id}, image {}): \
         remove or rename that one, or use another name",
        lab.id
    );
    assert!(message.ends_with(&expected), "{message}");
    for key in ["Id", "State"] {
        assert_eq!(after[key], before[key]);
    }
    balancer.stop().await;
}

#[tokio::test]
async fn a_name_that_no_container_can_have_is_refused_at_once() {
    const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
    let Some(lab) = Lab::open() else { return };
    let pool = format!("replicas: 1, names: {:?}", lab.names(1));
    let balancer = Balancer::start(&lab.config(&pool, &lab.image())).await;
    let rule = "bad name \"A\": the name of a container has at least 2 characters";
    for (path, body) in [
        ("/add", json!({"n": 1, "hostnames": ["A"]})),
        ("/add", json!({"n": 2, "hostnames": [lab.name("2"), "A:5000"]})),
        ("/api/v1/pools/default/replicas", json!({"n": 1, "names": ["A"]})),
    ] {
        let answer = http::send(balancer.admin, "POST", path, JSON, &body.to_string()).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.body);
        let body: serde_json::Value = answer.json();
        let message = if path == "/add" { &body["message"] } else { &body["error"]["message"] };
        let told = message.as_str().unwrap();
        assert_eq!(told.strip_prefix("<Error> ").unwrap_or(told), rule, "{path}");
    }
    assert_eq!(lab.containers(), lab.names(1), "nothing was started");
    balancer.stop().await;

    let config = config_file(&lab.config("replicas: 1, names: ['A:80']", &lab.image()));
    let check = ringmaster().args(["check", "-c"]).arg(config.path()).output().await.unwrap();
    assert_eq!(check.status.code(), Some(2));
    let text = String::from_utf8(check.stderr).unwrap();
    assert!(text.contains(&format!("pools.default.names: {rule}")), "{text}");
}

async fn add(balancer: &Balancer, name: &str) -> Answer {
    let body = json!({"n": 1, "hostnames": [name]}).to_string();
    http::send(balancer.proxy, "POST", "/add", &[], &body).await
}

fn message(answer: &Answer) -> String {
    answer.json()["message"].as_str().unwrap().to_owned()
}

/// What `/add` says of a replica that cannot be started.
async fn refusal(balancer: &Balancer, name: &str) -> String {
    // Until it knows what an earlier balancer left, it takes no changes.
    let begun = async || Some(add(balancer, name).await).filter(|answer| answer.status != 503);
    let answer = until("it takes changes", begun).await.unwrap();
    assert_eq!(answer.status, 500, "{}", answer.body);
    message(&answer)
}

/// Waits until `/add` is refused since the engine cannot be reached, as `expected` says.
async fn until_told(balancer: &Balancer, name: &str, expected: &str) {
    let start =
        format!("<Error> replicas of an earlier balancer are still being looked for: {expected}");
    let mut last = String::new();
    let told = until("the cause is told", async || {
        let answer = add(balancer, name).await;
        assert_eq!(answer.status, 503, "{}", answer.body);
        last = message(&answer);
        last.starts_with(&start).then_some(())
    });
    let told = told.await.is_some();
    assert!(told && last.lines().count() == 1, "{last}");
}
