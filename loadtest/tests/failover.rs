//! The failover experiment through the real binary, against a small stand-in for the balancer whose
//! replicas are real processes.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may panic like the test itself")]

mod harness;

use std::{
    os::unix::process::CommandExt,
    process::{Child, Command},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Json, Router, http::HeaderMap, routing::get};
use serde_json::{Value, json};

use crate::harness::{Outcome, experiment, results, serve};

#[tokio::test]
async fn kills_are_measured_and_unnoticed() {
    let fleet = Fleet::new("replica");
    let (code, run) = failover("kept", &fleet, false).await;
    assert_eq!(code, Some(0), "{}{}", run.stdout, run.stderr);
    assert_eq!([&run.summary["kills"], &run.summary["recovered"]], [4, 4]);
    assert_eq!((&run.summary["failed"], &run.summary["keys_moved"]), (&json!({}), &json!(0)));
    let recovery_us = run.summary["recovery"]["p50_us"].as_u64().unwrap();
    assert!(
        recovery_us >= DOWN.as_micros() as u64,
        "{recovery_us} us, but it was down for {DOWN:?}"
    );
    let replicas: Vec<_> =
        run.file("kills.csv").lines().skip(1).map(|line| line[..2].to_owned()).collect();
    assert_eq!(replicas, ["S1", "S2", "S3", "S1"]);
    assert_eq!(fleet.incarnations(), [3, 2, 2]);
}

#[tokio::test]
async fn keys_that_move_break_the_promise() {
    let fleet = Fleet::new("replica");
    let (code, run) = failover("moved", &fleet, true).await;
    assert_eq!(code, Some(1), "{}{}", run.stdout, run.stderr);
    assert!(run.summary["keys_moved"].as_u64().unwrap() > 0, "{}", run.summary);
    assert_eq!(run.summary["recovered"], 4);
}

#[tokio::test]
async fn a_process_that_is_no_replica_is_not_killed() {
    let fleet = Fleet::new("innocent");
    let output = experiment("failover", &results("innocent"), &fleet.arguments(false).await).await;
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("has no argument \"replica\""), "{error}");
    assert_eq!(fleet.incarnations(), [1, 1, 1]);
}

#[tokio::test]
async fn another_machine_is_refused() {
    let arguments = ["--admin=http://192.0.2.1:5001".to_owned()];
    let output = experiment("failover", &results("remote"), &arguments).await;
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("http://192.0.2.1:5001 is not on this machine"), "{error}");
}

async fn failover(out: &str, fleet: &Fleet, keys_move: bool) -> (Option<i32>, Outcome) {
    let run = Outcome::of("failover", results(out), &fleet.arguments(keys_move).await).await;
    (run.code, run)
}

/// How long a replica of the stand-in stays down.
const DOWN: Duration = Duration::from_millis(50);

/// Three processes, each started again some time after it died.
#[derive(Clone)]
struct Fleet(Arc<Mutex<Vec<Process>>>);

struct Process {
    argument: &'static str,
    incarnation: u32,
    child: Child,
    died: Option<Instant>,
}

impl Fleet {
    /// Processes whose command line is `argument`, and a number of seconds.
    fn new(argument: &'static str) -> Self {
        let process = || Process { argument, incarnation: 1, child: sleeper(argument), died: None };
        Self(Arc::new(Mutex::new(vec![process(), process(), process()])))
    }

    /// Starts the listeners; returns the arguments of an experiment on them.
    async fn arguments(&self, keys_move: bool) -> Vec<String> {
        let fleet = self.clone();
        let list = async move || Json(fleet.list());
        let admin = serve(Router::new().route("/api/v1/pools/default/replicas", get(list))).await;
        let fleet = self.clone();
        let home = async move |headers: HeaderMap| {
            let id: u32 = headers["x-request-id"].to_str().unwrap().parse().unwrap();
            let turn = if keys_move { fleet.incarnations().iter().sum() } else { 0 };
            Json(json!({"id": format!("S{}", (id + turn) % 3 + 1)}))
        };
        let target = serve(Router::new().route("/home", get(home))).await;
        let options = ["--kills=4", "--pause-ms=20", "--rate=200"].map(str::to_owned);
        [format!("--target=http://{target}"), format!("--admin=http://{admin}")]
            .into_iter()
            .chain(options)
            .collect()
    }

    fn list(&self) -> Value {
        let mut processes = self.0.lock().unwrap();
        let replicas = processes.iter_mut().zip(1..).map(|(process, number)| process.view(number));
        json!({"replicas": replicas.collect::<Vec<_>>()})
    }

    fn incarnations(&self) -> Vec<u32> {
        self.0.lock().unwrap().iter().map(|process| process.incarnation).collect()
    }
}

impl Process {
    /// Notices a death, starts again when it is time, and tells the state.
    fn view(&mut self, number: u32) -> Value {
        if self.died.is_none() && self.child.try_wait().unwrap().is_some() {
            self.died = Some(Instant::now());
        }
        if self.died.is_some_and(|died| died.elapsed() >= DOWN) {
            self.child = sleeper(self.argument);
            self.incarnation += 1;
            self.died = None;
        }
        let phase = if self.died.is_some() { "down" } else { "serving" };
        json!({
            "name": format!("S{number}"), "phase": phase, "incarnation": self.incarnation, "pid": self.child.id()
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sleeper(argument: &str) -> Child {
    Command::new("sleep").arg0(argument).arg("600").spawn().unwrap()
}
