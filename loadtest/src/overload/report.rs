//! What the tables say, in words and a table.

use serde::{Deserialize, Serialize};

use super::{Ask, Experiment};
use crate::{
    manifest::Manifest,
    percentiles::Percentiles,
    report::{circumstances, table},
    request::Request,
    tally::Tally,
};

/// What is served under overload must be at least this part of the peak.
const GOODPUT_MIN: f64 = 0.9;

/// What the experiment found.
#[derive(Serialize, Deserialize)]
pub(super) struct Summary {
    /// Answered requests per second, in the closed loop and under overload.
    peak: f64,
    goodput: f64,
    /// Requests per second under overload.
    offered: f64,
    overload: Tally,
    admin_alone: Option<Percentiles>,
    admin_loaded: Option<Percentiles>,
    /// Of the operator's questions under overload.
    admin_unanswered: usize,
}

/// Those that were answered while the load lasted, so many seconds; what is answered after it is not counted.
pub(super) fn answered_per_second(requests: &[Request], seconds: u32) -> f64 {
    let end_us = u64::from(seconds) * 1_000_000;
    let is_counted = |it: &&Request| it.outcome.is_ok() && it.end_us() <= end_us;
    requests.iter().filter(is_counted).count() as f64 / f64::from(seconds)
}

impl Summary {
    pub(super) fn of(seconds: u32, peak: &[Request], requests: &[Request], asks: &[Ask]) -> Self {
        let admin = |loaded: bool| {
            let of_kind = asks.iter().filter(|it| it.loaded == loaded);
            Percentiles::of(of_kind.filter_map(|it| it.latency_us).collect())
        };
        Self {
            peak: answered_per_second(peak, seconds),
            goodput: answered_per_second(requests, seconds),
            offered: requests.len() as f64 / f64::from(seconds),
            overload: Tally::of(requests),
            admin_alone: admin(false),
            admin_loaded: admin(true),
            admin_unanswered: asks.iter().filter(|it| it.loaded && it.latency_us.is_none()).count(),
        }
    }

    pub(super) fn kept(&self) -> bool {
        self.goodput >= GOODPUT_MIN * self.peak && self.admin_unanswered == 0
    }
}

pub(super) fn text(summary: &Summary) -> String {
    let rows = figures(summary);
    rows.into_iter().map(|(what, figure)| format!("{what}: {figure}\n")).collect()
}

pub(super) fn markdown(manifest: &Manifest<Experiment>, summary: &Summary) -> String {
    let plan = &manifest.plan;
    format!(
        "# {}\n\n{}\n{} replicas that take {} ms each; {} connections, {} s.\n\n{}",
        plan.title,
        circumstances(manifest),
        plan.replicas,
        plan.delay_ms,
        plan.connections,
        plan.seconds,
        table(
            &["", "found"],
            figures(summary).into_iter().map(|(what, figure)| vec![what.to_owned(), figure])
        )
    )
}

fn figures(it: &Summary) -> Vec<(&'static str, String)> {
    let times = |it: Option<Percentiles>| it.map_or_else(|| "none".into(), |it| it.to_string());
    vec![
        ("peak, answered a second", format!("{:.0}", it.peak)),
        (
            "offered a second",
            format!("{:.0}, {:.1} times the peak", it.offered, it.offered / it.peak),
        ),
        (
            "answered a second meanwhile",
            format!("{:.0}, {:.1} % of the peak", it.goodput, 100.0 * it.goodput / it.peak),
        ),
        ("latency of the answered", times(it.overload.latency)),
        ("not served", it.overload.failed.to_string()),
        ("admin API, no load", times(it.admin_alone)),
        ("admin API under overload", times(it.admin_loaded)),
        ("its questions without an answer", it.admin_unanswered.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    fn request(start_us: u64, is_ok: bool) -> Request {
        let outcome = if is_ok { Ok("S1".to_owned()) } else { Err(Failure::Status(503)) };
        Request { index: 0, id: 1, start_us, latency_us: 100, outcome }
    }

    #[test]
    fn less_than_the_peak_or_a_silent_operator_s_door_breaks_the_promise() {
        let loop_of = |ok: u64, failed: u64| -> Vec<Request> {
            (0..ok)
                .map(|it| request(it, true))
                .chain((0..failed).map(|it| request(it, false)))
                .collect()
        };
        let ask = |latency_us| Ask { loaded: true, latency_us };
        let late = request(2_000_000, true);
        for (answered, extra, latency_us, kept) in [
            (95, None, Some(10), true),
            (89, None, Some(10), false),
            (89, Some(late), Some(10), false),
            (95, None, None, false),
        ] {
            let requests: Vec<_> = loop_of(answered, 900).into_iter().chain(extra).collect();
            let summary = Summary::of(1, &loop_of(100, 0), &requests, &[ask(latency_us)]);
            assert_eq!(summary.kept(), kept, "{answered} {latency_us:?}");
        }
    }
}
