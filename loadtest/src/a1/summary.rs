//! What the table of requests says. Pure: the same table gives the same summary.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{percentiles::Percentiles, reasons::Reasons, request::Request};

/// The result of A-1.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// How many were to be sent.
    pub(crate) requests: u64,
    /// How many a replica answered as the contract says.
    pub(crate) answered: u64,
    /// All others.
    pub(crate) missing: u64,
    /// Requests that failed, by reason.
    pub(crate) failed: Reasons,
    /// From the start of the first request to the end of the last.
    pub(crate) elapsed_s: f64,
    /// Answered ones.
    pub(crate) requests_per_s: f64,
    /// Of answered requests.
    pub(crate) latency: Option<Percentiles>,
    /// In the order the balancer lists them, then by name those it did not list.
    pub(crate) replicas: Vec<Share>,
    /// Of the requests per replica: mean, largest share in means, standard deviation over all
    /// replicas.
    pub(crate) mean: f64,
    pub(crate) max_over_mean: f64,
    pub(crate) standard_deviation: f64,
}

/// How many requests one replica answered.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Share {
    pub(crate) replica: String,
    pub(crate) requests: u64,
}

impl Summary {
    /// Summarises `requests` out of `planned`, among at least the replicas in `listed`.
    pub(crate) fn of(planned: u64, listed: &[String], requests: &[Request]) -> Self {
        let mut failed = Reasons::default();
        let mut counts = BTreeMap::new();
        let mut latencies = Vec::new();
        for request in requests {
            match &request.outcome {
                Ok(replica) => {
                    *counts.entry(replica.clone()).or_default() += 1;
                    latencies.push(request.latency_us);
                }
                Err(failure) => failed.add(&failure.to_string(), 1),
            }
        }
        let answered = latencies.len() as u64;
        let start_us = requests.iter().map(|request| request.start_us).min().unwrap_or(0);
        let end_us = requests.iter().map(Request::end_us).max().unwrap_or(0);
        let elapsed_s = (end_us - start_us) as f64 / 1e6;
        let replicas = shares(listed, counts);
        let (mean, max_over_mean, standard_deviation) = spread(&replicas);
        Self {
            requests: planned,
            answered,
            missing: planned - answered,
            failed,
            elapsed_s,
            requests_per_s: ratio(answered as f64, elapsed_s),
            latency: Percentiles::of(latencies),
            replicas,
            mean,
            max_over_mean,
            standard_deviation,
        }
    }

    /// Whether every request was answered.
    pub(crate) fn kept(&self) -> bool {
        self.missing == 0
    }
}

fn shares(listed: &[String], mut counts: BTreeMap<String, u64>) -> Vec<Share> {
    let mut shares: Vec<_> = listed
        .iter()
        .map(|name| Share { replica: name.clone(), requests: counts.remove(name).unwrap_or(0) })
        .collect();
    shares.extend(counts.into_iter().map(|(replica, requests)| Share { replica, requests }));
    shares
}

fn spread(shares: &[Share]) -> (f64, f64, f64) {
    let n = shares.len() as f64;
    let total: u64 = shares.iter().map(|share| share.requests).sum();
    let max = shares.iter().map(|share| share.requests).max().unwrap_or(0) as f64;
    let mean = ratio(total as f64, n);
    let squares: f64 = shares.iter().map(|share| (share.requests as f64 - mean).powi(2)).sum();
    (mean, ratio(max, mean), ratio(squares, n).sqrt())
}

/// 0 where there is nothing to compare with.
fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, missing, elapsed_s, requests_per_s, .. } = self;
        writeln!(
            f,
            "{requests} requests in {elapsed_s:.2} s ({requests_per_s:.0}/s), {missing} missing"
        )?;
        if self.failed.total() > 0 {
            writeln!(f, "failed: {}", self.failed)?;
        }
        if let Some(latency) = self.latency {
            writeln!(f, "latency: {latency}")?;
        }
        let width = self.replicas.iter().map(|share| share.replica.len()).max().unwrap_or(0).max(7);
        writeln!(f, "{:width$}  requests   share", "replica")?;
        for Share { replica, requests } in &self.replicas {
            let percent = 100.0 * ratio(*requests as f64, self.answered as f64);
            writeln!(f, "{replica:width$}  {requests:8}  {percent:4.1} %")?;
        }
        let Self { mean, max_over_mean, standard_deviation, .. } = self;
        writeln!(
            f,
            "mean {mean:.1}, max/mean {max_over_mean:.3}, standard deviation {standard_deviation:.1}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    fn request(index: u64, outcome: Result<&str, Failure>) -> Request {
        let outcome = outcome.map(str::to_owned);
        Request {
            index,
            id: 100_000,
            start_us: 500_000 + index,
            latency_us: 1_000 * (index + 1),
            outcome,
        }
    }

    #[test]
    fn everything_is_counted_once() {
        let requests = [
            request(0, Ok("S10")),
            request(1, Ok("S2")),
            request(2, Err(Failure::Status(503))),
            request(3, Ok("S2")),
            request(4, Err(Failure::Closed)),
            request(499_999, Ok("S1")),
        ];
        let listed = ["S2", "S10", "S3"].map(str::to_owned);
        let summary = Summary::of(7, &listed, &requests);
        let share = |replica: &str, requests| Share { replica: replica.into(), requests };
        let expected = Summary {
            requests: 7,
            answered: 4,
            missing: 3,
            failed: "1 (closed) 1 (status 503)".parse().unwrap(),
            elapsed_s: 500.499_999,
            requests_per_s: 4.0 / 500.499_999,
            latency: Percentiles::of(vec![1_000, 2_000, 4_000, 500_000_000]),
            replicas: vec![share("S2", 2), share("S10", 1), share("S3", 0), share("S1", 1)],
            mean: 1.0,
            max_over_mean: 2.0,
            standard_deviation: 0.5_f64.sqrt(),
        };
        assert_eq!(summary, expected);
        assert!(!summary.kept());
    }

    #[test]
    fn nothing_at_all_is_a_summary_too() {
        let summary = Summary::of(2, &[], &[]);
        assert_eq!((summary.answered, summary.missing, summary.latency), (0, 2, None));
        assert_eq!(
            (summary.mean, summary.max_over_mean, summary.standard_deviation),
            (0.0, 0.0, 0.0)
        );
    }

    #[test]
    fn the_report_is_short() {
        let requests = [request(0, Ok("S1")), request(1, Ok("S2")), request(2, Ok("S1"))];
        assert_eq!(
            Summary::of(4, &[], &requests).to_string(),
            "4 requests in 0.00 s (999/s), 1 missing\n\
             latency: p50 2.0 ms, p99 3.0 ms, max 3.0 ms\n\
             replica  requests   share\n\
             S1              2  66.7 %\n\
             S2              1  33.3 %\n\
             mean 1.5, max/mean 1.333, standard deviation 0.5\n"
        );
    }
}
