//! The comparison in words, tables and charts. Ratios come first: they are what repeats elsewhere.

use std::fmt::Write;

use super::{
    Plan,
    peer::Peer,
    scenario::Scenario,
    summary::{Cell, Range, Summary},
};
use crate::{manifest::Manifest, report::table, svg::BarChart};

/// What is compared of the small answer: measure, and how a person calls it.
const SMALL: [(&str, &str); 5] = [
    ("instructions", "instructions"),
    ("user_instructions", "instructions, user part"),
    ("system_calls", "system calls"),
    ("cpu_us", "processor time"),
    ("requests_per_s", "requests per second"),
];
const LATENCIES: [(&str, &str); 2] =
    [("fixed-rate", "the same rate for all"), ("half-peak", "half of its own peak")];
const MEMORY: [(&str, &str); 3] = [
    ("rss_mib", "at the start"),
    ("rss_mib_64", "64 connections"),
    ("rss_mib_5000", "5,000 connections"),
];

/// For the terminal: targets, and the ratios of the small answer.
pub(super) fn headline(summary: &Summary) -> String {
    let mut text =
        String::from("Ringmaster's figure divided by the peer's, 60-byte JSON, one thread:\n");
    for (measure, name) in SMALL {
        for cell in peers(summary, "json", measure) {
            if let Some(ratio) = cell.ratio {
                let _ = writeln!(text, "  {name:24} {:10} {}", cell.peer, spread(ratio));
            }
        }
    }
    text += "Targets:\n";
    for target in &summary.targets {
        let _ = writeln!(text, "  {target}");
    }
    let _ = writeln!(text, "{} failed requests", summary.errors);
    text
}

pub(super) fn charts(summary: &Summary) -> Vec<(&'static str, BarChart)> {
    let chart = |load: &str, measure: &str, title: &str, axis: &str| BarChart {
        title: title.into(),
        axis: axis.into(),
        bars: peers(summary, load, measure)
            .map(|it| (it.peer.to_string(), it.value.median))
            .collect(),
        mean: false,
    };
    vec![
        (
            "instructions.svg",
            chart(
                "json",
                "user_instructions",
                "Instructions per request (user part)",
                "instructions",
            ),
        ),
        ("cpu.svg", chart("json", "cpu_us", "Processor time per request", "µs, user and system")),
        ("latency.svg", chart("fixed-rate", "p99_us", "p99 latency at the same rate", "µs")),
        ("memory.svg", chart("idle", "rss_mib_5000", "Memory with 5,000 idle connections", "MiB")),
    ]
}

pub(super) fn markdown(manifest: &Manifest<Plan>, summary: &Summary) -> String {
    let plan = &manifest.plan;
    let mut text = String::from("# Ringmaster and its peers\n\n");
    text += &conditions(manifest);
    text += "\n## Ratios: Ringmaster's figure divided by the peer's\n\nBelow 1 Ringmaster needs less (for requests per \
        second: does less). Median of the rounds, and their range.\n\n### 60-byte JSON, one thread, 64 keep-alive connections\n\n";
    let others: Vec<Peer> =
        plan.peers.iter().copied().filter(|it| *it != Peer::Ringmaster).collect();
    let small = SMALL.map(|(measure, name)| ("json", measure, name.to_owned()));
    text += &ratios(summary, &others, &small);
    text += "\n### Processor time per request of every load\n\n";
    let loads: Vec<_> =
        plan.scenarios().into_iter().map(|it| (it.key(), "cpu_us", it.to_string())).collect();
    text += &ratios(summary, &others, &loads);
    text += "\n### Latency under a fixed rate (open loop)\n\n";
    let latencies: Vec<_> = LATENCIES
        .iter()
        .flat_map(|(load, name)| {
            [("p50_us", "p50"), ("p99_us", "p99"), ("p999_us", "p99.9")]
                .map(|(measure, percentile)| (*load, measure, format!("{percentile}, {name}")))
        })
        .collect();
    text += &ratios(summary, &others, &latencies);
    text += "\n### Resident memory\n\n";
    text += &ratios(
        summary,
        &others,
        &MEMORY.map(|(measure, name)| ("idle", measure, name.to_owned())),
    );
    text += "\n## Targets\n\n";
    for target in &summary.targets {
        let _ = writeln!(text, "* {target}");
    }
    text += &absolute(plan, summary, &small, &loads, &latencies);
    text += "\n![Instructions per request](instructions.svg)\n\n![Processor time per request](cpu.svg)\n\n\
        ![Latency](latency.svg)\n\n![Memory](memory.svg)\n";
    text
}

fn conditions(manifest: &Manifest<Plan>) -> String {
    let plan = &manifest.plan;
    let mut text = format!(
        "{} rounds of {} s each, the peers in turns. {}\n",
        plan.rounds,
        plan.seconds,
        crate::report::circumstances(manifest)
    );
    for (peer, version) in &plan.versions {
        let _ = writeln!(text, "* {peer}: {version}");
    }
    for peer in &plan.absent {
        let _ = writeln!(text, "* {peer}: not installed, not measured");
    }
    text += match plan.counter.as_deref() {
        Some("perf") => "\nInstructions are counted by `perf stat`, user and kernel.\n",
        Some(_) => {
            "\nInstructions are counted by callgrind, the user part only: this machine gives no counters to `perf`. \
             The kernel's part shows in system calls and processor time. Caddy (Go) does not run under callgrind.\n"
        }
        None => "\nInstructions were not counted: neither `perf` nor callgrind is to be had.\n",
    };
    text
}

fn ratios(summary: &Summary, others: &[Peer], rows: &[(&str, &str, String)]) -> String {
    let header: Vec<String> = others.iter().map(ToString::to_string).collect();
    let header: Vec<&str> = [""].into_iter().chain(header.iter().map(String::as_str)).collect();
    table(
        &header,
        rows.iter().filter_map(|(load, measure, name)| {
            let ratio = |peer: &Peer| summary.cell(load, measure, *peer).and_then(|it| it.ratio);
            others.iter().any(|it| ratio(it).is_some()).then(|| {
                let cells = others.iter().map(|it| ratio(it).map_or("–".into(), spread));
                [name.clone()].into_iter().chain(cells).collect()
            })
        }),
    )
}

/// Only after the ratios: these hold for this machine, and this hour of it.
fn absolute(
    plan: &Plan,
    summary: &Summary,
    small: &[(&str, &str, String)],
    loads: &[(&str, &str, String)],
    latencies: &[(&str, &str, String)],
) -> String {
    let mut rows: Vec<(&str, &str, String)> = small.to_vec();
    rows.push(("json", "cpu_user_us", "processor time, user, µs".into()));
    rows.push(("json", "cpu_system_us", "processor time, system, µs".into()));
    rows.extend(
        loads
            .iter()
            .map(|(load, measure, name)| (*load, *measure, format!("{name}: processor time, µs"))),
    );
    rows.extend(
        plan.scenarios()
            .into_iter()
            .map(|it: Scenario| (it.key(), "requests_per_s", format!("{it}: requests per second"))),
    );
    rows.extend(
        latencies.iter().map(|(load, measure, name)| (*load, *measure, format!("{name}, µs"))),
    );
    rows.push(("half-peak", "rate", "half of its own peak, requests per second".into()));
    rows.extend(MEMORY.map(|(measure, name)| ("idle", measure, format!("memory, {name}, MiB"))));
    let header: Vec<String> = plan.peers.iter().map(ToString::to_string).collect();
    let header: Vec<&str> = [""].into_iter().chain(header.iter().map(String::as_str)).collect();
    let rows = rows.iter().map(|(load, measure, name)| {
        let value = |peer: &Peer| {
            summary.cell(load, measure, *peer).map_or("–".into(), |it| figure(it.value.median))
        };
        [name.clone()].into_iter().chain(plan.peers.iter().map(value)).collect()
    });
    format!(
        "\n## Absolute figures (medians), on the machine named above only\n\n{}",
        table(&header, rows)
    )
}

fn peers<'a>(
    summary: &'a Summary,
    load: &'a str,
    measure: &'a str,
) -> impl Iterator<Item = &'a Cell> {
    Peer::ALL.into_iter().filter_map(move |peer| summary.cell(load, measure, peer))
}

fn spread(range: Range) -> String {
    let Range { median, min, max } = range;
    if min == max { format!("{median:.2}") } else { format!("{median:.2} ({min:.2}–{max:.2})") }
}

fn figure(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}
