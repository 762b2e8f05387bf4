//! The only processes and containers that an experiment may kill: replicas.

use std::fs;

use anyhow::{Context, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{admin::Replica, engine::Docker};

/// A replica on this machine.
pub(crate) enum Victim {
    /// One of its arguments is `replica`.
    Process(Pid),
    /// Of the engine that `docker` speaks to by itself, with the label that a balancer gives to this replica.
    Container(String),
}

impl Victim {
    /// The process that runs `replica`.
    pub(crate) fn process(replica: &Replica) -> anyhow::Result<Self> {
        Self::from_pid(replica.pid.with_context(|| {
            let name = &replica.name;
            format!("replica {name} has no pid: it is not a process that could be killed")
        })?)
    }

    /// The container that runs `replica`.
    pub(crate) fn container(replica: &Replica) -> anyhow::Result<Self> {
        let name = replica.name.clone();
        let format = "{{index .Config.Labels \"ringmaster.name\"}}";
        let label = Docker::of_machine().run(&["inspect", "--format", format, &name])?;
        ensure!(label == name, "container {name} is not a replica of this name");
        Ok(Self::Container(name))
    }

    /// Takes `pid` if it is a replica's: the balancer's word alone is not enough to kill a process.
    fn from_pid(pid: i32) -> anyhow::Result<Self> {
        // 0 and below are not processes to kill(2), but groups of them.
        ensure!(pid > 1, "pid {pid} is not that of a replica");
        let path = format!("/proc/{pid}/cmdline");
        let cmdline = fs::read(&path).with_context(|| format!("reading {path}"))?;
        ensure!(
            cmdline.split(|byte| *byte == 0).any(|argument| argument == b"replica"),
            "process {pid} has no argument \"replica\": {:?}",
            String::from_utf8_lossy(&cmdline)
        );
        Ok(Self::Process(Pid::from_raw(pid)))
    }

    /// SIGKILL: it gets no chance to say goodbye.
    pub(crate) fn kill(self) -> anyhow::Result<()> {
        match self {
            Self::Process(pid) => signal(pid, Signal::SIGKILL),
            Self::Container(name) => Docker::of_machine().run(&["kill", &name]).map(drop),
        }
    }

    /// It keeps its sockets, and does nothing.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        match self {
            Self::Process(pid) => signal(pid, Signal::SIGSTOP),
            Self::Container(name) => Docker::of_machine().run(&["pause", &name]).map(drop),
        }
    }
}

fn signal(pid: Pid, signal: Signal) -> anyhow::Result<()> {
    kill(pid, signal).with_context(|| format!("sending {signal} to process {pid}"))
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    #[test]
    fn whatever_is_not_a_replica_is_refused() {
        let own = i32::try_from(process::id()).unwrap();
        for pid in [own, 1, 0, -1, -own, i32::MAX] {
            assert!(Victim::from_pid(pid).is_err(), "{pid}");
        }
    }
}
