//! How long each stage of a recovery took, from the balancer's metrics.

use std::collections::BTreeMap;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::csv;

/// One stage: `detect` (last sign of life to failure known), `spawn` (to the new start), `ready` (to serving).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Stage {
    pub(super) name: String,
    pub(super) count: u64,
    pub(super) mean_ms: f64,
}

const HEADER: [&str; 3] = ["stage", "count", "mean_ms"];

impl Stage {
    /// All stages in a text of Prometheus' format.
    pub(super) fn all(metrics: &str) -> Vec<Self> {
        let mut stages: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        for line in metrics.lines() {
            let Some(rest) = line.strip_prefix("ringmaster_recovery_seconds_") else { continue };
            let Some((labels, value)) = rest.rsplit_once(' ') else { continue };
            let name = labels.split("stage=\"").nth(1).and_then(|it| it.split('"').next());
            let (Some(name), Ok(value)) = (name, value.parse::<f64>()) else { continue };
            let sums = stages.entry(name).or_default();
            if labels.starts_with("sum{") {
                sums.0 += value;
            } else if labels.starts_with("count{") {
                sums.1 += value;
            }
        }
        let stage = |(name, (sum, count)): (&str, (f64, f64))| Self {
            name: name.into(),
            count: count as u64,
            mean_ms: if count > 0.0 { 1e3 * sum / count } else { 0.0 },
        };
        stages.into_iter().map(stage).collect()
    }

    pub(super) fn to_csv(stages: &[Self]) -> anyhow::Result<String> {
        csv::write(
            HEADER,
            stages.iter().map(|it| [it.name.clone(), it.count.to_string(), it.mean_ms.to_string()]),
        )
    }

    pub(super) fn from_csv(text: &str) -> anyhow::Result<Vec<Self>> {
        csv::read(text, HEADER, |[name, count, mean]| {
            Ok(Self {
                name: name.into(),
                count: count.parse().context("count")?,
                mean_ms: mean.parse().context("mean_ms")?,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_counts_make_means() {
        let metrics = "# HELP ringmaster_recovery_seconds x\n\
            ringmaster_recovery_seconds_bucket{pool=\"default\",stage=\"detect\",le=\"0.1\"} 4\n\
            ringmaster_recovery_seconds_sum{pool=\"default\",stage=\"detect\"} 0.5\n\
            ringmaster_recovery_seconds_count{pool=\"default\",stage=\"detect\"} 4\n\
            ringmaster_requests_total{pool=\"default\"} 7\n";
        let stages = Stage::all(metrics);
        assert_eq!(stages, [Stage { name: "detect".into(), count: 4, mean_ms: 125.0 }]);
        assert_eq!(Stage::from_csv(&Stage::to_csv(&stages).unwrap()).unwrap(), stages);
    }
}
