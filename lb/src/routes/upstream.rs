//! One serving incarnation of a replica as the proxy sees it, and the lease a request holds on it.
//!
//! Invariant: `in_flight` is the number of [`Lease`]s alive, here and in the pool's sum.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use pingora::upstreams::peer::HttpPeer;
use ringmaster_fleet::{Incarnation, ReplicaName};

use super::{
    ejection::{self, Record},
    in_flight::InFlight,
    load::Load,
};
use crate::{config::UpstreamConfig, metrics::ReplicaMetrics, suspicion::Suspicions};

/// Slow start is kept in these parts of one, so that it fits an atomic.
const SHARE_WHOLE: u32 = 1 << 16;

/// A replica that serves: where, under which incarnation, and how many requests it has in hand.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// Unique in this process: no two incarnations of any replica share one.
    pub(crate) id: u64,
    pub(crate) name: ReplicaName,
    pub(crate) incarnation: Incarnation,
    pub(crate) addr: SocketAddr,
    /// Made once, cloned for each request.
    pub(crate) peer: HttpPeer,
    pub(crate) metrics: Arc<ReplicaMetrics>,
    /// Raised by requests that it failed.
    pub(crate) suspicions: Arc<Suspicions>,
    in_flight: Arc<InFlight>,
    share: AtomicU32,
    record: Record,
    load: Arc<Load>,
}

impl Upstream {
    pub(crate) fn new(
        name: ReplicaName,
        incarnation: Incarnation,
        addr: SocketAddr,
        config: &UpstreamConfig,
        metrics: Arc<ReplicaMetrics>,
        load: Arc<Load>,
        suspicions: Arc<Suspicions>,
    ) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Self {
            id,
            peer: peer(id, addr, config),
            name,
            incarnation,
            addr,
            metrics,
            suspicions,
            in_flight: Arc::default(),
            share: AtomicU32::new(SHARE_WHOLE),
            record: Record::default(),
            load,
        }
    }

    /// The same incarnation, spoken to in another way from now on.
    pub(crate) fn reconfigured(&self, config: &UpstreamConfig) -> Self {
        Self {
            id: self.id,
            name: self.name.clone(),
            incarnation: self.incarnation,
            addr: self.addr,
            peer: peer(self.id, self.addr, config),
            metrics: self.metrics.clone(),
            suspicions: self.suspicions.clone(),
            in_flight: self.in_flight.clone(),
            share: AtomicU32::new(self.share.load(Ordering::Relaxed)),
            record: Record::default(),
            load: self.load.clone(),
        }
    }

    /// Requests in hand.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.count()
    }

    /// Lets nobody in any more, if nobody is. Whether that is so: then it can be stopped and no request notices.
    pub(crate) fn seal(&self) -> bool {
        self.in_flight.seal()
    }

    /// The part of its full load that it may take while it starts slowly: in (0, 1].
    pub(crate) fn share(&self) -> f64 {
        f64::from(self.share.load(Ordering::Relaxed)) / f64::from(SHARE_WHOLE)
    }

    /// Sets [`Self::share`].
    pub(crate) fn ramp_to(&self, share: f64) {
        self.share.store((share * f64::from(SHARE_WHOLE)) as u32, Ordering::Relaxed);
    }

    /// Takes a place below `cap`, or none: checked and taken in one step, so that no two requests get the last one.
    pub(crate) fn reserve(self: &Arc<Self>, cap: u32) -> Option<Lease> {
        self.in_flight.take(cap).then(|| {
            self.load.in_flight.fetch_add(1, Ordering::Relaxed);
            Lease(self.clone())
        })
    }

    /// Whether it is passed over just now, for what it did to requests.
    pub(crate) fn is_ejected(&self) -> bool {
        self.record.is_ejected(&self.load, ejection::now)
    }

    /// How much longer it is passed over.
    pub(crate) fn ejected_for(&self) -> Option<Duration> {
        self.record.ejected_for(ejection::now())
    }

    /// A peer for one attempt on a connection of its own: none that was kept open is taken, and none is kept.
    pub(crate) fn peer_for_fresh_connection(&self) -> HttpPeer {
        static NEXT_KEY: AtomicU64 = AtomicU64::new(0);
        let mut peer = self.peer.clone();
        // Connections are kept by this key; ids count up, so nothing is kept by one that counts down.
        peer.group_key = u64::MAX - NEXT_KEY.fetch_add(1, Ordering::Relaxed);
        peer.options.idle_timeout = Some(Duration::from_millis(1));
        peer
    }

    pub(super) fn record(&self) -> &Record {
        &self.record
    }
}

/// The right to send one request; given back when dropped, on whatever path the request ends.
#[derive(Debug)]
pub(crate) struct Lease(Arc<Upstream>);

impl std::ops::Deref for Lease {
    type Target = Arc<Upstream>;

    fn deref(&self) -> &Arc<Upstream> {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.in_flight.give_back();
        self.0.load.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.0.load.freed();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.record.readmit(&self.load);
    }
}

/// A peer with every time limit set: Pingora's defaults are "for ever".
///
/// Connections are pooled under `id`: a replica that comes back on the same address must not be sent requests on
/// its predecessor's connections.
fn peer(id: u64, addr: SocketAddr, config: &UpstreamConfig) -> HttpPeer {
    let mut peer = HttpPeer::new(addr, false, String::new());
    peer.group_key = id;
    let options = &mut peer.options;
    options.connection_timeout = Some(config.connect_timeout);
    options.total_connection_timeout = Some(config.connect_timeout);
    options.read_timeout = Some(config.read_timeout);
    options.write_timeout = Some(config.write_timeout);
    options.idle_timeout = Some(config.idle_timeout);
    peer
}
