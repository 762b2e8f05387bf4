//! The admin listener: connections, and what each may take.
//!
//! Invariant: a connection that sends no whole request head in time is closed, so that none is held for ever but by
//! a caller that the guard let in.

use super::guard::{Caller, Door};
use crate::config::AdminConfig;
use axum::{
    Router,
    http::{HeaderValue, Request, header::CONNECTION},
    serve::Listener,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    net::IpAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::sleep,
};
use tower::ServiceExt;

/// The longest request head, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How long an idle connection is kept when nobody is accepted any more: the next request on it may be on its way.
const IDLE_GRACE: Duration = Duration::from_secs(5);

/// What its clients may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListenerLimits {
    pub(super) header_timeout: Duration,
    pub(super) connections_max: usize,
}

impl ListenerLimits {
    pub(crate) fn of(config: &AdminConfig) -> Self {
        Self { header_timeout: config.header_timeout, connections_max: config.connections_max }
    }
}

/// How many connections there are.
#[derive(Clone, Default)]
pub(crate) struct OpenConnections(Arc<AtomicUsize>);

impl OpenConnections {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    fn begin(&self) -> OpenConnection {
        self.0.fetch_add(1, Ordering::AcqRel);
        OpenConnection(self.0.clone())
    }
}

/// Counted until it is dropped.
struct OpenConnection(Arc<AtomicUsize>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Serves until it is dropped, or `leaving`. Then it accepts nobody, and each connection ends with its next answer.
pub(crate) async fn serve(
    mut listener: TcpListener,
    router: Router,
    limits: ListenerLimits,
    open: OpenConnections,
    leaving: impl Future<Output = ()>,
) {
    let permits = Arc::new(Semaphore::new(limits.connections_max));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(HEAD_BYTES_MAX);
    let (left, is_left) = watch::channel(false);
    let accept = async {
        loop {
            // Before the connection is accepted: who is too many waits in the kernel, and costs nothing here.
            let permit = permits.clone().acquire_owned().await;
            // The trait's `accept` outlives errors, such as that of too many open files.
            let (stream, peer) = Listener::accept(&mut listener).await;
            let place = (permit, open.begin());
            let (http, router, is_left) = (http.clone(), router.clone(), is_left.clone());
            tokio::spawn(async move {
                connection(http, stream, peer.ip(), router, is_left).await;
                drop(place);
            });
        }
    };
    tokio::select! {
        () = accept => {}
        () = leaving => drop(left.send(true)),
    }
}

async fn connection(
    http: http1::Builder,
    stream: TcpStream,
    addr: IpAddr,
    router: Router,
    mut is_left: watch::Receiver<bool>,
) {
    let is_last = is_left.clone();
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(Caller { addr, door: Door::Admin });
        let answer = router.clone().oneshot(request);
        let is_last = is_last.clone();
        async move {
            let mut answer = answer.await?;
            if *is_last.borrow() {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let leaving = async {
        let is_left = is_left.wait_for(|&it| it).await.is_ok();
        if is_left {
            sleep(IDLE_GRACE).await;
        }
        is_left
    };
    // Clients that go away or are too slow end here; nobody is left to tell.
    tokio::select! {
        _ = connection.as_mut() => {}
        true = leaving => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
