//! Where a request may go: which pool it belongs to, and which replica of the pool takes it.
//!
//! ```text
//!   supervisor ──PoolWriter::publish──▶ ArcSwap<Ring<Arc<Upstream>>> ──Pool::pick──▶ Lease ──▶ proxy
//! ```
//!
//! Readers see one immutable [`Ring`] at a time; only the one [`PoolWriter`] of a pool replaces it. What must
//! outlive a ring (the sum of requests in flight, the draw of tickets) lives in the [`Pool`], and what must outlive
//! its settings is shared by the pool before and the pool after ([`Shared`]).

mod choose;
mod ejection;
mod in_flight;
mod load;
mod pick;
mod ring;
mod upstream;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwap;
use ringmaster_fleet::{Algorithm, Bound, ReplicaName, Table};
use tokio::sync::Semaphore;

use self::in_flight::take;
pub(crate) use self::{
    ejection::EjectionCause,
    load::{Admitted, Load},
    pick::{NoReplica, Pick, Reason, Tried},
    ring::Ring,
    upstream::Upstream,
};
use crate::{
    config::{EjectionConfig, HoldConfig, KeySource, PoolConfig, RouteConfig, UpstreamConfig},
    metrics::PoolMetrics,
};

/// The ring that requests are routed by.
pub(crate) type Routes = Ring<Arc<Upstream>>;

/// Which pool serves which requests; the first match wins.
#[derive(Debug)]
pub(crate) struct Router {
    rules: Vec<(RouteConfig, Arc<Pool>)>,
}

impl Router {
    /// Every route's pool must be among `pools`: the configuration has checked it.
    pub(crate) fn new(routes: &[RouteConfig], pools: &[Arc<Pool>]) -> Self {
        let pool = |name: &str| pools.iter().find(|pool| &*pool.name == name);
        let rules = routes
            .iter()
            .filter_map(|route| Some((route.clone(), pool(&route.pool)?.clone())))
            .collect();
        Self { rules }
    }

    /// The pool for a request to `path` on `host` (without a port, in any case).
    pub(crate) fn pool(&self, host: &str, path: &str) -> Option<&Arc<Pool>> {
        let (_, pool) = self.rules.iter().find(|(rule, _)| rule.takes(host, path))?;
        Some(pool)
    }
}

/// A pool as requests see it, with settings that never change: others make another pool.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) name: Arc<str>,
    pub(crate) placing: Placing,
    pub(crate) upstream: UpstreamConfig,
    pub(crate) metrics: PoolMetrics,
    requests_max: u32,
    bound: Option<Bound>,
    ejection: EjectionConfig,
    hold: HoldConfig,
    held: Semaphore,
    held_bytes: Semaphore,
    shared: Shared,
}

/// What stays when a pool gets other settings.
#[derive(Clone, Debug)]
struct Shared {
    routes: Arc<ArcSwap<Routes>>,
    load: Arc<Load>,
    tickets: Arc<AtomicU64>,
}

/// What requests of a pool are placed by.
#[derive(Clone, Debug)]
pub(crate) enum Placing {
    ByKey(KeySource),
    InTurn,
    ByChance,
}

/// The right to publish a pool's routes. Not `Clone`: there is one writer.
#[derive(Debug)]
pub(crate) struct PoolWriter(Arc<Pool>);

impl PoolWriter {
    pub(crate) fn new(
        name: &str,
        config: &PoolConfig,
        table: Arc<Table>,
        metrics: PoolMetrics,
    ) -> Self {
        let shared = Shared {
            routes: Arc::new(ArcSwap::from_pointee(Ring::new(table, |_| None))),
            load: Arc::default(),
            tickets: Arc::default(),
        };
        Self(Arc::new(Pool::new(name.into(), config, metrics, shared)))
    }

    /// What requests see from now on; those in progress end with what they began with.
    pub(crate) fn reconfigure(&mut self, config: &PoolConfig, metrics: PoolMetrics) {
        let Pool { name, shared, .. } = &*self.0;
        self.0 = Arc::new(Pool::new(name.clone(), config, metrics, shared.clone()));
    }

    /// What requests see.
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.0
    }

    /// The counts that every [`Upstream`] of the pool adds to.
    pub(crate) fn load(&self) -> Arc<Load> {
        self.0.shared.load.clone()
    }

    /// From here on, requests go where `routes` says.
    pub(crate) fn publish(&self, routes: Routes) {
        self.0.shared.routes.store(Arc::new(routes));
        self.0.shared.load.published();
    }

    /// Has every held request look again: what it waits for may be decided.
    pub(crate) fn wake_held(&self) {
        self.0.shared.load.published();
    }

    /// Requests that come from here on go to other pools; those that have no replica yet are to follow them.
    pub(crate) fn retire(&self) {
        self.0.shared.load.retire();
    }
}

impl Pool {
    fn new(name: Arc<str>, config: &PoolConfig, metrics: PoolMetrics, shared: Shared) -> Self {
        Self {
            name,
            placing: match config.algorithm {
                Algorithm::Rendezvous { .. }
                | Algorithm::Ring { .. }
                | Algorithm::Maglev { .. } => Placing::ByKey(config.key.clone()),
                Algorithm::RoundRobin => Placing::InTurn,
                Algorithm::LeastRequests => Placing::ByChance,
            },
            upstream: config.upstream.clone(),
            metrics,
            requests_max: config.requests_max,
            bound: config.bounded_load,
            ejection: config.ejection.clone(),
            hold: config.hold.clone(),
            held: Semaphore::new(config.hold.requests_max),
            held_bytes: Semaphore::new(config.hold.bytes_max),
            shared,
        }
    }

    /// A place for one more request, or none: refused before it costs anything.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Admitted> {
        take(&self.shared.load.requests, self.requests_max).then(|| Admitted(self.clone()))
    }

    /// What a request with this key is placed by, in whatever table there is by then.
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        self.shared.routes.load().table().locate(key).hash
    }

    /// What the next request in turn is placed by.
    pub(crate) fn next_ticket(&self) -> u64 {
        self.shared.tickets.fetch_add(1, Ordering::Relaxed)
    }

    /// Requests in the hands of each replica that serves.
    pub(crate) fn loads(&self) -> Vec<(ReplicaName, u32)> {
        self.shared.routes.load().serving().map(|it| (it.name.clone(), it.in_flight())).collect()
    }

    /// Requests from their routing to their end, those of them that wait, and those whose retry counts against the budget.
    pub(crate) fn requests(&self) -> (u32, u32, u32) {
        let load = &self.shared.load;
        let counts = [&load.requests, &load.waiting, &load.retries];
        counts.map(|it| it.load(Ordering::Relaxed)).into()
    }

    /// Requests in hand at all replicas.
    pub(crate) fn in_flight(&self) -> u32 {
        self.shared.load.in_flight.load(Ordering::Relaxed)
    }

    /// The most requests that `upstream` may have in hand just now; `None` without a bound.
    pub(crate) fn cap(&self, upstream: &Upstream) -> Option<u32> {
        let serving = self.shared.routes.load().serving_count();
        Some(self.bound.as_ref()?.cap(self.in_flight(), serving, upstream.share()))
    }

    /// Replicas that are passed over just now for what they did to requests.
    pub(crate) fn ejected_now(&self) -> u32 {
        self.shared.routes.load().serving().filter(|it| it.is_ejected()).count() as u32
    }

    /// The same, with those whose ejection has ended since a request last looked at them.
    fn ejected(&self) -> u32 {
        self.shared.load.ejected.load(Ordering::Relaxed)
    }

    /// No connection to `upstream` was to be had.
    pub(crate) fn connect_failed(&self, upstream: &Upstream) {
        let cause = upstream.record().connect_failed(&self.ejection);
        self.eject(upstream, cause);
    }

    /// `upstream` answered with `status`.
    pub(crate) fn answered(&self, upstream: &Upstream, status: u16) {
        let cause = upstream.record().answered(status, &self.ejection);
        self.eject(upstream, cause);
    }

    fn eject(&self, upstream: &Upstream, cause: Option<EjectionCause>) {
        let Some(cause) = cause else { return };
        let serving = self.shared.routes.load().serving_count();
        if upstream.record().eject(&self.ejection, &self.shared.load, serving, ejection::now()) {
            self.metrics.ejected(cause);
            // Whoever waits for its end in the routes need not wait any longer.
            self.shared.load.published();
        }
    }
}

#[cfg(test)]
mod tests;
