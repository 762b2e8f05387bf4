//! The experiment in words and a table.

use std::fmt::Write;

use super::{
    account::{Account, Counts},
    plan::Experiment,
    summary::{LeftOut, Outcome, Summary},
};
use crate::{
    manifest::Manifest,
    report::{circumstances, table},
};

/// For the terminal.
pub(super) fn text(summary: &Summary) -> String {
    let mut text = format!(
        "{:<28} {:>7} {:>7} {:>16} {:>16} {:>8} {:>6} {:>6} {:>8} {:>7} {:>7} {:>7}\n",
        "fault",
        "sent",
        "ok",
        "GETs failed",
        "POSTs failed",
        "retried",
        "G x2",
        "P x2",
        "gap ms",
        "p50",
        "p99",
        "p99.9"
    );
    for it in summary.rows.iter().chain([&summary.total]) {
        let [p50, p99, p999] = latency(it);
        let _ = writeln!(
            text,
            "{:<28} {:>7} {:>7} {:>16} {:>16} {:>8} {:>6} {:>6} {:>8.1} {p50:>7} {p99:>7} {p999:>7}{}",
            name(it),
            it.sent(),
            it.ok(),
            it.gets.failed,
            it.posts.failed,
            it.account.counts.retried.total(),
            it.gets_twice,
            it.posts_twice,
            it.gap_ms(),
            if it.kept() { "" } else { "  BROKEN" },
        );
    }
    for it in &summary.rows {
        let Counts { upstream_errors, failed, rejected, retried, .. } = &it.account.counts;
        if upstream_errors + failed.total() + rejected.total() + retried.total() > 0 {
            let name = name(it);
            let _ = writeln!(
                text,
                "{name}: upstream errors {upstream_errors}, failed {failed}, rejected {rejected}, retried {retried}"
            );
        }
        if let Some(told) = it.disagreement() {
            let _ = writeln!(text, "{}: WRONG SUMS: {told}", name(it));
        }
    }
    for LeftOut { stage, reason } in &summary.left_out {
        let _ = writeln!(text, "left out: {stage}: {reason}");
    }
    if summary.total.unrecorded > 0 {
        let count = summary.total.unrecorded;
        let _ = writeln!(text, "{count} answered requests are in no replica's record");
    }
    text
}

pub(super) fn markdown(manifest: &Manifest<Experiment>, summary: &Summary, chart: &str) -> String {
    let plan = &manifest.plan;
    let mut text = format!("# {}\n\n{}\n", plan.title, circumstances(manifest));
    let _ = writeln!(
        text,
        "{} requests a second over {} connections. Times are in ms, from when a request was due.\n",
        plan.rate, plan.connections
    );
    text += &table(
        &[
            "fault",
            "sent",
            "ok",
            "GETs failed",
            "POSTs failed",
            "GETs served twice",
            "POSTs served twice",
            "longest gap",
            "p50",
            "p99",
            "p99.9",
        ],
        summary.rows.iter().chain([&summary.total]).map(|it| {
            let [p50, p99, p999] = latency(it);
            vec![
                name(it),
                it.sent().to_string(),
                it.ok().to_string(),
                it.gets.failed.to_string(),
                it.posts.failed.to_string(),
                it.gets_twice.to_string(),
                it.posts_twice.to_string(),
                format!("{:.1}", it.gap_ms()),
                p50,
                p99,
                p999,
            ]
        }),
    );
    for LeftOut { stage, reason } in &summary.left_out {
        let _ = writeln!(text, "\n**Left out on this machine:** {stage}: {reason}.");
    }
    let _ = write!(text, "\n![longest time without an answer]({chart})\n");
    text += "\nThe balancer's own account of the same loads:\n\n";
    text + &account(summary)
}

/// What the balancer counted, and whether its clients saw the same.
fn account(summary: &Summary) -> String {
    table(
        &[
            "fault",
            "ok",
            "upstream errors",
            "failed",
            "rejected",
            "retried",
            "held",
            "of other clients",
            "sums",
        ],
        summary.rows.iter().chain([&summary.total]).map(|it| {
            let Account { counts, others, is_partial } = &it.account;
            let sums = match it.disagreement() {
                Some(told) => format!("WRONG: {told}"),
                None if *is_partial => "as far as told".into(),
                None => "agree".into(),
            };
            vec![
                name(it),
                counts.ok.to_string(),
                counts.upstream_errors.to_string(),
                counts.failed.to_string(),
                counts.rejected.to_string(),
                counts.retried.to_string(),
                counts.held.to_string(),
                (others.ok + others.errors + others.unanswered).to_string(),
                sums,
            ]
        }),
    )
}

/// The fault, and how often it happened if more than once.
fn name(it: &Outcome) -> String {
    if it.times == 1 { it.fault.clone() } else { format!("{} ({}x)", it.fault, it.times) }
}

fn latency(it: &Outcome) -> [String; 3] {
    let Some(it) = it.latency else { return ["", "", ""].map(str::to_owned) };
    [it.p50_us, it.p99_us, it.p999_us].map(|us| format!("{:.1}", us as f64 / 1e3))
}
