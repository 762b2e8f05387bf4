//! What the proxy and the connection below it tell each other.

use std::{
    future::Future,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
};

use pingora::{protocols::http::v2::server::HttpSession, server::ShutdownWatch};

use super::{cancel::Cancellation, upload::Upload};
use crate::proxy::context::Remains;

tokio::task_local! {
    /// Pingora takes nothing along with an HTTP/2 request.
    static CURRENT: Arc<Link>;
}

/// Shared by the requests of one HTTP/1 connection, which come one after the other; with HTTP/2, each has its own.
#[derive(Debug)]
pub(in super::super) struct Link {
    /// Whether the client sees the connection as one over TLS.
    pub(in super::super) is_secure: bool,
    /// The body of the request in hand, where nobody else watches over it.
    pub(in super::super) upload: Upload,
    cancellation: Cancellation,
    /// What the request in hand had come to when it was cancelled.
    remains: OnceLock<Box<Remains>>,
    shutdown: ShutdownWatch,
    is_tunnel: AtomicBool,
    is_ended: AtomicBool,
    has_claims: AtomicBool,
}

impl Link {
    pub(in super::super) fn new(is_secure: bool, shutdown: ShutdownWatch) -> Self {
        Self {
            is_secure,
            upload: Upload::default(),
            cancellation: Cancellation::default(),
            remains: OnceLock::new(),
            shutdown,
            is_tunnel: AtomicBool::new(false),
            is_ended: AtomicBool::new(true),
            has_claims: AtomicBool::new(false),
        }
    }

    /// Serves a request, for which this is the [`Self::current`] link.
    pub(in super::super) async fn during<T>(
        self: &Arc<Self>,
        served: impl Future<Output = T>,
    ) -> T {
        CURRENT.scope(self.clone(), served).await
    }

    /// The link of the request that is being served. Every request is served within one.
    pub(in super::super) fn current() -> Arc<Self> {
        CURRENT.get()
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

    /// Whether the request in hand says where it came from, which only trusted proxies may.
    pub(in super::super) fn set_claims(&self, has_claims: bool) {
        self.has_claims.store(has_claims, Ordering::Release);
    }

    pub(in super::super) fn has_claims(&self) -> bool {
        self.has_claims.load(Ordering::Acquire)
    }

    /// Watches an HTTP/2 request, which Pingora has not got yet, for a reset by its client.
    pub(in super::super) fn watch(self: &Arc<Self>, request: &mut HttpSession) {
        let waker = Waker::from(self.clone());
        let idle = std::pin::pin!(request.idle());
        if idle.poll(&mut Context::from_waker(&waker)).is_ready() {
            self.cancellation.wake();
        }
    }

    /// From here on the request is cancelled when its client resets it.
    pub(in super::super) fn allow_cancelling(&self) {
        self.cancellation.arm();
    }

    /// An answer begins.
    pub(in super::super) fn forbid_cancelling(&self) {
        self.cancellation.disarm();
    }

    /// Returns when the client has reset the request, which has to be dropped then.
    pub(in super::super) async fn cancelled(&self) {
        self.cancellation.cancelled().await;
    }

    pub(in super::super) fn is_cancelled(&self) -> bool {
        self.cancellation.is_cancelled()
    }

    /// Keeps what a cancelled request had come to, for its entry in the ledger.
    pub(in super::super) fn leave(&self, remains: Remains) {
        self.remains.get_or_init(|| Box::new(remains));
    }

    pub(in super::super) fn remains(&self) -> Option<&Remains> {
        self.remains.get().map(Box::as_ref)
    }

    /// Whether this is the first to end the request: it is counted once.
    pub(in super::super) fn end_request(&self) -> bool {
        !self.is_ended.swap(true, Ordering::AcqRel)
    }
}

/// The waker of the HTTP/2 library.
impl Wake for Link {
    fn wake(self: Arc<Self>) {
        self.cancellation.wake();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.cancellation.wake();
    }
}
