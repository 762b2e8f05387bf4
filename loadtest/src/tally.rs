//! What became of a number of requests.

use serde::{Deserialize, Serialize};

use crate::{percentiles::Percentiles, reasons::Reasons, request::Request};

/// Requests, added up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    /// Requests that failed, by reason.
    pub(crate) failed: Reasons,
    /// Of answered requests, from when they were due.
    pub(crate) latency: Option<Percentiles>,
    /// The longest time without the end of an answered request.
    pub(crate) longest_gap_us: u64,
}

impl Tally {
    pub(crate) fn of<'a>(requests: impl IntoIterator<Item = &'a Request>) -> Self {
        let mut tally = Self::default();
        let mut latencies = Vec::new();
        let mut ends = Vec::new();
        for request in requests {
            tally.sent += 1;
            match &request.outcome {
                Ok(_) => {
                    latencies.push(request.latency_us);
                    ends.push(request.end_us());
                }
                Err(failure) => tally.failed.add(&failure.to_string(), 1),
            }
        }
        ends.sort_unstable();
        tally.latency = Percentiles::of(latencies);
        tally.longest_gap_us = ends.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        tally
    }

    /// How many were answered.
    pub(crate) fn ok(&self) -> u64 {
        self.sent - self.failures()
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failed.total()
    }
}
