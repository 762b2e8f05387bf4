//! The description of the experiment, as `conf/experiments/chaos.yaml` has it.

use std::time::Duration;

use anyhow::ensure;
use serde::{Deserialize, Serialize};

use super::fault::Fault;
use crate::drive::Posts;

/// What is to be done. Unknown keys are errors.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Experiment {
    pub(super) title: String,
    /// Requests per second.
    pub(super) rate: u32,
    pub(super) connections: u16,
    /// One request in so many is a POST.
    #[serde(rename = "posts_every")]
    pub(super) posts: Posts,
    /// How long a request may take.
    timeout_ms: u64,
    pub(super) stages: Vec<Stage>,
}

/// Faults for one balancer.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stage {
    pub(super) name: String,
    /// That the balancer keeps; not together with `own_delays_ms`.
    #[serde(default)]
    pub(super) replicas: u32,
    /// A replica of our own for each, in a pool with provider fixed: how long it takes to answer.
    #[serde(default)]
    pub(super) own_delays_ms: Vec<u64>,
    /// Whether the replicas that the balancer keeps are containers, of an engine of the experiment's own.
    #[serde(default)]
    pub(super) engine: bool,
    /// Other keys of the balancer's pool.
    #[serde(default)]
    pub(super) pool: serde_yaml::Mapping,
    /// The balancer's limit of file descriptors.
    #[serde(default)]
    pub(super) descriptors: Option<u32>,
    pub(super) steps: Vec<Step>,
}

/// A fault, and the load around it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) fault: Fault,
    /// From the start of the load to the first time.
    #[serde(default)]
    pub(super) at_ms: u64,
    #[serde(default = "once")]
    pub(super) times: u32,
    /// From its end to the next time.
    #[serde(default)]
    pub(super) every_ms: u64,
    /// The load lasts so long, or until the last fault is over.
    pub(super) for_ms: u64,
}

fn once() -> u32 {
    1
}

impl Experiment {
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let it: Self = serde_yaml::from_str(text)?;
        for (key, value) in [
            ("rate", u64::from(it.rate)),
            ("connections", u64::from(it.connections)),
            ("timeout_ms", it.timeout_ms),
        ] {
            ensure!(value > 0, "{key} is 0, must be at least 1");
        }
        for Stage { name, replicas, own_delays_ms, engine, steps, .. } in &it.stages {
            ensure!(
                (*replicas > 0) == own_delays_ms.is_empty(),
                "stage {name:?} must have either replicas or own_delays_ms"
            );
            ensure!(
                !engine || *replicas > 0,
                "stage {name:?} must have replicas for its engine to run"
            );
            for step in steps {
                let name = &step.name;
                let needs_engine = matches!(step.fault, Fault::EngineRestart { .. });
                ensure!(*engine || !needs_engine, "the stage of {name:?} must have engine: true");
                ensure!(!name.contains([',', '"', '\n']), "step {name:?} cannot be in a table");
                ensure!(step.times > 0, "times of {name:?} is 0, must be at least 1");
            }
        }
        Ok(it)
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::{EXPERIMENT, SHORT};

    #[test]
    fn what_comes_with_the_program_is_valid() {
        Experiment::parse(EXPERIMENT).unwrap();
        Experiment::parse(SHORT).unwrap();
    }

    #[test]
    fn faults_are_named() {
        let good = "{title: t, rate: 1, connections: 1, posts_every: 1, timeout_ms: 1, stages: [{name: s, replicas: 1, \
                    steps: [{name: n, fault: {what: kill, replicas: 1}, times: 1, for_ms: 1}]}]}";
        Experiment::parse(good).unwrap();
        for (from, to, error) in [
            ("rate: 1", "rate: 0", "rate is 0"),
            ("posts_every: 1", "posts_every: 0", "nonzero"),
            ("replicas: 1, steps", "steps", "either replicas or own_delays_ms"),
            ("what: kill", "what: tickle", "unknown variant"),
            ("kill, replicas: 1", "engine_restart, down_ms: 1", "must have engine: true"),
            ("replicas: 1, steps", "own_delays_ms: [1], engine: true, steps", "for its engine"),
            ("kill, replicas", "kill, replica", "unknown field"),
            ("times: 1", "times: 0", "times of \"n\" is 0"),
            ("name: n", "name: 'n,m'", "cannot be in a table"),
            ("for_ms", "for", "unknown field"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from}");
            let found = format!("{:#}", Experiment::parse(&bad).err().unwrap());
            assert!(found.contains(error), "{found}");
        }
    }
}
