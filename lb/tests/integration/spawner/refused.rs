//! What a balancer that somebody else has taken over can reach: nothing but what is allowed.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::UnixStream,
};

use super::{Spawner, command, order};
use crate::harness::docker::{Lab, docker, inspect};

/// More than a spawner takes at a time.
const CROWD: usize = 200;

#[tokio::test]
async fn whatever_is_asked_nothing_else_is_started_or_touched() {
    let Some(lab) = Lab::open() else { return };
    let spawner = Spawner::start(&lab).await;
    let bystanders = Bystanders::start(&lab);
    let before = bystanders.look();

    for (change, expected) in [
        (json!({"image": "alpine"}), "image \"alpine\" is not allowed; allowed are: "),
        (json!({"network": "host"}), "network \"host\" is not allowed; allowed are: "),
        (json!({"cluster": "other"}), "cluster \"other\" is not kept here; this spawner keeps "),
        (json!({"command": ["--listen", "x"]}), "a command is not allowed"),
        (json!({"read_only": false}), "a root file system that can be written to is not allowed"),
        (json!({"environment": {"LD_PRELOAD": "x"}}), "environment variable \"LD_PRELOAD\" is not"),
        (json!({"environment": {"SERVER_ID": "1\n2"}}), "the value of SERVER_ID has a line break"),
        (json!({"port": 0}), "port is 0; allowed are 1 to 65535"),
        (json!({"name": "../x"}), "bad name \"../x\""),
        (
            json!({"limits": {"memory_bytes": 257 << 20, "cpu_millis": 1, "pids": 1}}),
            "memory_bytes is 269484032; allowed are 1 to 268435456",
        ),
        (
            json!({"limits": {"memory_bytes": 64 << 20, "cpu_millis": 1_001, "pids": 1}}),
            "cpu_millis is 1001; allowed are 1 to 1000",
        ),
        (
            json!({"limits": {"memory_bytes": 64 << 20, "cpu_millis": 1, "pids": 0}}),
            "pids is 0; allowed are 1 to 128",
        ),
        (json!({"privileged": true}), "not a request: unknown field `privileged`"),
        (json!({"binds": ["/:/host"]}), "not a request: unknown field `binds`"),
        (json!({"cap_add": ["SYS_ADMIN"]}), "not a request: unknown field `cap_add`"),
        (json!({"devices": ["/dev/sda"]}), "not a request: unknown field `devices`"),
    ] {
        let mut order = order(&lab, &lab.name("1"));
        order.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let answer = spawner.request(&json!({"ensure": order})).await;
        let text = answer["Err"]["Refused"].as_str().unwrap_or_else(|| panic!("{order}: {answer}"));
        assert!(text.starts_with(expected), "{text}\nis not: {expected}");
    }
    assert_eq!((lab.containers(), lab.networks()), (vec![], String::new()));
    for name in [&bystanders.unlabelled, &bystanders.of_another_cluster] {
        let answer = spawner.request(&json!({"ensure": order(&lab, name)})).await;
        let text = answer["Err"]["Refused"].as_str().unwrap_or_else(|| panic!("{answer}"));
        assert!(text.starts_with(&format!("the name {name} is held by a container of ")), "{text}");
        let stop = json!({"cluster": lab.id, "name": name, "incarnation": 1, "grace_ms": null});
        assert_eq!(spawner.request(&json!({"stop": stop})).await, json!({"Ok": null}));
        let logs = json!({"cluster": lab.id, "name": name, "lines": 20});
        assert_eq!(spawner.request(&json!({"logs": logs})).await, json!({"Ok": []}));
    }
    let stop = json!({"cluster": "other", "name": "x", "incarnation": 1, "grace_ms": null});
    let answer = spawner.request(&json!({"stop": stop})).await;
    assert!(
        answer["Err"]["Refused"].as_str().unwrap().starts_with("cluster \"other\""),
        "{answer}"
    );

    assert_eq!(bystanders.look(), before, "they are untouched");
    assert_eq!(lab.containers(), [""; 0]);
    let log = spawner.output.text();
    assert!(log.contains(&format!("pid={}", std::process::id())), "{log}");
    spawner.stop().await;
}

#[tokio::test]
async fn who_does_not_speak_the_language_starts_nothing_and_stops_nobody() {
    let Some(lab) = Lab::open() else { return };
    let spawner = Spawner::start(&lab).await;
    let good = format!("{}\n", json!({"ensure": order(&lab, &lab.name("1"))}));
    let oversized = good.replacen("{\"ensure\"", &format!("{}{{\"ensure\"", " ".repeat(70_000)), 1);
    for (bytes, expected) in [
        (oversized.as_bytes(), "not a request: a line is longer than 65536 bytes"),
        (b"\x00\xff garbage\n", "not a request: expected value"),
        (b"POST /containers/create HTTP/1.1\r\n\r\n", "not a request: expected value"),
        (&good.as_bytes()[..good.len() / 2], "no request within 5 s"),
    ] {
        let answer: Value = serde_json::from_str(&spawner.ask(bytes).await).unwrap();
        let text = answer["Err"]["Refused"].as_str().unwrap_or_else(|| panic!("{answer}"));
        assert!(text.starts_with(expected), "{text}\nis not: {expected}");
    }

    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push(UnixStream::connect(spawner.socket()).await.unwrap());
    }
    let inspect = json!({"inspect": {"cluster": lab.id}});
    assert_eq!(spawner.request(&inspect).await, json!({"Ok": []}), "after the silent ones");
    for stream in crowd {
        let mut lines = BufReader::new(stream).lines();
        let mut line = async || lines.next_line().await.unwrap();
        assert_eq!(line().await.as_deref(), Some("{\"Ok\":2}"));
        let end = line().await;
        assert_eq!(end.as_deref(), Some("{\"Err\":{\"Refused\":\"no request within 5 s\"}}"));
        assert_eq!(line().await, None);
    }
    assert_eq!((lab.containers(), lab.networks()), (vec![], String::new()));
    spawner.stop().await;
}

#[tokio::test]
async fn there_are_no_more_containers_than_allowed() {
    let Some(lab) = Lab::open() else { return };
    let spawner = Spawner::start(&lab).await;
    for name in lab.names(4) {
        let answer = spawner.request(&json!({"ensure": order(&lab, &name)})).await;
        assert_eq!(answer["Ok"]["running"], true, "{answer}");
    }
    let answer = spawner.request(&json!({"ensure": order(&lab, &lab.name("5"))})).await;
    let expected = "there are 4 containers; allowed are 4 (--replicas-max)";
    assert_eq!(answer, json!({"Err": {"Refused": expected}}));
    assert_eq!(lab.containers(), lab.names(4));
    spawner.stop().await;
}

#[tokio::test]
async fn a_second_spawner_does_not_take_the_socket() {
    let Some(lab) = Lab::open() else { return };
    let spawner = Spawner::start(&lab).await;
    let second = command(&spawner.folder, &lab).output().await.unwrap();
    let text = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{text}");
    let socket = spawner.socket();
    let expected = format!(
        "ringmaster: --socket: a process listens at {} already; end it, or choose another path\n",
        socket.display()
    );
    assert_eq!(text, expected);
    let inspect = json!({"inspect": {"cluster": lab.id}});
    assert_eq!(spawner.request(&inspect).await, json!({"Ok": []}));
    spawner.stop().await;
}

/// Containers that are not of the test's cluster.
struct Bystanders {
    unlabelled: String,
    of_another_cluster: String,
}

impl Bystanders {
    fn start(lab: &Lab) -> Self {
        let it =
            Self { unlabelled: lab.name("unlabelled"), of_another_cluster: lab.name("another") };
        let run = |name: &str, labels: &[&str]| {
            docker(
                &[&["run", "-d", "--network=none", "--name", name], labels, &[&lab.id]].concat(),
            );
        };
        run(&it.unlabelled, &[]);
        let labels = [
            "--label=ringmaster.cluster=another",
            "--label=ringmaster.pool=default",
            "--label=ringmaster.number=1",
            "--label=ringmaster.incarnation=1",
            "--label=ringmaster.port=5000",
        ];
        run(&it.of_another_cluster, &labels);
        it
    }

    fn look(&self) -> [Value; 2] {
        [&self.unlabelled, &self.of_another_cluster].map(|name| inspect(name)["State"].take())
    }
}

impl Drop for Bystanders {
    fn drop(&mut self) {
        let names = [&self.unlabelled, &self.of_another_cluster];
        let _ = std::process::Command::new("docker").args(["rm", "-f"]).args(names).output();
    }
}
