//! A connection that speaks HTTP/2: a task for each request.
//!
//! ```text
//!   preface ─▶ open ──request──▶ a task, in which Pingora passes it on
//!                ├ keepalive_timeout without a request: closed
//!                ├ flood: closed
//!                └ the balancer closes, requests_per_connection_max: GOAWAY; no new requests, those in hand end
//! ```

use std::{future::poll_fn, net::IpAddr, sync::Arc, time::Duration};

use h2::Reason;
use pingora::{
    Error,
    apps::HttpServerApp,
    protocols::{
        Digest, GetSocketDigest, GetTimingDigest,
        http::{
            ServerSession,
            v2::server::{self, H2Accept, H2Options, HttpSession},
        },
    },
    server::ShutdownWatch,
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{FAREWELL_TIMEOUT, Front, secure::Secure};
use crate::{
    config::ClientConfig,
    metrics::Rejection,
    proxy::{forward, framing::Fault, guard::Link, ledger::Head},
};

/// Requests that Pingora refuses, after which the connection is closed: who sends more does not mean well.
const MALFORMED_MAX: u32 = 32;

/// What a client may send without being asked to wait: of one request, and of all of a connection together.
const STREAM_WINDOW_BYTES: u32 = 128 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 512 << 10;

/// What is read ahead of an answer that the client takes slowly.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// What came of waiting.
#[allow(clippy::large_enum_variant, reason = "it lives on the stack for a moment")]
enum Next {
    Accepted(pingora::Result<Option<H2Accept>>),
    Idle,
    Closing,
}

impl Front {
    pub(super) async fn serve_http2(
        self: &Arc<Self>,
        stream: Secure,
        peer: Option<IpAddr>,
        limits: &ClientConfig,
        shutdown: &ShutdownWatch,
    ) {
        let digest = Arc::new(Digest {
            ssl_digest: None,
            timing_digest: stream.get_timing_digest(),
            proxy_digest: None,
            socket_digest: stream.get_socket_digest(),
        });
        let (stream, seen) = stream.watched(limits);
        let handshake = server::handshake(Box::new(stream), Some(options(limits)));
        let mut connection = match timeout(limits.header_timeout, handshake).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(_)) => return self.ledger.refused(Rejection::BadHead, 0, peer),
            Err(_) => return self.ledger.refused(Rejection::HeadTimeout, 0, peer),
        };
        let in_hand = InHand::default();
        let (mut served, mut malformed, mut is_closing) = (0, 0, false);
        loop {
            let idle = match (is_closing, served) {
                (true, _) => limits.keepalive_min_timeout,
                (false, 0) => limits.header_timeout,
                (false, _) => limits.keepalive_timeout,
            };
            let next = tokio::select! {
                biased;
                () = closed(shutdown), if !is_closing => Next::Closing,
                accepted = HttpSession::from_h2_conn(&mut connection, digest.clone()) => {
                    Next::Accepted(accepted)
                }
                () = in_hand.none_for(idle) => Next::Idle,
            };
            match next {
                Next::Accepted(Ok(Some(H2Accept::Session(request)))) => {
                    self.spawn(request, in_hand.one_more(), peer, limits, shutdown);
                    served += 1;
                    if served >= limits.requests_per_connection_max && !is_closing {
                        connection.graceful_shutdown();
                        is_closing = true;
                    }
                }
                Next::Accepted(Ok(Some(H2Accept::Rejected))) => {
                    self.ledger.refused(Rejection::BadHead, 400, peer);
                    malformed += 1;
                    if malformed >= MALFORMED_MAX {
                        connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                        break;
                    }
                }
                Next::Accepted(Ok(None)) => return,
                Next::Accepted(Err(error)) => {
                    if let Some(fault) = seen.fault().or_else(|| flood(&error)) {
                        self.ledger.refused(fault.rejection, fault.status, peer);
                    }
                    return;
                }
                // A head that does not come to its end is cut off by a deadline of its own.
                Next::Idle if seen.is_within_head() => {}
                Next::Idle => {
                    connection.abrupt_shutdown(Reason::NO_ERROR);
                    break;
                }
                Next::Closing => {
                    connection.graceful_shutdown();
                    is_closing = true;
                }
            }
        }
        // The client may be gone, or take too long.
        let farewell = poll_fn(|cx| connection.poll_closed(cx));
        let _ = timeout(FAREWELL_TIMEOUT, farewell).await;
    }

    fn head(&self, request: &HttpSession, peer: Option<IpAddr>) -> Head {
        let header = request.req_header();
        let settings = self.settings.load();
        Head {
            client: forward::client(header, peer, |addr| settings.trusts(addr)),
            method: header.method.clone(),
            uri: header.uri.clone(),
        }
    }

    /// Serves one request beside the others.
    fn spawn(
        self: &Arc<Self>,
        mut request: HttpSession,
        place: Place,
        peer: Option<IpAddr>,
        limits: &ClientConfig,
        shutdown: &ShutdownWatch,
    ) {
        let link = Arc::new(Link::new(true, shutdown.clone()));
        let has_body = !request.is_body_done();
        let (front, limits, shutdown) = (self.clone(), limits.clone(), shutdown.clone());
        tokio::spawn(async move {
            let _place = place;
            link.begin_request();
            link.watch(&mut request);
            let head = front.ledger.keeps_log().then(|| front.head(&request, peer));
            let session = ServerSession::new_http2(request);
            tokio::select! {
                _ = link.during(front.inner.process_new_http(session, &shutdown)) => {
                    if link.end_request() {
                        front.ledger.refused(Rejection::BadHead, 400, peer);
                    }
                }
                // Dropped, the request is ended at its replica, too, and what has come of its body no longer counts as
                // unread.
                () = link.cancelled() => {
                    if link.end_request() {
                        front.ledger.cancelled(head.as_ref(), link.remains(), peer);
                    }
                }
                // Dropped, the request is reset.
                () = link.upload.too_slow(&limits), if has_body => {
                    if link.end_request() {
                        front.ledger.refused(Rejection::BodyTimeout, 0, peer);
                    }
                }
            }
        });
    }
}

fn options(limits: &ClientConfig) -> H2Options {
    let mut options = server::default_h2_options();
    let header_bytes_max = u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX);
    options
        .max_concurrent_streams(limits.http2.streams_max)
        .max_header_list_size(header_bytes_max)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES);
    options
}

/// What the HTTP/2 library closes a connection for: it has limits of its own, on resets of requests that were not taken up
/// yet among others.
fn flood(error: &Error) -> Option<Fault> {
    let error = error.root_cause().downcast_ref::<h2::Error>()?;
    let is_flood = error.reason() == Some(Reason::ENHANCE_YOUR_CALM) && !error.is_remote();
    is_flood.then_some(Fault::new(0, Rejection::Http2Flood, "A flood of frames"))
}

async fn closed(shutdown: &ShutdownWatch) {
    // Fails only when the server is gone, and then it is closed, too.
    let _ = shutdown.clone().wait_for(|&down| down).await;
}

/// The requests that are being served on a connection.
struct InHand(watch::Sender<usize>);

impl Default for InHand {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

/// The place of one of them, given back when dropped.
struct Place(watch::Sender<usize>);

impl InHand {
    fn one_more(&self) -> Place {
        self.0.send_modify(|count| *count += 1);
        Place(self.0.clone())
    }

    /// Returns when there has been none for so long.
    async fn none_for(&self, idle: Duration) {
        let mut count = self.0.subscribe();
        // Its sender is here.
        let _ = count.wait_for(|&count| count == 0).await;
        sleep(idle).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
