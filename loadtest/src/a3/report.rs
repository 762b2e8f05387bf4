//! A-3 in words and tables.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::{calls::Answer, plan::Experiment, recovery::Recovery, stages::Stage};
use crate::{
    manifest::Manifest,
    report::{circumstances, table},
};

/// What A-3 found.
#[derive(Serialize, Deserialize)]
pub(super) struct Summary {
    pub(super) answers: Vec<Answer>,
    /// Each way in which replicas were killed.
    pub(super) recoveries: Vec<Recovery>,
    /// Why no containers were killed.
    pub(super) left_out: Option<String>,
}

impl Summary {
    pub(super) fn kept(&self) -> bool {
        self.recoveries.iter().all(|it| it.unnoticed) && self.answers.iter().all(Answer::right)
    }
}

/// For the terminal.
pub(super) fn text(summary: &Summary) -> String {
    let right = summary.answers.iter().filter(|it| it.right()).count();
    let mut text = format!("{right} of {} calls answered as they must be\n", summary.answers.len());
    for it in summary.answers.iter().filter(|it| !it.right()) {
        let _ = writeln!(
            text,
            "  {} {}: {} instead of {}, body as wanted: {}",
            it.method, it.path, it.status, it.wanted, it.says
        );
    }
    for it in &summary.recoveries {
        let _ = writeln!(text, "{}:", it.way.name());
        text += &it.failover;
        for Stage { name, count, mean_ms } in &it.stages {
            let _ = writeln!(text, "  {name}: {mean_ms:.1} ms on average, of {count}");
        }
    }
    if let Some(reason) = &summary.left_out {
        let _ = writeln!(text, "left out: docker kill: {reason}");
    }
    text
}

pub(super) fn markdown(manifest: &Manifest<Experiment>, summary: &Summary) -> String {
    let mut text =
        format!("# {}\n\n{}\n## Calls\n\n", manifest.plan.title, circumstances(manifest));
    text += &table(
        &["call", "status", "must be", "as wanted"],
        summary.answers.iter().map(|it| {
            let right = if it.right() { "yes" } else { "no" };
            vec![
                format!("{} {}", it.method, it.path),
                it.status.to_string(),
                it.wanted.to_string(),
                right.into(),
            ]
        }),
    );
    for it in &summary.recoveries {
        let _ = write!(text, "\n## {} under load\n\n```text\n{}```\n", it.way.name(), it.failover);
        text += "\nStages of the recoveries, as the balancer counts them:\n\n";
        text += &table(
            &["stage", "recoveries", "mean ms"],
            it.stages.iter().map(|it| {
                vec![it.name.clone(), it.count.to_string(), format!("{:.1}", it.mean_ms)]
            }),
        );
    }
    if let Some(reason) = &summary.left_out {
        let _ = writeln!(text, "\n**Left out on this machine:** docker kill: {reason}.");
    }
    text
}
