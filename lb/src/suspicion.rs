//! Doubts about a replica: raised by requests that it failed, settled by its heartbeats.
//!
//! A request that fails at a replica raises a suspicion, which brings the replica's next heartbeat forward. A heartbeat that
//! began after that and was answered settles it: the replica still serves, so nothing is about to replace it. A request that
//! has no other replica to go to waits for one of the two: the replica's end, or the settlement.
//!
//! Invariant: only suspicions that were raised are settled, in the order in which they were raised.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// The suspicions about one incarnation of a replica, numbered from 1.
#[derive(Debug, Default)]
pub(crate) struct Suspicions {
    raised: AtomicU64,
    settled: AtomicU64,
    probe: Notify,
}

impl Suspicions {
    /// Raises a suspicion and returns its number.
    pub(crate) fn raise(&self) -> u64 {
        let number = self.raised.fetch_add(1, Ordering::AcqRel) + 1;
        self.probe.notify_one();
        number
    }

    /// The number of the last suspicion raised so far; 0 if there was none.
    pub(crate) fn last(&self) -> u64 {
        self.raised.load(Ordering::Acquire)
    }

    /// Waits for a suspicion that was raised since the last call returned.
    pub(crate) async fn raised(&self) {
        self.probe.notified().await;
    }

    /// Settles every suspicion up to `number`. Returns whether there was one to settle.
    pub(crate) fn settle(&self, number: u64) -> bool {
        self.settled.fetch_max(number, Ordering::AcqRel) < number
    }

    /// Whether the suspicion with this number is settled.
    pub(crate) fn is_settled(&self, number: u64) -> bool {
        number <= self.settled.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settles_only_what_was_raised_before_the_heartbeat_began() {
        let suspicions = Suspicions::default();
        assert!(!suspicions.settle(suspicions.last()), "nothing to settle");
        let before = suspicions.raise();
        let heartbeat = suspicions.last();
        let meanwhile = suspicions.raise();
        assert!(suspicions.settle(heartbeat));
        assert!(suspicions.is_settled(before));
        assert!(!suspicions.is_settled(meanwhile));
        assert!(!suspicions.settle(heartbeat), "it is settled already");
        assert!(suspicions.settle(suspicions.last()));
        assert!(suspicions.is_settled(meanwhile));
    }
}
