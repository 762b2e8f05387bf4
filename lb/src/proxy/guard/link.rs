//! What the proxy and the connection below it tell each other.

use std::sync::atomic::{AtomicBool, Ordering};

use pingora::server::ShutdownWatch;

/// Shared by the requests of one connection, which come one after the other.
#[derive(Debug)]
pub(in super::super) struct Link {
    shutdown: ShutdownWatch,
    is_tunnel: AtomicBool,
    is_ended: AtomicBool,
}

impl Link {
    pub(in super::super) fn new(shutdown: ShutdownWatch) -> Self {
        Self { shutdown, is_tunnel: AtomicBool::new(false), is_ended: AtomicBool::new(true) }
    }

    /// Whether the balancer is closing, so that the connection ends with the request in hand.
    pub(in super::super) fn is_closing(&self) -> bool {
        // It changes once. Unlike a look at the value, this takes no lock.
        self.shutdown.has_changed().unwrap_or(true)
    }

    /// From here on the connection carries another protocol, whose bytes are not looked at.
    pub(in super::super) fn make_tunnel(&self) {
        self.is_tunnel.store(true, Ordering::Release);
    }

    pub(in super::super) fn is_tunnel(&self) -> bool {
        self.is_tunnel.load(Ordering::Acquire)
    }

    pub(in super::super) fn begin_request(&self) {
        self.is_ended.store(false, Ordering::Release);
    }

    /// Whether this is the first to end the request: it is counted once.
    pub(in super::super) fn end_request(&self) -> bool {
        !self.is_ended.swap(true, Ordering::AcqRel)
    }
}
