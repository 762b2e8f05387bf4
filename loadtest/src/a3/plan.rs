//! The description of A-3, as `conf/experiments/a3.yaml` has it.

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use super::recovery::Way;
use crate::failover::KillLoad;

/// What is to be done. Unknown keys are errors.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Experiment {
    pub(super) title: String,
    pub(super) replicas: u32,
    /// Keys of the balancer's pool.
    pub(super) pool: serde_yaml::Mapping,
    /// Made in this order, before the kills.
    pub(super) calls: Vec<Call>,
    /// Replicas to kill, one at a time.
    kills: u32,
    /// Requests per second meanwhile.
    rate: u32,
    connections: u16,
    /// The same for replicas that are containers, where there is an engine.
    containers: Containers,
    /// Decides the ids of the requests.
    pub(super) seed: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Containers {
    kills: u32,
    rate: u32,
}

/// A request, and what its answer must be.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Call {
    pub(super) method: String,
    pub(super) path: String,
    #[serde(default)]
    pub(super) body: String,
    pub(super) status: u16,
    /// A part of the answer's body.
    #[serde(default)]
    pub(super) says: String,
}

impl Experiment {
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let it: Self = serde_yaml::from_str(text)?;
        for (key, value) in [
            ("replicas", u64::from(it.replicas)),
            ("kills", u64::from(it.kills)),
            ("rate", u64::from(it.rate)),
            ("connections", u64::from(it.connections)),
            ("containers.kills", u64::from(it.containers.kills)),
            ("containers.rate", u64::from(it.containers.rate)),
        ] {
            ensure!(value > 0, "{key} is 0, must be at least 1");
        }
        for Call { method, path, .. } in &it.calls {
            method
                .parse::<hyper::Method>()
                .with_context(|| format!("{method:?} is not a method"))?;
            ensure!(path.starts_with('/'), "path {path:?} must start with '/'");
            path.parse::<hyper::Uri>().with_context(|| format!("{path:?} is not a path"))?;
            ensure!(!path.contains(','), "path {path:?} cannot be in a table: it contains ','");
        }
        Ok(it)
    }

    pub(super) fn load(&self, way: Way) -> KillLoad {
        let (kills, rate) = match way {
            Way::Kill9 => (self.kills, self.rate),
            Way::DockerKill => (self.containers.kills, self.containers.rate),
        };
        KillLoad { kills, rate, connections: self.connections, seed: self.seed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_with_the_program_is_valid_and_faults_are_named() {
        let good = crate::a3::EXPERIMENT;
        Experiment::parse(good).unwrap();
        for (from, to, error) in [
            ("kills: 10", "kills: 0", "kills is 0"),
            ("path: /rep,", "path: rep,", "must start with '/'"),
            ("method: GET,", "method: 'G T',", "is not a method"),
            ("seed:", "sede:", "unknown field"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from}");
            let found = format!("{:#}", Experiment::parse(&bad).err().unwrap());
            assert!(found.contains(error), "{found}");
        }
    }
}
