//! How many requests one incarnation of a replica has in hand, and the end of that.
//!
//! A request may look at a picture of the routes, be held up, and ask for its place when the replica has been taken out
//! of the routes and is about to be stopped. So the count itself says that there are no more places: it is sealed in
//! the step that finds it at zero.
//!
//! Invariants: who has a place is counted until it is given back; once sealed, nobody has a place and nobody gets one.

use crate::sync::{AtomicU32, Ordering};

/// No limit is above it, so nothing can be taken.
const SEALED: u32 = u32::MAX;

/// The requests in hand.
#[derive(Debug, Default)]
pub(crate) struct InFlight(AtomicU32);

impl InFlight {
    /// Takes a place below `max`, if there is one.
    pub(crate) fn take(&self, max: u32) -> bool {
        take(&self.0, max)
    }

    /// Gives a place back that was taken.
    pub(crate) fn give_back(&self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }

    /// Places that are taken.
    pub(crate) fn count(&self) -> u32 {
        match self.0.load(Ordering::Relaxed) {
            SEALED => 0,
            count => count,
        }
    }

    /// Ends it if nobody has a place. Whether it has ended.
    pub(crate) fn seal(&self) -> bool {
        match self.0.compare_exchange(0, SEALED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) | Err(SEALED) => true,
            Err(_) => false,
        }
    }
}

/// Adds one if that makes no more than `max`: checked and taken in one step.
pub(crate) fn take(count: &AtomicU32, max: u32) -> bool {
    count
        .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |taken| (taken < max).then(|| taken + 1))
        .is_ok()
}
