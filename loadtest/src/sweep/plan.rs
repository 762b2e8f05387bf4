//! The description of an experiment, as `conf/experiments/*.yaml` has it.

use anyhow::ensure;
use serde::{Deserialize, Serialize};

/// What is to be done. Unknown keys are errors.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Experiment {
    pub(super) title: String,
    /// Of each step.
    pub(super) requests: u64,
    pub(super) connections: u16,
    /// Decides the ids of the requests.
    pub(super) seed: u64,
    /// How many replicas there are, step by step.
    pub(super) replicas: Vec<u32>,
    /// The number of replicas at which it is asked what one more and one less would move.
    pub(super) change_at: u32,
    pub(super) variants: Vec<Variant>,
}

/// A way to choose a replica.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Variant {
    pub(super) name: String,
    /// Keys of the balancer's pool.
    pub(super) pool: serde_yaml::Mapping,
}

impl Experiment {
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let it: Self = serde_yaml::from_str(text)?;
        ensure!(it.requests > 0, "requests is 0, must be at least 1");
        ensure!(it.connections > 0, "connections is 0, must be at least 1");
        ensure!(!it.replicas.is_empty(), "replicas is empty, must name at least one step");
        ensure!(
            it.replicas.iter().all(|it| *it > 0),
            "replicas has a step with 0, must be at least 1"
        );
        ensure!(!it.variants.is_empty(), "variants is empty, must name at least one");
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        for (index, Variant { name, .. }) in it.variants.iter().enumerate() {
            let valid = !name.is_empty() && name.chars().all(plain);
            ensure!(valid, "variant {name:?} must consist of letters, digits, '_', '.' and '-'");
            let first = it.variants.iter().position(|other| other.name == *name);
            ensure!(first == Some(index), "variant {name:?} is there twice");
        }
        Ok(it)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::{A2, A4};

    #[test]
    fn what_comes_with_the_program_is_valid() {
        for kind in [A2, A4] {
            let experiment = Experiment::parse(kind.experiment).unwrap();
            assert!(experiment.replicas.contains(&experiment.change_at), "{}", kind.name);
        }
    }

    #[test]
    fn faults_are_named() {
        let good = "{title: t, requests: 1, connections: 1, seed: 1, replicas: [1], change_at: 1, variants: [{name: a, pool: {}}]}";
        Experiment::parse(good).unwrap();
        for (from, to, error) in [
            ("requests: 1", "requests: 0", "requests is 0"),
            ("connections: 1", "connections: 0", "connections is 0"),
            ("replicas: [1]", "replicas: []", "replicas is empty"),
            ("replicas: [1]", "replicas: [0]", "a step with 0"),
            ("[{name: a, pool: {}}]", "[]", "variants is empty"),
            ("name: a,", "name: 'a b',", "must consist of"),
            ("{name: a, pool: {}}", "{name: a, pool: {}}, {name: a, pool: {}}", "is there twice"),
            ("title: t", "titel: t", "unknown field"),
        ] {
            let found = Experiment::parse(&good.replace(from, to)).unwrap_err().to_string();
            assert!(found.contains(error), "{found}");
        }
    }
}
