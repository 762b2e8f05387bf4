//! The choice of a replica for a request: at once if one has room, else by waiting for one.
//!
//! Invariants of the wait: nothing that a waiting request does itself can wake it; between two looks it yields; its
//! deadline is looked at each time, so it ends whatever wakes it.

use std::time::{Duration, Instant};

use ringmaster_fleet::Place;
use tokio::{
    task::yield_now,
    time::{Instant as Deadline, timeout_at},
};

use super::{
    NoReplica, Pick, Pool, Reason, Routes, Tried,
    load::RetryPermit,
    upstream::{Lease, Upstream},
};

/// How often a held request looks again unasked: a request that is woken may not be able to use what was given back, and
/// no other is woken in its place.
const HOLD_PAUSE: Duration = Duration::from_millis(100);

impl Pool {
    /// Chooses a replica for `hash` that is not among `tried`, waiting for one if there is none: a replica that
    /// failed is back within a moment, as another incarnation. While it waits, the request takes up `bytes`.
    ///
    /// It does not wait for what cannot come: see [`NoReplica::AllFailed`].
    pub(crate) async fn pick(
        &self,
        hash: u64,
        tried: &Tried,
        bytes: impl FnOnce() -> u32,
    ) -> Result<Pick, NoReplica> {
        match self.pick_now(hash, tried) {
            Some(pick) => Ok(pick),
            None if self.shared.load.is_retired() => Err(NoReplica::PoolGone),
            None => self.pick_held(hash, tried, bytes()).await,
        }
    }

    async fn pick_held(&self, hash: u64, tried: &Tried, bytes: u32) -> Result<Pick, NoReplica> {
        let _held = self.held.try_acquire().map_err(|_| NoReplica::TooManyHeld)?;
        let _bytes = self.held_bytes.try_acquire_many(bytes).map_err(|_| NoReplica::TooManyHeld)?;
        self.metrics.held.inc();
        let began = Instant::now();
        let deadline = Deadline::now() + self.hold.timeout;
        let waiting = self.shared.load.wait();
        loop {
            // Listen before looking, or what changes in between would go unheard.
            let changed = waiting.changed();
            if let Some(pick) = self.pick_now(hash, tried) {
                return Ok(Pick { reason: Reason::Held(began.elapsed()), ..pick });
            }
            if self.shared.load.is_retired() {
                return Err(NoReplica::PoolGone);
            }
            if self.have_all_failed(tried) {
                return Err(NoReplica::AllFailed);
            }
            let now = Deadline::now();
            if now >= deadline {
                return Err(self.why_held(tried));
            }
            // Whether it was woken or not, it looks.
            let _ = timeout_at(deadline.min(now + HOLD_PAUSE), changed).await;
            yield_now().await;
        }
    }

    /// What kept a request waiting until its deadline.
    fn why_held(&self, tried: &Tried) -> NoReplica {
        let routes = self.shared.routes.load();
        let has_candidate = routes.serving().any(|it| !tried.contains(it));
        match has_candidate && self.is_charged(&routes, tried) {
            true => NoReplica::RetryBudget,
            false => NoReplica::HeldTooLong,
        }
    }

    /// Whether each replica that serves has failed the request and is known to serve all the same. A replica whose end is
    /// not known yet does not count: it may be replaced within a moment, and its successor is worth waiting for.
    fn have_all_failed(&self, tried: &Tried) -> bool {
        let routes = self.shared.routes.load();
        routes.serving_count() > 0 && routes.serving().all(|it| tried.failed_and_serves(it))
    }

    /// Whether a further attempt counts against the retry budget. It does not if no replica can have served the
    /// request, or if those that had it in hand are gone: then there is nobody whom a storm of retries could hurt, and
    /// their requests need other replicas all at once.
    fn is_charged(&self, routes: &Routes, tried: &Tried) -> bool {
        tried.was_ever_sent()
            && routes.serving().any(|it| tried.may_have_served(it) && !self.is_ejected(it))
    }

    /// The first candidate that is below its bound, or else the first that serves: a bound moves load, it does not
    /// refuse it. The limit of one replica does.
    fn pick_now(&self, hash: u64, tried: &Tried) -> Option<Pick> {
        let routes = self.shared.routes.load();
        let retry = match self.is_charged(&routes, tried) {
            true => Some(self.shared.load.retry_permit(&self.upstream)?),
            false => None,
        };
        let place = routes.table().locate_ticket(hash);
        let max = self.upstream.in_flight_max;
        let bounded = self.bound.as_ref().and_then(|bound| {
            let serving = routes.serving_count();
            let total = self.in_flight();
            let cap = |it: &Upstream| Some(bound.cap(total, serving, it.share()).min(max));
            reserve(&routes, place, tried, |it| cap(it).filter(|_| !self.is_ejected(it)))
        });
        let lease = bounded
            .or_else(|| reserve(&routes, place, tried, |it| (!self.is_ejected(it)).then_some(max)))
            .or_else(|| {
                let is_open = self.ejected() > 0
                    && self.ejection.fail_open
                    && routes.serving().all(|it| tried.contains(it) || it.is_ejected());
                is_open.then(|| reserve(&routes, place, tried, |_| Some(max))).flatten()
            })?;
        let reason = match routes.owner(place) {
            _ if tried.attempts() > 0 => Reason::Retry(tried.attempts() + 1),
            _ if !routes.table().algorithm().is_keyed() => Reason::InTurn,
            Some(owner) if owner.id == lease.id => Reason::Hash,
            Some(owner) if self.is_ejected(owner) => Reason::FailoverDown,
            Some(_) => Reason::SpillBound,
            None => Reason::FailoverDown,
        };
        Some(Pick { lease, reason, _retry: retry.map(RetryPermit::used) })
    }

    /// Asks the clock only while somebody is ejected.
    fn is_ejected(&self, upstream: &Upstream) -> bool {
        self.ejected() > 0 && upstream.is_ejected()
    }
}

/// A place at the first candidate that was not tried and has fewer requests than `cap` says; none where that is
/// `None`.
fn reserve(
    routes: &Routes,
    place: Place,
    tried: &Tried,
    cap: impl Fn(&Upstream) -> Option<u32>,
) -> Option<Lease> {
    let mut lease = None;
    routes.first(
        place,
        |upstream| upstream.in_flight(),
        |upstream| {
            let cap = (!tried.contains(upstream)).then(|| cap(upstream)).flatten();
            lease = cap.and_then(|cap| upstream.reserve(cap));
            lease.is_some()
        },
    )?;
    lease
}
