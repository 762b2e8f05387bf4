//! The front of every client connection: admits it, reads each request's head strictly and under one deadline, then
//! hands it to Pingora.
//!
//! Pingora's own limits are per read, so a client that sends a byte now and then would hold a connection for
//! ever; and it is lenient where others are not. Here the whole head must come within `header_timeout` of its first
//! byte, on every request of a connection, and mean one thing only. Pingora then parses what was read as if it had
//! been pipelined, through a [`Guard`] that ends where the request does.
//!
//! ```text
//!   admitted ─▶ idle ──first byte──▶ head ──empty line──▶ Pingora ──kept alive──▶ idle
//!                └ keepalive_timeout: closed  └ bad, late: 4xx       └ not kept: closed
//! ```
//!
//! When the balancer closes, an idle connection is kept for `keepalive_min_timeout`: a client that sends its next
//! request without looking whether the connection still stands gets its answer, with `Connection: close`.

use std::{net::IpAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::BytesMut;
use pingora::{
    apps::{HttpServerApp, ServerApp},
    protocols::{IO, Stream, http::ServerSession},
    proxy::HttpProxy,
    server::ShutdownWatch,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Semaphore,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    Proxy, Settings, answer,
    connections::Connections,
    framing::{self, Fault, Head, Limits},
    guard::{Guard, Link},
    ledger::Ledger,
};
use crate::{config::ClientConfig, descriptors, metrics::Rejection};

/// How long a refused client may take to read why, and how much more of it is read meanwhile: closing a socket
/// with unread bytes resets it, and the answer would be lost.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(500);
const FAREWELL_BYTES_MAX: u64 = 1 << 20;

/// Guards the proxy against what clients may send and how long they may take.
pub(crate) struct Front {
    inner: Arc<HttpProxy<Proxy>>,
    settings: Arc<ArcSwap<Settings>>,
    connections: Connections,
    ledger: Ledger,
    farewells: Semaphore,
}

/// Why no further head is read from a connection.
enum Stop {
    /// Closed between two requests: nothing to say.
    Silent,
    /// Closed by the client in the middle of a head: nobody to say it to.
    Unfinished,
    /// The client is told.
    Refused(Fault),
}

impl Front {
    pub(crate) fn new(
        inner: HttpProxy<Proxy>,
        settings: Arc<ArcSwap<Settings>>,
        connections: Connections,
        ledger: Ledger,
    ) -> Self {
        let (inner, farewells) = (Arc::new(inner), Semaphore::new(descriptors::refused_max()));
        Self { inner, settings, connections, ledger, farewells }
    }

    /// Serves one request after the other, within the limits that the connection began with.
    async fn serve(
        &self,
        stream: Stream,
        peer: Option<IpAddr>,
        limits: &ClientConfig,
        shutdown: &ShutdownWatch,
    ) {
        let link = Arc::new(Link::new(shutdown.clone()));
        let mut guard = Box::new(Guard::new(stream, limits, link.clone()));
        for served in 1.. {
            let head = match self.read_head(&mut guard, served == 1, limits, shutdown).await {
                Ok(head) => head,
                Err(Stop::Silent) => return,
                Err(Stop::Unfinished) => {
                    return self.ledger.refused(Rejection::HeadUnfinished, 0, peer);
                }
                Err(Stop::Refused(fault)) => {
                    self.ledger.refused(fault.rejection, fault.status, peer);
                    return self.farewell(guard.into_inner(), fault).await;
                }
            };
            let is_last = served >= limits.requests_per_connection_max || link.is_closing();
            let mut session = ServerSession::new_http1(guard);
            session.set_keepalive_reuses_remaining(is_last.then_some(0));
            session.set_connection_user_context(Some(Box::new(link.clone())));
            session.set_pipelined_prefix(head);
            link.begin_request();
            let reusable = self.inner.process_new_http(session, shutdown).await;
            if link.end_request() {
                // Pingora refused what passed the strict reader.
                self.ledger.refused(Rejection::BadHead, 400, peer);
            }
            let Some(reusable) = reusable else { return };
            let (stream, _) = reusable.consume();
            match IO::into_any(stream).downcast() {
                Ok(same) if !link.is_tunnel() => guard = same,
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// The head of the next request, as it is passed on.
    async fn read_head(
        &self,
        guard: &mut Guard,
        is_first: bool,
        limits: &ClientConfig,
        shutdown: &ShutdownWatch,
    ) -> Result<BytesMut, Stop> {
        let idle = if is_first { limits.header_timeout } else { limits.keepalive_timeout };
        if guard.unread().is_empty() {
            self.first_bytes(guard, idle, limits, shutdown).await?;
        }
        let deadline = Instant::now() + limits.header_timeout;
        let mut scanned = 0;
        let end = loop {
            let received = guard.unread();
            if let Some(end) = framing::find_head(received, scanned).map_err(Stop::Refused)? {
                break end;
            }
            scanned = received.len();
            if scanned > limits.header_bytes_max {
                return Err(Stop::Refused(Self::too_large(received, limits)));
            }
            match timeout_at(deadline, guard.receive()).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) if scanned == 0 => return Err(Stop::Silent),
                Ok(Ok(0) | Err(_)) => return Err(Stop::Unfinished),
                Err(_) => return Err(Stop::Refused(TOO_SLOW)),
            }
        };
        if end > limits.header_bytes_max {
            return Err(Stop::Refused(Self::too_large(guard.unread(), limits)));
        }
        let limits = Limits {
            uri_bytes_max: limits.uri_bytes_max,
            headers_max: limits.headers_max,
            body_bytes_max: limits.body_bytes_max,
        };
        let Head { length, rewritten } =
            framing::read_head(&guard.unread()[..end], &limits).map_err(Stop::Refused)?;
        let head = guard.begin(end, length, limits.body_bytes_max);
        Ok(rewritten.unwrap_or(head))
    }

    /// Waits for a request to begin.
    async fn first_bytes(
        &self,
        guard: &mut Guard,
        idle: Duration,
        limits: &ClientConfig,
        shutdown: &ShutdownWatch,
    ) -> Result<(), Stop> {
        let mut shutdown = shutdown.clone();
        let closed = async {
            // Fails only when the server is gone, and then it is closed, too.
            let _ = shutdown.wait_for(|&down| down).await;
            sleep(limits.keepalive_min_timeout).await;
        };
        tokio::select! {
            biased;
            received = timeout(idle, guard.receive()) => match received {
                Ok(Ok(1..)) => Ok(()),
                Ok(Ok(0) | Err(_)) | Err(_) => Err(Stop::Silent),
            },
            () = closed => Err(Stop::Silent),
        }
    }

    /// Tells a client why it is not served, and gives it a moment to hear it: as long as not too many are given one.
    async fn farewell(&self, mut stream: Stream, fault: Fault) {
        let patience = self.farewells.try_acquire();
        let farewell = async {
            tell(&mut stream, fault).await?;
            if patience.is_ok() {
                let mut unread = stream.take(FAREWELL_BYTES_MAX);
                tokio::io::copy(&mut unread, &mut tokio::io::sink()).await?;
            }
            std::io::Result::Ok(())
        };
        // The client may be gone, or take too long.
        let _ = timeout(FAREWELL_TIMEOUT, farewell).await;
    }

    fn too_large(head: &[u8], limits: &ClientConfig) -> Fault {
        let request_line = head.iter().position(|&byte| byte == b'\n').unwrap_or(head.len());
        if request_line > limits.uri_bytes_max {
            Fault::new(414, Rejection::HeadTooLarge, "The URI is too long")
        } else {
            Fault::new(431, Rejection::HeadTooLarge, "The request head is too large")
        }
    }
}

const TOO_SLOW: Fault = Fault::new(408, Rejection::HeadTimeout, "The request head came too slowly");
const TOO_MANY: Fault = Fault::new(503, Rejection::Connections, "Too many connections");

#[async_trait]
impl ServerApp for Front {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let peer = stream
            .get_socket_digest()
            .and_then(|digest| digest.peer_addr()?.as_inet().map(|it| it.ip().to_canonical()));
        let settings = self.settings.load_full();
        let limits = &settings.client;
        // Those that are trusted speak for many clients, so that the limit of one is not theirs.
        let client = peer.filter(|&addr| !settings.trusts(addr));
        let (max, per_client) = (limits.connections_max, limits.connections_per_client_max);
        match self.connections.admit(max, client, per_client) {
            Some(_slot) => self.serve(stream, peer, limits, shutdown).await,
            None => {
                self.ledger.refused(TOO_MANY.rejection, TOO_MANY.status, peer);
                self.farewell(stream, TOO_MANY).await;
            }
        }
        None
    }

    // The proxy's own clean-up is not called: it would drop requests that were read in the same moment. Which
    // connections end, and when, is decided here.
}

/// Answers in the proxy's place, and ends the connection's sending side.
async fn tell(stream: &mut Stream, fault: Fault) -> std::io::Result<()> {
    let body = answer::body(fault.message);
    let status = http::StatusCode::from_u16(fault.status).unwrap_or(http::StatusCode::BAD_REQUEST);
    let more = match fault.status {
        405 => "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n",
        503 => "Retry-After: 1\r\n",
        _ => "",
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{more}\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), &body].concat()).await?;
    AsyncWriteExt::shutdown(stream).await
}
