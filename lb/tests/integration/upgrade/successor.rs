//! A balancer that is followed from process to process: what serves is one thing, who serves another.

use std::{net::SocketAddr, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use crate::harness::{Balancer, DEADLINE, http, idle::Subject, is_alive, until};

pub(super) struct Service {
    pub(super) proxy: SocketAddr,
    pub(super) secure: Option<SocketAddr>,
    pub(super) admin: SocketAddr,
    /// The process that was started first, with what all of them print.
    first: Balancer,
    /// Every process so far; the last one serves.
    pids: Vec<u32>,
}

impl Drop for Service {
    /// Those that were not started here would outlive a test that fails. Their replicas end without heartbeats.
    fn drop(&mut self) {
        for &pid in &self.pids[1..] {
            signal(pid, Signal::SIGKILL);
        }
    }
}

impl Service {
    pub(super) async fn start(yaml: &str) -> Self {
        Self::of(Balancer::start(yaml).await)
    }

    pub(super) async fn start_program(program: &Path, yaml: &str) -> Self {
        Self::of(Balancer::start_program(program, yaml).await)
    }

    pub(super) async fn start_in(environment: &[(&str, &Path)], yaml: &str) -> Self {
        Self::of(Balancer::start_in(environment, yaml).await)
    }

    pub(super) fn of(first: Balancer) -> Self {
        let Balancer { proxy, secure, admin, .. } = first;
        Self { proxy, secure, admin, pids: vec![first.pid()], first }
    }

    /// The process that serves.
    pub(super) fn pid(&self) -> u32 {
        *self.pids.last().unwrap()
    }

    pub(super) fn output(&self) -> String {
        self.first.output()
    }

    pub(super) fn rewrite_config(&self, yaml: &str) {
        self.first.rewrite_config(yaml);
    }

    pub(super) async fn owners(&self, keys: impl IntoIterator<Item = u32>) -> Vec<String> {
        self.first.owners(keys).await
    }

    /// Asks for an upgrade to `binary`, or to the same one if it is empty.
    pub(super) async fn ask(&self, binary: &str, timeout_s: u32) -> http::Answer {
        let binary = (!binary.is_empty()).then_some(binary);
        let body = json!({ "binary": binary, "timeout_s": timeout_s }).to_string();
        http::send(self.admin, "POST", "/api/v1/upgrade", &[], &body).await
    }

    /// Upgrades, and checks that another process serves.
    pub(super) async fn upgrade(&mut self, binary: &str) {
        let answer = self.ask(binary, 60).await;
        assert_eq!(answer.status, 200, "{}\n{}", answer.body, self.output());
        let answer = answer.json();
        assert_eq!(answer["predecessor"], self.pid());
        self.follow(answer["pid"].as_u64().unwrap() as u32).await;
    }

    /// `pid` serves from now on.
    pub(super) async fn follow(&mut self, pid: u32) {
        assert!(!self.pids.contains(&pid) && is_alive(pid), "{pid}");
        self.pids.push(pid);
    }

    /// Waits until the process that serves has `n` requests.
    pub(super) async fn until_open(&self, n: u32) {
        let line = format!("ringmaster_requests_open{{pool=\"default\"}} {n}");
        self.first.until_counted(&line).await;
    }

    /// Waits until every process but the one that serves has ended.
    pub(super) async fn until_alone(&self) {
        let old = &self.pids[..self.pids.len() - 1];
        let ended = async || old.iter().all(|&pid| !is_alive(pid)).then_some(());
        assert!(until("the old ones end", ended).await.is_some(), "{}", self.output());
    }

    pub(super) fn kill(&self, replica: u64) {
        signal(replica as u32, Signal::SIGKILL);
    }

    pub(super) fn terminate(&self, pid: u32) {
        signal(pid, Signal::SIGTERM);
    }

    pub(super) async fn crash(&mut self) {
        self.first.settled();
        let pid = self.pid();
        signal(pid, Signal::SIGKILL);
        let ended = async || (!is_alive(pid)).then_some(());
        until("it ends", ended).await.unwrap();
    }

    /// Waits until none of them is left.
    pub(super) async fn until_ended(&mut self) {
        self.first.settled();
        let ended = async || self.pids.iter().all(|&pid| !is_alive(pid)).then_some(());
        assert!(until("all of them end", ended).await.is_some(), "{}", self.output());
    }

    /// Ends it as an operator would, and checks that the process that serves is idle before, and that nothing is left.
    pub(super) async fn stop(mut self) {
        let subject = Subject { pid: self.pid(), ..self.first.subject() };
        if let Err(fault) = subject.idle_within(DEADLINE).await {
            panic!("{fault}\nit printed:\n{}", self.output());
        }
        self.first.settled();
        let replicas = self.first.replicas().await;
        let replicas: Vec<_> = replicas.iter().filter_map(|it| it["pid"].as_u64()).collect();
        self.terminate(self.pid());
        let all = self.pids.iter().copied().chain(replicas.into_iter().map(|it| it as u32));
        let all: Vec<u32> = all.collect();
        let ended = async || all.iter().all(|&pid| !is_alive(pid)).then_some(());
        assert!(until("all of it ends", ended).await.is_some(), "{all:?}\n{}", self.output());
    }
}

fn signal(pid: u32, signal: Signal) {
    // It may have ended already.
    let _ = kill(Pid::from_raw(pid as i32), signal);
}
