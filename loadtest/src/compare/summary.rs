//! What the table of figures says. Pure: the same table gives the same summary.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{figure::Figure, peer::Peer};

/// The comparison in medians, and in ratios of one round to itself.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Summary {
    pub(super) cells: Vec<Cell>,
    pub(super) targets: Vec<Target>,
    /// Requests that failed, of all peers.
    pub(super) errors: u64,
}

/// One measure of one peer under one load, over all rounds.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Cell {
    pub(super) load: String,
    pub(super) measure: String,
    pub(super) peer: Peer,
    pub(super) value: Range,
    /// Ringmaster's figure divided by this peer's, round by round.
    pub(super) ratio: Option<Range>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Range {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

/// What Ringmaster must reach against a peer, what it aims at, and what it did.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Target {
    pub(super) load: String,
    pub(super) measure: String,
    pub(super) peer: Peer,
    pub(super) must: f64,
    pub(super) aim: f64,
    pub(super) ratio: Option<f64>,
}

/// Load, measure, peer, must, aim.
const TARGETS: [(&str, &str, Peer, f64, f64); 5] = [
    ("json", "instructions", Peer::Haproxy, 1.30, 1.0),
    ("json", "instructions", Peer::Nginx, 1.60, 1.2),
    ("json", "instructions", Peer::Bare, 1.08, 1.0),
    ("json", "cpu_us", Peer::Caddy, 0.45, 0.3),
    ("half-peak", "p99_us", Peer::Haproxy, 1.2, 1.2),
];

impl Summary {
    pub(super) fn of(figures: &[Figure]) -> Self {
        let mut table: BTreeMap<(&str, &str, Peer), BTreeMap<u32, f64>> = BTreeMap::new();
        for it in figures {
            table.entry((&it.load, &it.measure, it.peer)).or_default().insert(it.round, it.value);
        }
        let mut cells = Vec::new();
        for (&(load, measure, peer), values) in &table {
            let ours =
                table.get(&(load, measure, Peer::Ringmaster)).filter(|_| peer != Peer::Ringmaster);
            let ratio = ours.and_then(|ours| {
                let of_round =
                    |(round, theirs): (&u32, &f64)| ours.get(round).map(|it| it / theirs);
                Range::of(values.iter().filter_map(of_round).filter(|it| it.is_finite()))
            });
            if let Some(value) = Range::of(values.values().copied().filter(|it| it.is_finite())) {
                cells.push(Cell { load: load.into(), measure: measure.into(), peer, value, ratio });
            }
        }
        let errors =
            figures.iter().filter(|it| it.measure == "errors").map(|it| it.value as u64).sum();
        let targets = TARGETS.map(|(load, measure, peer, must, aim)| Target {
            load: load.into(),
            measure: measure.into(),
            peer,
            must,
            aim,
            ratio: cell(&cells, load, measure, peer).and_then(|it| Some(it.ratio?.median)),
        });
        Self { cells, targets: targets.into(), errors }
    }

    pub(super) fn cell(&self, load: &str, measure: &str, peer: Peer) -> Option<&Cell> {
        cell(&self.cells, load, measure, peer)
    }
}

fn cell<'a>(cells: &'a [Cell], load: &str, measure: &str, peer: Peer) -> Option<&'a Cell> {
    cells.iter().find(|it| it.load == load && it.measure == measure && it.peer == peer)
}

impl Range {
    /// `None` of nothing.
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let upper = values.len() / 2;
        let median = (values[upper] + values[(values.len() - 1) / 2]) / 2.0;
        Some(Self { median, min, max })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { load, measure, peer, must, aim, ratio } = self;
        write!(f, "{measure} ({load}) against {peer}: ")?;
        match ratio {
            None => write!(f, "not measured here; ")?,
            Some(ratio) => {
                let verdict = match ratio {
                    it if it <= aim => "reached",
                    it if it <= must => "enough, the aim is missed",
                    _ => "missed",
                };
                write!(f, "{ratio:.2}, {verdict}; ")?;
            }
        }
        write!(f, "must be at most {must:.2}, aim {aim:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(round: u32, peer: Peer, value: f64) -> Figure {
        Figure { round, load: "json".into(), measure: "cpu_us".into(), peer, value }
    }

    #[test]
    fn a_ratio_is_that_of_the_same_round() {
        let figures = [
            figure(0, Peer::Ringmaster, 10.0),
            figure(0, Peer::Caddy, 20.0),
            // A slow moment of the machine.
            figure(1, Peer::Ringmaster, 40.0),
            figure(1, Peer::Caddy, 100.0),
            figure(2, Peer::Ringmaster, 9.0),
            figure(2, Peer::Caddy, 30.0),
        ];
        let summary = Summary::of(&figures);
        let caddy = summary.cell("json", "cpu_us", Peer::Caddy).unwrap();
        assert_eq!(caddy.value, Range { median: 30.0, min: 20.0, max: 100.0 });
        assert_eq!(caddy.ratio, Some(Range { median: 0.4, min: 0.3, max: 0.5 }));
        let own = summary.cell("json", "cpu_us", Peer::Ringmaster).unwrap();
        assert_eq!((own.value.median, own.ratio), (10.0, None));
    }

    #[test]
    fn a_target_says_how_it_was_met() {
        for (value, verdict) in [(2.0, "reached"), (4.0, "enough"), (5.0, "missed")] {
            let figures = [figure(0, Peer::Ringmaster, value), figure(0, Peer::Caddy, 10.0)];
            let summary = Summary::of(&figures);
            let text: Vec<String> = summary.targets.iter().map(ToString::to_string).collect();
            assert!(text[3].contains(verdict), "{text:?}");
            assert!(text[0].contains("not measured here"), "{text:?}");
        }
    }

    #[test]
    fn an_even_number_of_rounds_has_a_median() {
        let range = Range::of([1.0, 4.0, 2.0, 3.0].into_iter());
        assert_eq!(range, Some(Range { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Range::of(std::iter::empty()), None);
    }
}
