//! The files in `conf/examples`: all are good, and the classic ones are what the assignment asks for.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::{Value, json};

use crate::harness::{
    Balancer,
    docker::{Lab, docker},
    http, kill_9, ringmaster, until,
};

const CLASSIC: &str = include_str!("../../../conf/examples/classic.yaml");
const CLASSIC_PROCESS: &str = include_str!("../../../conf/examples/classic-process.yaml");

/// What the assignment's scheme makes of 10,000 requests with ids drawn evenly, by the number of the replica.
const SPLIT: [f64; 3] = [8437.5, 468.75, 1093.75];
const REQUESTS: u32 = 10_000;

fn examples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../conf/examples")
}

#[tokio::test]
async fn every_example_passes_check() {
    let mut count = 0;
    for entry in std::fs::read_dir(examples()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|it| it != "yaml") {
            continue;
        }
        let output = ringmaster().args(["check", "-c"]).arg(&path).output().await.unwrap();
        let (out, err) = (output.stdout, output.stderr);
        let text = format!("{}{}", String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
        assert!(output.status.success(), "{text}");
        count += 1;
    }
    assert!(count >= 2, "{}", examples().display());
}

/// The two differ in who runs the replicas, and in nothing else.
#[test]
fn the_classic_examples_are_the_same_pool() {
    let mut pools = [CLASSIC, CLASSIC_PROCESS].map(|text| parse(text)["pools"]["default"].clone());
    for pool in &mut pools {
        let pool = pool.as_object_mut().unwrap();
        pool.remove("provider");
        pool.remove("docker");
    }
    assert_eq!(pools[0], pools[1]);
}

#[tokio::test]
async fn the_classic_example_with_processes() {
    let mut config = parse(CLASSIC_PROCESS);
    config["listen"] = "127.0.0.1:0".into();
    let names = ["Server1", "Server2", "Server3"].map(str::to_owned);
    let balancer = start(&config).await;
    Walk { balancer, names, prefix: String::new() }.all(kill_9).await;
}

/// Called by the tests that need an engine.
pub(crate) async fn the_classic_example_with_containers() {
    let Some(lab) = Lab::open() else { return };
    let mut config = parse(CLASSIC);
    config["listen"] = "127.0.0.1:0".into();
    config["cluster"] = lab.id.clone().into();
    let names: [String; 3] = lab.names(3).try_into().unwrap();
    let pool = &mut config["pools"]["default"];
    assert_eq!(pool["docker"]["network"], "ringmaster-classic");
    pool["docker"]["network"] = lab.id.clone().into();
    pool["docker"]["image"] = lab.id.clone().into();
    pool["names"] = json!(names);
    let balancer = start(&config).await;
    let kill = |replica: &Value| drop(docker(&["kill", replica["name"].as_str().unwrap()]));
    Walk { balancer, names, prefix: lab.name("") }.all(kill).await;
    assert_eq!(lab.containers(), [""; 0], "none outlives the balancer");
}

fn parse(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

async fn start(config: &Value) -> Balancer {
    // The harness looks for the keys that begin a line.
    Balancer::start(&format!("\n{}", serde_yaml::to_string(config).unwrap())).await
}

/// What the assignment asks for, in its order.
struct Walk {
    balancer: Balancer,
    names: [String; 3],
    /// Begins the names that the walk gives.
    prefix: String,
}

impl Walk {
    async fn all(self, kill: impl Fn(&Value)) {
        self.endpoints().await;
        self.errors().await;
        self.spread().await;
        self.recovery(kill).await;
        self.balancer.stop().await;
    }

    async fn endpoints(&self) {
        let balancer = &self.balancer;
        let s = &self.names;
        assert_eq!(balancer.get("/rep").await.json(), listed(s));
        let mut met = BTreeMap::new();
        for id in 100_000..100_050 {
            let id = id.to_string();
            let headers = [("x-request-id", id.as_str())];
            let answer = http::send(balancer.proxy, "GET", "/home", &headers, "").await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            let answer = answer.json();
            let message = answer["message"].as_str().unwrap().to_owned();
            met.insert(answer["id"].as_str().unwrap().to_owned(), message);
        }
        for (name, message) in met {
            let number = s.iter().position(|it| *it == name).expect("one of the three") + 1;
            assert_eq!(message, format!("Hello from Server: {number}"), "{name}");
        }
        let heartbeat = balancer.get("/heartbeat").await;
        assert_eq!((heartbeat.status, heartbeat.body.as_str()), (200, ""));

        let (a, b) = (format!("{}S5", self.prefix), format!("{}S4", self.prefix));
        let body = json!({"n": 2, "hostnames": [a, b]}).to_string();
        let answer = http::send(balancer.proxy, "POST", "/add", &[], &body).await;
        assert_eq!((answer.status, answer.json()), (200, listed([&s[0], &s[1], &s[2], &a, &b])));
        let answer = http::send(balancer.proxy, "DELETE", "/rm", &[], &body).await;
        assert_eq!((answer.status, answer.json()), (200, listed([&s[0], &s[1], &s[2]])));
        let answer = http::send(balancer.proxy, "POST", "/add", &[], r#"{"n":1}"#).await;
        let generated = answer.json()["message"]["replicas"][3].as_str().unwrap().to_owned();
        assert!(is_random(&generated), "{generated}");
        let body = json!({"n": 1, "hostnames": [generated]}).to_string();
        let answer = http::send(balancer.proxy, "DELETE", "/rm", &[], &body).await;
        assert_eq!(answer.json()["message"]["N"], 3, "{}", answer.body);
    }

    async fn errors(&self) {
        let before = self.balancer.get("/rep").await.json();
        for (method, path, body, message) in [
            (
                "POST",
                "/add",
                r#"{"n":1,"hostnames":["A","B"]}"#,
                "<Error> Length of hostname list is more than newly added instances",
            ),
            (
                "DELETE",
                "/rm",
                r#"{"n":1,"hostnames":["A","B"]}"#,
                "<Error> Length of hostname list is more than removable instances",
            ),
            (
                "DELETE",
                "/rm",
                r#"{"n":1,"hostnames":["S9"]}"#,
                "<Error> Hostname mentioned is not present in the server list: S9",
            ),
            ("GET", "/other", "", "<Error> '/other' endpoint does not exist in server replicas"),
        ] {
            let answer = http::send(self.balancer.proxy, method, path, &[], body).await;
            let expected = json!({"message": message, "status": "failure"});
            assert_eq!((answer.status, answer.json()), (400, expected), "{method} {path} {body}");
        }
        assert_eq!(self.balancer.get("/rep").await.json(), before);
    }

    /// Ids that lie evenly in what six digits can be, so that the split differs from the expected one by its rounding.
    async fn spread(&self) {
        const CONNECTIONS: u32 = 8;
        let proxy = self.balancer.proxy;
        let mut workers = tokio::task::JoinSet::new();
        for worker in 0..CONNECTIONS {
            workers.spawn(async move {
                let mut served = BTreeMap::<String, u32>::new();
                let mut connection = http::Connection::open(proxy).await.unwrap();
                for at in (worker..REQUESTS).step_by(CONNECTIONS as usize) {
                    let id = (100_000 + at * 89).to_string();
                    let headers = [("x-request-id", id.as_str())];
                    let answer = connection.send("GET", "/home", &headers, "").await.unwrap();
                    assert_eq!(answer.status, 200, "{}", answer.body);
                    let name = answer.json()["id"].as_str().unwrap().to_owned();
                    *served.entry(name).or_default() += 1;
                }
                served
            });
        }
        let mut served = BTreeMap::<String, u32>::new();
        while let Some(of_one) = workers.join_next().await {
            for (name, count) in of_one.unwrap() {
                *served.entry(name).or_default() += count;
            }
        }
        for (name, expected) in self.names.iter().zip(SPLIT) {
            let count = f64::from(served.get(name).copied().unwrap_or(0));
            assert!((count - expected).abs() < 0.01 * f64::from(REQUESTS), "{name}: {served:?}");
        }
    }

    /// Every replica of the start is killed once; three serve afterwards, under new names.
    async fn recovery(&self, kill: impl Fn(&Value)) {
        for (turn, name) in self.names.iter().enumerate() {
            kill(&self.balancer.replica(name).await.unwrap());
            let replaced = async || {
                let rep = self.balancer.get("/rep").await.json()["message"].clone();
                let names: Vec<String> = serde_json::from_value(rep["replicas"].clone()).unwrap();
                let fresh = names.iter().filter(|it| is_random(it)).count();
                (rep["N"] == 3 && fresh == turn + 1).then_some(names)
            };
            let names = until("a replacement serves", replaced).await.unwrap();
            assert!(!names.contains(name), "{names:?}");
            assert_eq!(self.balancer.get("/home").await.status, 200);
        }
        let counted = r#"ringmaster_respawns_total{cause="exit",pool="default",replica="*"} 3"#;
        self.balancer.until_counted(counted).await;
    }
}

fn listed<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Value {
    let names: Vec<String> = names.into_iter().map(|it| it.as_ref().to_owned()).collect();
    json!({"message": {"N": names.len(), "replicas": names}, "status": "successful"})
}

/// Whether the name is one that `naming: random` generates.
fn is_random(name: &str) -> bool {
    let digits = name.strip_prefix("Server").unwrap_or_default();
    digits.len() == 6 && digits.bytes().all(|it| it.is_ascii_digit())
}
