//! The admin listener: connections, and what each may take.
//!
//! Invariant: a connection that sends no whole request head in time is closed, so that none is held for ever but by
//! a caller that the guard let in.

use super::guard::{Caller, Door};
use crate::config::AdminConfig;
use axum::{Router, http::Request, serve::Listener};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tower::ServiceExt;

/// The longest request head, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

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

/// Serves until it is dropped.
pub(crate) async fn serve(mut listener: TcpListener, router: Router, limits: ListenerLimits) {
    let permits = Arc::new(Semaphore::new(limits.connections_max));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(HEAD_BYTES_MAX);
    loop {
        // Before the connection is accepted: who is too many waits in the kernel, and costs nothing here.
        let permit = permits.clone().acquire_owned().await;
        // The trait's `accept` outlives errors, such as that of too many open files.
        let (stream, peer) = Listener::accept(&mut listener).await;
        let served = connection(http.clone(), stream, peer.ip(), router.clone());
        tokio::spawn(async move {
            served.await;
            drop(permit);
        });
    }
}

async fn connection(http: http1::Builder, stream: TcpStream, addr: IpAddr, router: Router) {
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(Caller { addr, door: Door::Admin });
        router.clone().oneshot(request)
    });
    // Clients that go away or are too slow end here; nobody is left to tell.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}
