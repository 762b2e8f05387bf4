//! The only place that kills or stops processes, and what it refuses to kill.

use std::fs;

use anyhow::{Context, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A process on this machine that is a replica: one of its arguments is `replica`.
pub(crate) struct Victim(Pid);

impl Victim {
    /// Takes `pid` if it is a replica's: the balancer's word alone is not enough to kill a process.
    pub(crate) fn new(pid: i32) -> anyhow::Result<Self> {
        // 0 and below are not processes to kill(2), but groups of them.
        ensure!(pid > 1, "pid {pid} is not that of a replica");
        let path = format!("/proc/{pid}/cmdline");
        let cmdline = fs::read(&path).with_context(|| format!("reading {path}"))?;
        ensure!(
            cmdline.split(|byte| *byte == 0).any(|argument| argument == b"replica"),
            "process {pid} has no argument \"replica\": {:?}",
            String::from_utf8_lossy(&cmdline)
        );
        Ok(Self(Pid::from_raw(pid)))
    }

    /// SIGKILL: the process gets no chance to say goodbye.
    pub(crate) fn kill(self) -> anyhow::Result<()> {
        kill(self.0, Signal::SIGKILL).with_context(|| format!("killing process {}", self.0))
    }

    /// SIGSTOP: the process keeps its sockets, and does nothing.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        kill(self.0, Signal::SIGSTOP).with_context(|| format!("stopping process {}", self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    #[test]
    fn whatever_is_not_a_replica_is_refused() {
        let own = i32::try_from(process::id()).unwrap();
        for pid in [own, 1, 0, -1, -own, i32::MAX] {
            assert!(Victim::new(pid).is_err(), "{pid}");
        }
    }
}
