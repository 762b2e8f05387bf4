//! What one step and one change were, and their tables.

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{a1::summary::Summary as Run, csv};

/// All requests of one step: a variant with some number of replicas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Step {
    pub(super) variant: String,
    /// From 0.
    pub(super) step: usize,
    pub(super) replicas: u32,
    /// Requests of each replica, in the balancer's order.
    pub(super) loads: Vec<u64>,
    pub(super) missing: u64,
    pub(super) elapsed_s: f64,
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
}

/// What one replica more or less would move: parts of the key space.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Change {
    pub(super) variant: String,
    /// `add=1` or `remove`.
    pub(super) change: String,
    pub(super) moved: f64,
    /// The least that any even table would move.
    pub(super) ideal: f64,
    /// Moved although both its replicas stay.
    pub(super) between_survivors: f64,
}

const STEP: [&str; 8] =
    ["variant", "step", "replicas", "loads", "missing", "elapsed_s", "p50_us", "p99_us"];
const CHANGE: [&str; 5] = ["variant", "change", "moved", "ideal", "between_survivors"];

impl Step {
    pub(super) fn of(variant: &str, step: usize, replicas: u32, run: &Run) -> Self {
        Self {
            variant: variant.into(),
            step,
            replicas,
            loads: run.replicas.iter().map(|it| it.requests).collect(),
            missing: run.missing,
            elapsed_s: run.elapsed_s,
            p50_us: run.latency.map_or(0, |it| it.p50_us),
            p99_us: run.latency.map_or(0, |it| it.p99_us),
        }
    }

    pub(super) fn mean(&self) -> f64 {
        self.loads.iter().sum::<u64>() as f64 / self.loads.len().max(1) as f64
    }

    /// Over all replicas.
    pub(super) fn deviation(&self) -> f64 {
        let mean = self.mean();
        let squares: f64 = self.loads.iter().map(|it| (*it as f64 - mean).powi(2)).sum();
        (squares / self.loads.len().max(1) as f64).sqrt()
    }

    pub(super) fn max_over_mean(&self) -> f64 {
        let max = self.loads.iter().copied().max().unwrap_or(0) as f64;
        if max > 0.0 { max / self.mean() } else { 0.0 }
    }

    pub(super) fn requests_per_s(&self) -> f64 {
        let answered = self.loads.iter().sum::<u64>() as f64;
        if self.elapsed_s > 0.0 { answered / self.elapsed_s } else { 0.0 }
    }

    pub(super) fn to_csv(steps: &[Self]) -> anyhow::Result<String> {
        csv::write(
            STEP,
            steps.iter().map(|it| {
                let loads: Vec<String> = it.loads.iter().map(u64::to_string).collect();
                [
                    it.variant.clone(),
                    it.step.to_string(),
                    it.replicas.to_string(),
                    loads.join(" "),
                    it.missing.to_string(),
                    it.elapsed_s.to_string(),
                    it.p50_us.to_string(),
                    it.p99_us.to_string(),
                ]
            }),
        )
    }

    pub(super) fn from_csv(text: &str) -> anyhow::Result<Vec<Self>> {
        csv::read(text, STEP, |[variant, step, replicas, loads, missing, elapsed, p50, p99]| {
            Ok(Self {
                variant: variant.into(),
                step: step.parse().context("step")?,
                replicas: replicas.parse().context("replicas")?,
                loads: loads
                    .split_whitespace()
                    .map(str::parse)
                    .collect::<Result<_, _>>()
                    .context("loads")?,
                missing: missing.parse().context("missing")?,
                elapsed_s: elapsed.parse().context("elapsed_s")?,
                p50_us: p50.parse().context("p50_us")?,
                p99_us: p99.parse().context("p99_us")?,
            })
        })
    }
}

impl Change {
    /// From the balancer's answer to `plan`.
    pub(super) fn of(variant: &str, change: &str, plan: &Value) -> anyhow::Result<Self> {
        let part =
            |key: &str| plan[key].as_f64().with_context(|| format!("no {key} in a plan: {plan}"));
        Ok(Self {
            variant: variant.into(),
            change: change.into(),
            moved: part("moved")?,
            ideal: part("ideal")?,
            between_survivors: part("between_survivors")?,
        })
    }

    pub(super) fn to_csv(changes: &[Self]) -> anyhow::Result<String> {
        let row = |it: &Self| {
            let [moved, ideal, between] =
                [it.moved, it.ideal, it.between_survivors].map(|it| it.to_string());
            [it.variant.clone(), it.change.clone(), moved, ideal, between]
        };
        csv::write(CHANGE, changes.iter().map(row))
    }

    pub(super) fn from_csv(text: &str) -> anyhow::Result<Vec<Self>> {
        csv::read(text, CHANGE, |[variant, change, moved, ideal, between]| {
            Ok(Self {
                variant: variant.into(),
                change: change.into(),
                moved: moved.parse().context("moved")?,
                ideal: ideal.parse().context("ideal")?,
                between_survivors: between.parse().context("between_survivors")?,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_as_they_were_written() {
        let step = Step {
            variant: "a".into(),
            step: 1,
            replicas: 2,
            loads: vec![30, 10],
            missing: 1,
            elapsed_s: 0.5,
            p50_us: 2,
            p99_us: 3,
        };
        assert_eq!(
            (step.mean(), step.deviation(), step.max_over_mean(), step.requests_per_s()),
            (20.0, 10.0, 1.5, 80.0)
        );
        assert_eq!(
            Step::from_csv(&Step::to_csv(std::slice::from_ref(&step)).unwrap()).unwrap(),
            [step]
        );
        let plan = serde_json::json!({"moved": 0.25, "ideal": 0.2, "between_survivors": 0.0});
        let change = Change::of("a", "add=1", &plan).unwrap();
        assert_eq!(
            Change::from_csv(&Change::to_csv(std::slice::from_ref(&change)).unwrap()).unwrap(),
            [change]
        );
        assert!(Change::of("a", "add=1", &serde_json::json!({})).is_err());
    }
}
