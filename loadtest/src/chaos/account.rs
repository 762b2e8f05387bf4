//! The balancer's account of a load: how it says that requests ended, and whether its clients saw the same.
//!
//! Every request that was answered ends, by the balancer's count, in exactly one way. One that was not answered may have
//! ended in any way, or never have come.

use serde::{Deserialize, Serialize};

use crate::{metrics::Metrics, reasons::Reasons, request::Request};

/// What the balancer counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Requests that ended with a replica's answer, or with one of 500 or above.
    pub(crate) ok: u64,
    pub(crate) upstream_errors: u64,
    /// Requests that ended without, by reason.
    pub(crate) failed: Reasons,
    pub(crate) rejected: Reasons,
    /// Attempts at a further replica, by what went wrong at the one before.
    pub(crate) retried: Reasons,
    /// Requests that waited for a replica.
    pub(crate) held: u64,
}

/// What clients saw of their requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) ok: u64,
    /// Answered with anything else.
    pub(crate) errors: u64,
    pub(crate) unanswered: u64,
}

/// What is known of one load beside its requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) counts: Counts,
    /// Of clients beside the load's own.
    pub(crate) others: Seen,
    /// A part of the counts went with processes that were taken over.
    pub(crate) is_partial: bool,
}

impl Counts {
    pub(super) fn of(metrics: &Metrics) -> Self {
        let ended = |outcome| {
            metrics.by_reason("ringmaster_requests_ended_total", Some(("outcome", outcome)))
        };
        Self {
            ok: ended("ok").total(),
            upstream_errors: ended("upstream_error").total(),
            failed: ended("failed"),
            rejected: ended("rejected"),
            retried: metrics.by_reason("ringmaster_retries_total", None),
            held: metrics.sum("ringmaster_requests_held_total"),
        }
    }

    /// What was counted since they were `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            ok: self.ok.saturating_sub(before.ok),
            upstream_errors: self.upstream_errors.saturating_sub(before.upstream_errors),
            failed: self.failed.since(&before.failed),
            rejected: self.rejected.since(&before.rejected),
            retried: self.retried.since(&before.retried),
            held: self.held.saturating_sub(before.held),
        }
    }

    pub(super) fn add(&mut self, more: &Self) {
        self.ok += more.ok;
        self.upstream_errors += more.upstream_errors;
        self.failed.add_all(&more.failed);
        self.rejected.add_all(&more.rejected);
        self.retried.add_all(&more.retried);
        self.held += more.held;
    }

    fn errors(&self) -> u64 {
        self.upstream_errors + self.failed.total() + self.rejected.total()
    }
}

impl Seen {
    pub(crate) fn of(requests: &[Request]) -> Self {
        let mut seen = Self::default();
        for request in requests {
            match request.outcome.as_ref().map_err(|it| it.status()) {
                Ok(_) => seen.ok += 1,
                Err(Some(_)) => seen.errors += 1,
                Err(None) => seen.unanswered += 1,
            }
        }
        seen
    }

    pub(super) fn add(&mut self, more: Self) {
        self.ok += more.ok;
        self.errors += more.errors;
        self.unanswered += more.unanswered;
    }
}

impl Account {
    pub(super) fn add(&mut self, more: &Self) {
        self.counts.add(&more.counts);
        self.others.add(more.others);
        self.is_partial |= more.is_partial;
    }

    /// How it contradicts what the load's own clients saw.
    pub(crate) fn disagreement(&self, seen: Seen) -> Option<String> {
        let mut all = seen;
        all.add(self.others);
        let Seen { ok, errors, unanswered } = all;
        let (counted_ok, counted_errors) = (self.counts.ok, self.counts.errors());
        let is_complete = self.is_partial || (counted_ok >= ok && counted_errors >= errors);
        let over = counted_ok.saturating_sub(ok) + counted_errors.saturating_sub(errors);
        (!is_complete || over > unanswered).then(|| {
            format!(
                "the balancer counts {counted_ok} ok and {counted_errors} others; \
                 clients saw {ok} ok, {errors} others, and {unanswered} without an answer"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(ok: u64, errors: u64, unanswered: u64) -> Seen {
        Seen { ok, errors, unanswered }
    }

    #[test]
    fn every_answered_request_is_counted_once() {
        let count = |text: &str| text.parse().unwrap();
        let counts = Counts {
            ok: 5,
            upstream_errors: 1,
            failed: count("1 (connect)"),
            rejected: count("2 (overload)"),
            retried: count("9 (reset)"),
            held: 9,
        };
        for (is_partial, clients, agrees) in [
            (false, seen(4, 3, 0), true),
            (false, seen(3, 3, 0), false),
            (false, seen(3, 3, 1), true),
            (false, seen(5, 3, 0), false),
            (false, seen(4, 2, 0), false),
            (false, seen(4, 4, 0), false),
            (false, seen(2, 2, 3), true),
            (false, seen(2, 2, 9), true),
            (true, seen(5, 9, 0), true),
            (true, seen(9, 2, 0), false),
        ] {
            let others = seen(1, 1, 0);
            let account = Account { counts: counts.clone(), others, is_partial };
            let told = account.disagreement(clients);
            assert_eq!(told.is_none(), agrees, "{is_partial} {clients:?}: {told:?}");
        }
    }

    #[test]
    fn what_is_counted_between_two_readings_adds_up() {
        let reading = |ok: u64, failed: &str, held| Counts {
            ok,
            failed: failed.parse().unwrap(),
            held,
            ..Counts::default()
        };
        let readings = [reading(1, "1 (connect)", 0), reading(3, "2 (connect) 1 (client)", 4)];
        let since = readings[1].since(&readings[0]);
        assert_eq!(since, reading(2, "1 (client) 1 (connect)", 4));
        let mut sum = readings[0].clone();
        sum.add(&since);
        assert_eq!(sum, readings[1]);
    }
}
