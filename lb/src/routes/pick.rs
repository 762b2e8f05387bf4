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
    /// Held while a request is sent again that a replica may have served.
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
    /// None that was not tried yet served within the time that a request may be held.
    HeldTooLong,
    /// As many requests are held as may be.
    TooManyHeld,
    /// The pool was let go of; those who come now have another.
    PoolGone,
    /// A replica failed the request and still serves, and the retry budget had no room within that time.
    RetryBudget,
}

/// The replicas that a request was sent to already, by [`Upstream::id`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tried {
    ids: [u64; ATTEMPTS_MAX],
    len: usize,
    /// A bit for each that had the request in its hands, so that it may have served it.
    sent: u32,
    /// Those that refused the connection: gone, and without the request.
    refused: usize,
}

impl Tried {
    pub(crate) fn add(&mut self, upstream: &Upstream) {
        if self.len < ATTEMPTS_MAX {
            self.ids[self.len] = upstream.id;
            self.len += 1;
        }
    }

    /// The last one had the request in its hands when it failed.
    pub(crate) fn was_sent(&mut self) {
        self.sent |= 1 << self.len.saturating_sub(1);
    }

    /// Whether it is one that may have served the request.
    pub(super) fn may_have_served(&self, upstream: &Upstream) -> bool {
        let mut ids = self.ids[..self.len].iter().enumerate();
        ids.any(|(index, id)| *id == upstream.id && self.sent & (1 << index) != 0)
    }

    pub(super) fn was_ever_sent(&self) -> bool {
        self.sent != 0
    }

    /// The last one refused the connection.
    pub(crate) fn was_refused(&mut self) {
        self.refused += 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether another may be tried, if so many attempts are allowed. A refusal is none: it costs nobody anything, and
    /// of replicas that die together a request may meet one after the other before their ends are known.
    pub(crate) fn is_another_allowed(&self, attempts_max: usize) -> bool {
        self.len - self.refused < attempts_max && self.len < ATTEMPTS_MAX
    }

    pub(super) fn contains(&self, upstream: &Upstream) -> bool {
        self.ids[..self.len].contains(&upstream.id)
    }
}
