//! Percentiles of a list of durations.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a list of durations looks like, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    pub(crate) max_us: u64,
}

impl Percentiles {
    /// Nearest rank: every percentile is one of the durations. `None` if there are none.
    pub(crate) fn of(mut durations_us: Vec<u64>) -> Option<Self> {
        durations_us.sort_unstable();
        let at =
            |permille: usize| durations_us[(durations_us.len() * permille).div_ceil(1_000) - 1];
        let max_us = *durations_us.last()?;
        Some(Self { p50_us: at(500), p99_us: at(990), p999_us: at(999), max_us })
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, max] = [self.p50_us, self.p99_us, self.max_us].map(|us| us as f64 / 1e3);
        write!(f, "p50 {p50:.1} ms, p99 {p99:.1} ms, max {max:.1} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_the_nearest_rank() {
        let cases: [(Vec<u64>, Option<[u64; 4]>); 5] = [
            (vec![], None),
            (vec![7], Some([7, 7, 7, 7])),
            (vec![2, 1], Some([1, 2, 2, 2])),
            (vec![3, 1, 2], Some([2, 3, 3, 3])),
            ((1..=1000).rev().collect(), Some([500, 990, 999, 1000])),
        ];
        for (durations, expected) in cases {
            let found = Percentiles::of(durations.clone())
                .map(|p| [p.p50_us, p.p99_us, p.p999_us, p.max_us]);
            assert_eq!(found, expected, "{durations:?}");
        }
    }
}
