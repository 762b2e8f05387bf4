//! A sweep in words, tables and charts.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::{
    plan::Experiment,
    skew::Skew,
    tables::{Change, Step},
};
use crate::{
    manifest::Manifest,
    report::{circumstances, table},
    svg::{LineChart, Point, Series},
};

/// What a sweep found.
#[derive(Serialize, Deserialize)]
pub(super) struct Summary {
    pub(super) steps: Vec<Step>,
    pub(super) changes: Vec<Change>,
    pub(super) skew: Vec<Skew>,
}

/// For the terminal.
pub(super) fn text(summary: &Summary) -> String {
    let mut text = format!(
        "{:18} {:>3} {:>9} {:>10} {:>9} {:>8} {:>8} {:>7}\n",
        "variant", "N", "mean", "deviation", "max/mean", "per s", "p99 ms", "missing"
    );
    for it in &summary.steps {
        let _ = writeln!(
            text,
            "{:18} {:>3} {:>9.1} {:>10.1} {:>9.3} {:>8.0} {:>8.1} {:>7}",
            it.variant,
            it.replicas,
            it.mean(),
            it.deviation(),
            it.max_over_mean(),
            it.requests_per_s(),
            it.p99_us as f64 / 1e3,
            it.missing
        );
    }
    for it in &summary.changes {
        let _ = writeln!(text, "{}", sentence(it));
    }
    for it in &summary.skew {
        let _ = writeln!(text, "{it}");
    }
    text
}

fn sentence(it: &Change) -> String {
    let percent = |part: f64| 100.0 * part;
    format!(
        "{}, {}: {:.1} % of the keys move, {:.1} % at least; {:.1} % between replicas that stay",
        it.variant,
        if it.change == "remove" { "one leaves" } else { "one joins" },
        percent(it.moved),
        percent(it.ideal),
        percent(it.between_survivors)
    )
}

pub(super) fn charts(experiment: &Experiment, summary: &Summary) -> Vec<(&'static str, LineChart)> {
    let chart = |title: &str, axis: &str, point: &dyn Fn(&Step) -> Point| LineChart {
        title: title.into(),
        axis: axis.into(),
        labels: experiment.replicas.iter().map(|it| format!("N = {it}")).collect(),
        series: experiment
            .variants
            .iter()
            .map(|variant| series(&variant.name, experiment, summary, point))
            .collect(),
    };
    let exact = |value: f64| Point { value, deviation: 0.0 };
    vec![
        (
            "load.svg",
            chart("Requests per replica: mean, and standard deviation", "requests", &|it| Point {
                value: it.mean(),
                deviation: it.deviation(),
            }),
        ),
        ("spread.svg", chart("The busiest replica", "max/mean", &|it| exact(it.max_over_mean()))),
        (
            "throughput.svg",
            chart("Throughput", "requests per second", &|it| exact(it.requests_per_s())),
        ),
        ("latency.svg", chart("p99 latency", "ms", &|it| exact(it.p99_us as f64 / 1e3))),
    ]
}

fn series(
    name: &str,
    experiment: &Experiment,
    summary: &Summary,
    point: &dyn Fn(&Step) -> Point,
) -> Series {
    let found =
        |number: usize| summary.steps.iter().find(|it| it.variant == name && it.step == number);
    let points = (0..experiment.replicas.len()).map(|number| found(number).map(point)).collect();
    Series { name: name.into(), points }
}

pub(super) fn markdown(manifest: &Manifest<Experiment>, summary: &Summary) -> String {
    let experiment = &manifest.plan;
    let mut text = format!("# {}\n\n{}\n", experiment.title, circumstances(manifest));
    let _ = writeln!(
        text,
        "{} requests in each step over {} connections, seed {}. The mean is requests divided by replicas by construction; \
         the deviation between the replicas is what a variant is to be judged by.\n",
        experiment.requests, experiment.connections, experiment.seed
    );
    text += &table(
        &[
            "variant",
            "N",
            "requests of each replica",
            "mean",
            "deviation",
            "max/mean",
            "s",
            "per s",
            "p50 ms",
            "p99 ms",
            "missing",
        ],
        summary.steps.iter().map(|it| {
            let loads: Vec<String> = it.loads.iter().map(u64::to_string).collect();
            vec![
                it.variant.clone(),
                it.replicas.to_string(),
                loads.join(" "),
                format!("{:.1}", it.mean()),
                format!("{:.1}", it.deviation()),
                format!("{:.3}", it.max_over_mean()),
                format!("{:.2}", it.elapsed_s),
                format!("{:.0}", it.requests_per_s()),
                format!("{:.1}", it.p50_us as f64 / 1e3),
                format!("{:.1}", it.p99_us as f64 / 1e3),
                it.missing.to_string(),
            ]
        }),
    );
    let _ = writeln!(text, "\n## What a change moves, at N = {}\n", experiment.change_at);
    for it in &summary.changes {
        let _ = writeln!(text, "* {}", sentence(it));
    }
    if !summary.skew.is_empty() {
        text += "\n## Why the classic pair is uneven\n\nH(i) = i² + 2i + 17 = (i + 1)² + 16, and modulo a power of two few numbers are \
            16 above a square, so most slots get no request whatever the ids; whose virtual servers come next after the few that \
            do gets all. Counted over all 900,000 ids of six digits, three replicas, nine virtual servers each:\n\n";
        for it in &summary.skew {
            let _ = writeln!(text, "* {it}");
        }
    }
    text += "\n![Requests per replica](load.svg)\n\n![The busiest replica](spread.svg)\n\n![Throughput](throughput.svg)\n\n![Latency](latency.svg)\n";
    text
}
