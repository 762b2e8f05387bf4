//! A choice of a replica: what came of it, why, and what was tried before.

use std::{fmt, time::Duration};

use super::{
    load::RetryPermit,
    upstream::{Lease, Upstream},
};
use crate::config::ATTEMPTS_MAX;

/// Why a request went where it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// To the owner of its slot.
    Hash,
    /// By an algorithm without keys.
    InTurn,
    /// The owner has as many requests in hand as the bound allows.
    SpillBound,
    /// The owner does not serve.
    FailoverDown,
    /// An attempt at another replica failed; the number of this attempt, from 2.
    Retry(usize),
    /// It waited this long until a replica served.
    Held(Duration),
}

/// A chosen replica.
#[derive(Debug)]
pub(crate) struct Pick {
    pub(crate) lease: Lease,
    pub(crate) reason: Reason,
    /// Kept while a request is sent again that a replica may have served.
    pub(super) _retry: Option<RetryPermit>,
}

impl Reason {
    /// Without particulars: a label.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::InTurn => "in-turn",
            Self::SpillBound => "spill-bound",
            Self::FailoverDown => "failover-down",
            Self::Retry(_) => "retry",
            Self::Held(_) => "held",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry(attempt) => write!(f, "retry-{attempt}"),
            Self::Held(waited) => write!(f, "held-{}ms", waited.as_millis()),
            Self::Hash | Self::InTurn | Self::SpillBound | Self::FailoverDown => {
                f.write_str(self.label())
            }
        }
    }
}

/// Why no replica was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoReplica {
    /// No replica that was not tried yet served within the time that a request may be held.
    HeldTooLong,
    /// Every replica that serves has failed the request, and has answered a heartbeat since: none is about to be replaced.
    AllFailed,
    /// As many requests are held as may be.
    TooManyHeld,
    /// The pool was let go of; those who come now have another.
    PoolGone,
    /// A replica failed the request and still serves, and the retry budget had no room within that time.
    RetryBudget,
}

/// The attempts at a request so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tried {
    replicas: [Attempt; ATTEMPTS_MAX],
    len: usize,
    /// Attempts at replicas that refused the connection: they are gone, and never had the request.
    refused: usize,
    /// Attempts on kept connections that the replica had closed meanwhile: they say nothing about the replica.
    stale: usize,
}

/// An attempt at one replica.
#[derive(Clone, Copy, Debug, Default)]
struct Attempt {
    /// [`Upstream::id`].
    id: u64,
    /// What its failure made suspected of the replica ([`Suspicions`](crate::suspicion::Suspicions)); 0 before that.
    suspicion: u64,
    /// Whether the replica had the request in its hands, so that it may have served it.
    was_sent: bool,
}

impl Tried {
    pub(crate) fn add(&mut self, upstream: &Upstream) {
        if let Some(free) = self.replicas.get_mut(self.len) {
            *free = Attempt { id: upstream.id, ..Attempt::default() };
            self.len += 1;
        }
    }

    /// The last attempt failed at its replica, of which this is suspected now.
    pub(crate) fn failed(&mut self, suspicion: u64) {
        if let Some(last) = self.last() {
            last.suspicion = suspicion;
        }
    }

    /// The replica had the request in its hands when the last attempt failed.
    pub(crate) fn was_sent(&mut self) {
        if let Some(last) = self.last() {
            last.was_sent = true;
        }
    }

    /// The last replica refused the connection.
    pub(crate) fn was_refused(&mut self) {
        self.refused += 1;
    }

    /// The last attempt failed on a kept connection: its replica may be tried again, on a fresh one.
    pub(crate) fn was_stale(&mut self) {
        self.stale += 1;
        self.len = self.len.saturating_sub(1);
    }

    /// Whether kept connections have failed the request: it takes none of them any more.
    pub(crate) fn needs_fresh_connection(&self) -> bool {
        self.stale > 0
    }

    fn last(&mut self) -> Option<&mut Attempt> {
        self.replicas[..self.len].last_mut()
    }

    fn attempt_at(&self, upstream: &Upstream) -> Option<&Attempt> {
        self.replicas[..self.len].iter().find(|it| it.id == upstream.id)
    }

    /// Whether it is one that may have served the request.
    pub(super) fn may_have_served(&self, upstream: &Upstream) -> bool {
        self.attempt_at(upstream).is_some_and(|it| it.was_sent)
    }

    pub(super) fn was_ever_sent(&self) -> bool {
        self.replicas[..self.len].iter().any(|it| it.was_sent)
    }

    /// Whether it failed the request, and has answered a heartbeat since.
    pub(super) fn failed_and_serves(&self, upstream: &Upstream) -> bool {
        self.attempt_at(upstream)
            .is_some_and(|it| it.suspicion > 0 && upstream.suspicions.is_settled(it.suspicion))
    }

    /// All attempts, those at stale connections included.
    pub(crate) fn attempts(&self) -> usize {
        self.len + self.stale
    }

    /// Whether another may be made, if so many are allowed. A refused connection is none: it costs nobody anything, and
    /// of replicas that die together a request may meet one after the other before their ends are known.
    pub(crate) fn is_another_allowed(&self, attempts_max: usize) -> bool {
        self.len - self.refused < attempts_max && self.len < ATTEMPTS_MAX
    }

    pub(super) fn contains(&self, upstream: &Upstream) -> bool {
        self.attempt_at(upstream).is_some()
    }
}
