//! What must be known about a run to repeat it or to doubt it.

use std::{env, fs, process::Command, thread};

use serde::{Deserialize, Serialize};

use crate::run_dir::unix_time_ms;

/// The circumstances of a run; `P` is what the experiment planned.
#[derive(Serialize, Deserialize)]
pub(crate) struct Manifest<P> {
    /// The arguments, the program first.
    pub(crate) command: Vec<String>,
    /// Decides the ids of the requests.
    pub(crate) seed: u64,
    pub(crate) target: String,
    pub(crate) plan: P,
    pub(crate) started_unix_ms: u64,
    /// The commit checked out where the experiment was started, if it was in a repository.
    pub(crate) commit: Option<String>,
    pub(crate) machine: Machine,
}

/// Where the load came from; facts that the system does not tell are absent.
#[derive(Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cpu: Option<String>,
    pub(crate) cores: Option<usize>,
    pub(crate) kernel: Option<String>,
}

impl<P> Manifest<P> {
    /// A run that starts here and now.
    pub(crate) fn new(seed: u64, target: String, plan: P) -> Self {
        Self {
            command: env::args().collect(),
            seed,
            target,
            plan,
            started_unix_ms: unix_time_ms(),
            commit: commit(),
            machine: Machine::this(),
        }
    }
}

impl Machine {
    fn this() -> Self {
        Self {
            cpu: fs::read_to_string("/proc/cpuinfo").ok().as_deref().and_then(cpu_model),
            cores: thread::available_parallelism().ok().map(usize::from),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .ok()
                .map(|text| text.trim_end().into()),
        }
    }
}

fn cpu_model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().into())
}

fn commit() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "HEAD"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim_end().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_the_first_model_name() {
        let cases = [
            ("processor\t: 0\nmodel name\t: A: b\nmodel name\t: C\n", Some("A: b")),
            ("processor\t: 0\n", None),
        ];
        for (cpuinfo, expected) in cases {
            assert_eq!(cpu_model(cpuinfo).as_deref(), expected);
        }
    }
}
