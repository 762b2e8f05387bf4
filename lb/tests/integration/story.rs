//! One story, told of every provider: whatever runs the replicas, operators and clients see the same.

use std::collections::BTreeMap;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    cli::{column, run},
    harness::{
        Balancer,
        docker::{Lab, inspect},
        is_alive,
        load::Load,
        swarm::SwarmLab,
    },
};

const CONNECTIONS: usize = 8;

/// As many as are added at once.
const MANY: usize = 20;

/// The back-off stays at its first step, twenty starts at once have their time, and heartbeats leave it to the provider
/// to tell of an end, as they do not know how it came.
const POOL: &str = "replicas: 2, start_timeout_ms: 120000, backoff: { healthy_after_ms: 1 }, \
                    heartbeat: { missed_max: 100 }";

/// Where the story is told: a provider, and what a test needs around it.
enum Stage {
    Process,
    Docker(Lab),
    Swarm(SwarmLab),
}

#[tokio::test]
async fn of_processes() {
    Stage::Process.tell().await;
}

/// Called by the tests that need an engine.
pub(crate) async fn of_containers() {
    let Some(lab) = Lab::open() else { return };
    Stage::Docker(lab).tell().await;
}

/// Called by the tests that need an engine.
pub(crate) async fn of_services() {
    let Some(lab) = SwarmLab::open() else { return };
    Stage::Swarm(lab).tell().await;
}

impl Stage {
    async fn tell(&self) {
        let folder = tempfile::tempdir().unwrap();
        let config = self.config(&folder);
        let balancer = self.start(&config).await;
        self.plans_change_nothing(&balancer).await;
        self.replicas_come_and_go_as_asked(&balancer).await;
        self.failures_and_restarts_go_unnoticed(&balancer).await;
        let balancer = self.the_next_balancer_takes_over(balancer, &config).await;
        self.none_is_a_number_and_so_are_twenty(&balancer).await;
        balancer.stop().await;
    }

    async fn plans_change_nothing(&self, balancer: &Balancer) {
        let [a, b, c] = ["a", "b", "c"].map(|suffix| self.name(suffix));
        let state = async || (facts(balancer).await, balancer.admin("/api/v1/pools/default").await);
        let before = state().await;
        assert_eq!(before.0.keys().collect::<Vec<_>>(), [&a, &b]);
        for words in [
            "plan --add 2".to_owned(),
            format!("plan --remove {a}"),
            format!("add 1 {c} --dry-run"),
            format!("rm {a} --dry-run"),
            "rm 2 --dry-run".to_owned(),
            format!("restart {b} --dry-run"),
        ] {
            let plan = run(balancer.admin, &format!("{words} --json")).await.json();
            assert_eq!(plan["version"], before.1["version"], "{words}");
            assert_eq!(plan["between_survivors"], 0.0, "{words}");
        }
        assert_eq!(state().await, before);
    }

    async fn replicas_come_and_go_as_asked(&self, balancer: &Balancer) {
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|suffix| self.name(suffix));
        let out = run(balancer.admin, &format!("add 2 {c} {d}")).await.out();
        assert!(out.starts_with("4 of 4 replicas serve\n"), "{out}");
        assert_eq!(column(&out), [&a, &b, &c, &d]);
        let rep = balancer.get("/rep").await.json();
        assert_eq!(rep["message"], json!({"N": 4, "replicas": [a, b, c, d]}));

        let out = run(balancer.admin, &format!("rm {b} {c}")).await.out();
        assert_eq!(column(&out), [&a, &d]);
        let fault = run(balancer.admin, &format!("rm {b}")).await.fault(1);
        assert!(fault.contains(&b), "{fault}");

        // The lowest number that is free; a name may be given again.
        let out = run(balancer.admin, &format!("add {c}")).await.out();
        assert_eq!(column(&out), [&a, &d, &c]);
        let numbers: Vec<Value> =
            facts(balancer).await.into_values().map(|it| it["number"].clone()).collect();
        assert_eq!(numbers, [1, 2, 4], "of {a}, {c} and {d}");
        let out = run(balancer.admin, "status").await.out();
        assert!(out.contains("3 of 3 wanted replicas serve"), "{out}");
    }

    async fn failures_and_restarts_go_unnoticed(&self, balancer: &Balancer) {
        let [a, c] = ["a", "c"].map(|suffix| self.name(suffix));
        let load = Load::start(balancer.proxy, CONNECTIONS);
        load.until_sent(100).await;
        let before = self.pid(balancer, &c).await;
        let out = run(balancer.admin, &format!("restart {c}")).await.out();
        assert!(out.starts_with("3 of 3 replicas serve\n"), "{out}");
        assert_ne!(self.pid(balancer, &c).await, before);

        let replica = balancer.replica(&a).await.unwrap();
        let pid = self.pid(balancer, &a).await;
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        balancer.until_serving(&a, replica["incarnation"].as_u64().unwrap()).await;
        let healed = balancer.replica(&a).await.unwrap();
        assert_eq!(healed["number"], replica["number"]);
        assert_eq!(healed["last_exit"]["code"], 137, "{healed}");
        assert_eq!(healed["last_exit"]["reason"], "killed by signal 9", "{healed}");
        // The first line of a process is its address, which is for the provider.
        if !matches!(self, Self::Process) {
            assert_eq!(healed["last_exit"]["log"][0], "listening on 0.0.0.0:5000", "{healed}");
        }
        load.until_sent(load.sent() + 100).await;
        let outcome = load.finish().await;
        assert_eq!(outcome.failures, BTreeMap::new(), "of {} requests", outcome.sent);
        self.assert_runs(balancer, &["a", "c", "d"]).await;
    }

    async fn the_next_balancer_takes_over(&self, mut balancer: Balancer, config: &str) -> Balancer {
        let before = (facts(&balancer).await, self.pids(&balancer).await);
        balancer.signal(Signal::SIGKILL);
        balancer.ended().await;
        let balancer = self.start(config).await;
        let after = (facts(&balancer).await, self.pids(&balancer).await);
        assert_eq!(after, before, "0 restarts, 0 duplicates");
        balancer
    }

    async fn none_is_a_number_and_so_are_twenty(&self, balancer: &Balancer) {
        let out = run(balancer.admin, "rm 3").await.out();
        assert_eq!(column(&out), [""; 0]);
        self.assert_runs(balancer, &[]).await;
        assert!(run(balancer.admin, "rm").await.fault(1).contains("only 0 exist"));

        let suffixes: Vec<String> = (1..=MANY).map(|number| number.to_string()).collect();
        let suffixes: Vec<&str> = suffixes.iter().map(String::as_str).collect();
        let names: Vec<String> = suffixes.iter().map(|it| self.name(it)).collect();
        let words = format!("add {MANY} {} --timeout 120", names.join(" "));
        let out = run(balancer.admin, &words).await.out();
        assert_eq!(column(&out), names);
        self.assert_runs(balancer, &suffixes).await;
        let owner = balancer.get("/home").await.json()["id"].as_str().unwrap().to_owned();
        assert!(names.contains(&owner), "{owner}");
        let words = format!("rm {MANY} --timeout 120");
        assert_eq!(column(&run(balancer.admin, &words).await.out()), [""; 0]);
        self.assert_runs(balancer, &[]).await;
    }

    // === What differs ===

    fn config(&self, folder: &TempDir) -> String {
        let names = format!("names: [{}, {}]", self.name("a"), self.name("b"));
        let keys = format!("{POOL}, {names}");
        let state = format!("state_file: '{}'\n", folder.path().join("state.json").display());
        match self {
            Self::Process => format!("{state}pools: {{ default: {{ {keys} }} }}"),
            Self::Docker(lab) => format!("{state}{}", lab.config(&keys, &lab.image())),
            Self::Swarm(swarm) => format!("{state}{}", swarm.config(&keys)),
        }
    }

    fn name(&self, suffix: &str) -> String {
        match self {
            Self::Process => format!("R-{suffix}"),
            Self::Docker(lab) => lab.name(suffix),
            Self::Swarm(swarm) => swarm.lab.name(suffix),
        }
    }

    async fn start(&self, config: &str) -> Balancer {
        match self {
            Self::Process | Self::Docker(_) => Balancer::start(config).await,
            Self::Swarm(swarm) => swarm.start(config).await,
        }
    }

    /// The process that runs a replica.
    async fn pid(&self, balancer: &Balancer, name: &str) -> i32 {
        let of_container = |id: &str| inspect(id)["State"]["Pid"].as_i64();
        let pid = match self {
            Self::Process => balancer.replica(name).await.unwrap()["pid"].as_i64(),
            Self::Docker(_) => of_container(name),
            // The one of an earlier incarnation may still be about to end.
            Self::Swarm(swarm) => {
                swarm.until_each_runs_once(&self.wanted(balancer).await).await;
                of_container(&swarm.containers(name)[0])
            }
        };
        pid.unwrap() as i32
    }

    async fn pids(&self, balancer: &Balancer) -> Vec<i32> {
        let mut pids = Vec::new();
        for name in self.wanted(balancer).await {
            pids.push(self.pid(balancer, &name).await);
        }
        pids
    }

    async fn wanted(&self, balancer: &Balancer) -> Vec<String> {
        facts(balancer).await.into_keys().collect()
    }

    /// These run, each once, and no other.
    async fn assert_runs(&self, balancer: &Balancer, suffixes: &[&str]) {
        let mut names: Vec<String> = suffixes.iter().map(|it| self.name(it)).collect();
        names.sort();
        assert_eq!(self.wanted(balancer).await, names);
        match self {
            Self::Process => {
                let pids = self.pids(balancer).await;
                assert!(pids.into_iter().all(|pid| is_alive(pid as u32)));
            }
            Self::Docker(lab) => assert_eq!(lab.containers(), names),
            Self::Swarm(swarm) => swarm.until_each_runs_once(&names).await,
        }
    }
}

/// name → what a takeover must not change.
async fn facts(balancer: &Balancer) -> BTreeMap<String, Value> {
    let fact = |it: Value| {
        let name = it["name"].as_str().unwrap().to_owned();
        (name, json!({"number": it["number"], "address": it["address"], "phase": it["phase"]}))
    };
    balancer.replicas().await.into_iter().map(fact).collect()
}
