//! The guard against slow growth: instructions per request of a fixed load, compared with the figure that is committed.

use std::{fs, path::PathBuf};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use super::{instructions::Counter, peer::Peer, stage::Stage};
use crate::Report;

/// Of the fixed load, on as many connections as every comparison.
const REQUESTS: u64 = 5_000;

/// By how much the figure may differ, as a part of the committed one.
const TOLERANCE: f64 = 0.03;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The committed figures
    #[arg(long, value_name = "FILE", default_value = "loadtest/instructions.json")]
    file: PathBuf,

    /// Write the figure instead of comparing with it
    #[arg(long)]
    update: bool,
}

/// Instructions per request in user mode, by who counted: the two do not count the same.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Committed {
    callgrind: Option<f64>,
    perf: Option<f64>,
}

impl Committed {
    fn of(&mut self, counter: Counter) -> &mut Option<f64> {
        match counter {
            Counter::Callgrind => &mut self.callgrind,
            Counter::Perf => &mut self.perf,
        }
    }
}

/// Counts, and compares or writes.
pub(crate) async fn run(args: Args) -> anyhow::Result<Report> {
    let text = fs::read_to_string(&args.file)
        .with_context(|| format!("reading {}", args.file.display()))?;
    let mut committed: Committed =
        serde_json::from_str(&text).with_context(|| format!("reading {}", args.file.display()))?;
    let counter = Counter::choose()
        .context("instructions cannot be counted: neither perf nor callgrind is to be had")?;
    let found = tokio::task::block_in_place(|| count(counter))?;
    let name = counter.name();
    if args.update {
        *committed.of(counter) = Some(found.round());
        fs::write(&args.file, serde_json::to_string_pretty(&committed)? + "\n")?;
        return Ok(Report {
            text: format!("{found:.0} instructions per request by {name}, written\n"),
            kept: true,
        });
    }
    let Some(wanted) = *committed.of(counter) else {
        let text = format!(
            "{found:.0} instructions per request by {name}; none committed, see --update\n"
        );
        return Ok(Report { text, kept: true });
    };
    Ok(verdict(name, found, wanted))
}

fn count(counter: Counter) -> anyhow::Result<f64> {
    let stage = Stage::set()?;
    let counts =
        counter.count(&stage, Peer::Ringmaster, REQUESTS)?.context("nothing was counted")?;
    ensure!(counts.user > 0, "no instruction was counted");
    Ok(counts.user as f64 / REQUESTS as f64)
}

/// Fewer than committed is a fault too: the figure no longer says what a request costs.
fn verdict(name: &str, found: f64, wanted: f64) -> Report {
    let change = found / wanted - 1.0;
    let kept = change.abs() <= TOLERANCE;
    let hint = if kept { "" } else { "; explain it, then commit the new figure (--update)" };
    let text = format!(
        "{found:.0} instructions per request by {name}, {wanted:.0} committed: {:+.1} %, at most {:.0} % are allowed{hint}\n",
        100.0 * change,
        100.0 * TOLERANCE
    );
    Report { text, kept }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_and_shrinking_beyond_the_tolerance_are_told() {
        for (found, kept) in
            [(1_000.0, true), (1_029.0, true), (1_031.0, false), (971.0, true), (969.0, false)]
        {
            assert_eq!(verdict("perf", found, 1_000.0).kept, kept, "{found}");
        }
    }

    #[test]
    fn the_committed_file_is_valid() {
        let text = include_str!("../../instructions.json");
        assert!(serde_json::from_str::<Committed>(text).unwrap().callgrind.is_some());
    }
}
