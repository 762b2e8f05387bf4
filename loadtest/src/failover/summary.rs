//! What the tables of kills and requests say. Pure: the same tables give the same summary.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{keys::KEYS, kill::Kill};
use crate::{percentiles::Percentiles, reasons::Reasons, request::Request, tally::Tally};

/// The result of the failover experiment.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Summary {
    /// How many kills were planned, done, and followed by a recovery.
    pub(super) kills_planned: u32,
    pub(super) kills: usize,
    pub(super) recovered: usize,
    /// From a kill until the balancer routes around the replica.
    pub(super) detection: Option<Percentiles>,
    /// From a kill until the replica serves again.
    pub(super) recovery: Option<Percentiles>,
    /// How many were sent.
    pub(super) requests: usize,
    /// Requests that failed, by reason.
    pub(super) failed: Reasons,
    /// Of answered requests, from when they were due.
    pub(super) latency: Option<Percentiles>,
    /// The longest time without the end of an answered request.
    pub(super) longest_gap_us: u64,
    /// Over all kills; each was followed by [`KEYS`] questions.
    pub(super) keys_moved: u64,
    pub(super) keys_unanswered: u64,
}

impl Summary {
    /// Summarises `kills` out of `planned`, and the load during them.
    pub(super) fn of(planned: u32, kills: &[Kill], requests: &[Request]) -> Self {
        let Tally { failed, latency, longest_gap_us, .. } = Tally::of(requests);
        let recoveries: Vec<_> = kills.iter().filter_map(|kill| kill.gap.recovered_us).collect();
        Self {
            kills_planned: planned,
            kills: kills.len(),
            recovered: recoveries.len(),
            detection: Percentiles::of(
                kills.iter().filter_map(|kill| kill.gap.detected_us).collect(),
            ),
            recovery: Percentiles::of(recoveries),
            requests: requests.len(),
            failed,
            latency,
            longest_gap_us,
            keys_moved: kills.iter().map(|kill| kill.keys_moved).sum(),
            keys_unanswered: kills.iter().map(|kill| kill.keys_unanswered).sum(),
        }
    }

    /// Whether every killed replica came back, its keys came home, and no client noticed.
    pub(super) fn kept(&self) -> bool {
        self.recovered == self.kills_planned as usize
            && self.failed.total() == 0
            && self.keys_moved + self.keys_unanswered == 0
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills_planned, kills, recovered, requests, failed, .. } = self;
        let Self { keys_moved, keys_unanswered, .. } = self;
        writeln!(f, "{kills} of {kills_planned} kills, {recovered} recovered")?;
        for (what, times) in [("detected", self.detection), ("serving again", self.recovery)] {
            if let Some(times) = times {
                writeln!(f, "  {what} after: {times}")?;
            }
        }
        writeln!(f, "{requests} requests, failed: {failed}")?;
        if let Some(latency) = self.latency {
            writeln!(f, "  latency: {latency}")?;
        }
        writeln!(
            f,
            "  longest time without an answer: {:.1} ms",
            self.longest_gap_us as f64 / 1e3
        )?;
        writeln!(f, "{KEYS} keys after each kill: {keys_moved} moved, {keys_unanswered} unanswered")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{failover::kill::Gap, failure::Failure};

    fn kill(recovered_us: Option<u64>, keys_moved: u64) -> Kill {
        let gap = Gap { detected_us: Some(1_000), recovered_us };
        Kill { replica: "S1".into(), at_us: 0, gap, keys_moved, keys_unanswered: 0 }
    }

    fn request(start_us: u64, latency_us: u64, outcome: Result<&str, Failure>) -> Request {
        let outcome = outcome.map(str::to_owned);
        Request { index: 0, id: 100_000, start_us, latency_us, outcome }
    }

    #[test]
    fn the_gap_is_between_ends_of_answered_requests() {
        let requests = [
            request(0, 5_000, Ok("S1")),
            request(1_000, 1_000, Ok("S2")),
            request(6_000, 1_000, Err(Failure::Closed)),
            request(8_000, 1_000, Ok("S2")),
        ];
        let summary = Summary::of(2, &[kill(Some(7_000), 0), kill(None, 3)], &requests);
        let expected = Summary {
            kills_planned: 2,
            kills: 2,
            recovered: 1,
            detection: Percentiles::of(vec![1_000, 1_000]),
            recovery: Percentiles::of(vec![7_000]),
            requests: 4,
            failed: "1 (closed)".parse().unwrap(),
            latency: Percentiles::of(vec![5_000, 1_000, 1_000]),
            longest_gap_us: 4_000, // From 5 ms to 9 ms.
            keys_moved: 3,
            keys_unanswered: 0,
        };
        assert_eq!(summary, expected);
    }

    #[test]
    fn any_broken_promise_shows() {
        let good = || vec![request(0, 1, Ok("S1"))];
        let bad = vec![request(0, 1, Err(Failure::Timeout))];
        let unanswered = Kill { keys_unanswered: 1, ..kill(Some(1), 0) };
        for (kills, requests, kept) in [
            (vec![kill(Some(1), 0)], good(), true),
            (vec![kill(Some(1), 0)], bad, false),
            (vec![kill(Some(1), 1)], good(), false),
            (vec![unanswered], good(), false),
            (vec![kill(None, 0)], good(), false),
            (vec![], good(), false),
        ] {
            assert_eq!(Summary::of(1, &kills, &requests).kept(), kept, "{kills:?} {requests:?}");
        }
    }

    #[test]
    fn the_report_is_short() {
        let summary = Summary::of(1, &[kill(Some(2_500), 0)], &[request(0, 1_000, Ok("S1"))]);
        assert_eq!(
            summary.to_string(),
            "1 of 1 kills, 1 recovered\n  \
               detected after: p50 1.0 ms, p99 1.0 ms, max 1.0 ms\n  \
               serving again after: p50 2.5 ms, p99 2.5 ms, max 2.5 ms\n\
             1 requests, failed: 0\n  \
               latency: p50 1.0 ms, p99 1.0 ms, max 1.0 ms\n  \
               longest time without an answer: 0.0 ms\n\
             200 keys after each kill: 0 moved, 0 unanswered\n"
        );
    }
}
