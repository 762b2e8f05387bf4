//! What all requests and replicas of a pool share: how much is in hand, and who waits for a change.
//!
//! Invariants: each count is the number of the guards alive that stand for it ([`Admitted`], [`super::upstream::Lease`],
//! [`RetryPermit`]), whatever path a request takes.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use tokio::sync::{Notify, futures::Notified};

use super::{Pool, in_flight::take};
use crate::config::UpstreamConfig;

/// The counts of one pool.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// Requests from their routing to their end.
    pub(super) requests: AtomicU32,
    /// Requests in replicas' hands.
    pub(super) in_flight: AtomicU32,
    /// Those of them that a replica which still serves had failed before.
    pub(super) retries: AtomicU32,
    /// Replicas that are ejected.
    pub(super) ejected: AtomicU32,
    /// Requests that wait for [`Self::changed`].
    pub(super) waiting: AtomicU32,
    changed: Notify,
    /// Whether the pool was let go of. Never taken back.
    is_retired: AtomicBool,
}

impl Load {
    /// Something was given back: somebody who waits may go on.
    pub(super) fn freed(&self) {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.changed.notify_one();
        }
    }

    /// Everything may have changed.
    pub(super) fn published(&self) {
        self.changed.notify_waiters();
    }

    /// The pool is let go of: nobody need wait for a replica.
    pub(super) fn retire(&self) {
        self.is_retired.store(true, Ordering::Release);
        self.published();
    }

    pub(super) fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Acquire)
    }

    /// Counts as waiting until dropped.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        Waiting(self)
    }

    /// The right to send a request again that may have been served: a share of what is in hand.
    pub(super) fn retry_permit(self: &Arc<Self>, config: &UpstreamConfig) -> Option<RetryPermit> {
        let in_flight = u64::from(self.in_flight.load(Ordering::Relaxed));
        let share = in_flight * u64::from(config.retry_budget_percent) / 100;
        let max = u32::try_from(share).unwrap_or(u32::MAX).max(config.retry_budget_min);
        take(&self.retries, max).then(|| RetryPermit { load: self.clone(), is_used: false })
    }
}

/// A request that waits.
pub(super) struct Waiting<'a>(&'a Load);

impl Waiting<'_> {
    /// Ends when something has changed since this call.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.0.changed.notified()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A part of the retry budget, given back when dropped.
///
/// Giving back what was used wakes a request that waits. What was taken in vain is given back in silence: it would wake the
/// very request that looked, which would look, and take, and give back again.
#[derive(Debug)]
pub(crate) struct RetryPermit {
    load: Arc<Load>,
    is_used: bool,
}

impl RetryPermit {
    /// A request is sent again under this permit.
    pub(super) fn used(self) -> Self {
        let mut permit = self;
        permit.is_used = true;
        permit
    }
}

impl Drop for RetryPermit {
    fn drop(&mut self) {
        self.load.retries.fetch_sub(1, Ordering::AcqRel);
        if self.is_used {
            self.load.freed();
        }
    }
}

/// The place of one request in its pool, given back when dropped.
#[derive(Debug)]
pub(crate) struct Admitted(pub(super) Arc<Pool>);

impl std::ops::Deref for Admitted {
    type Target = Pool;

    fn deref(&self) -> &Pool {
        &self.0
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.shared.load.requests.fetch_sub(1, Ordering::AcqRel);
    }
}
