//! A connection that speaks HTTP/1: one request after the other, each head read strictly and under one deadline.
//!
//! ```text
//!   idle ──first byte──▶ head ──empty line──▶ Pingora ──kept alive──▶ idle
//!    └ keepalive_timeout: closed  └ bad, late: 4xx       └ not kept: closed
//! ```
//!
//! When the balancer closes, an idle connection is kept for `keepalive_min_timeout`: a client that sends its next
//! request without looking whether the connection still stands gets its answer, with `Connection: close`.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use pingora::{
    apps::HttpServerApp,
    protocols::{IO, Stream, http::ServerSession},
    server::ShutdownWatch,
};
use tokio::time::{Instant, timeout_at};

use super::{Front, TOO_SLOW, idle::Idle};
use crate::{
    config::ClientConfig,
    metrics::Rejection,
    proxy::{
        framing::{self, Fault, Head, Limits},
        guard::{Guard, Link},
    },
};

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
    /// Serves one request after the other, within the limits that the connection began with.
    pub(super) async fn serve_http1(
        &self,
        stream: Stream,
        is_secure: bool,
        peer: Option<IpAddr>,
        limits: &ClientConfig,
        shutdown: &ShutdownWatch,
    ) {
        let link = Arc::new(Link::new(is_secure, shutdown.clone()));
        let mut idle = Idle::new(shutdown.clone(), limits);
        let mut guard = Box::new(Guard::new(stream, limits, link.clone()));
        for served in 1.. {
            let (head, has_claims) =
                match read_head(&mut guard, served == 1, limits, &mut idle).await {
                    Ok(read) => read,
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
            session.set_pipelined_prefix(head);
            link.set_claims(has_claims);
            link.begin_request();
            let reusable = link.during(self.inner.process_new_http(session, shutdown)).await;
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
}

/// The head of the next request as it is passed on, and whether it has claims.
async fn read_head(
    guard: &mut Guard,
    is_first: bool,
    limits: &ClientConfig,
    idle: &mut Idle,
) -> Result<(BytesMut, bool), Stop> {
    let wait = if is_first { limits.header_timeout } else { limits.keepalive_timeout };
    if guard.unread().is_empty() {
        first_bytes(guard, wait, idle).await?;
    }
    let (mut scanned, mut deadline) = (0, None);
    let end = loop {
        let received = guard.unread();
        if let Some(end) = framing::find_head(received, scanned).map_err(Stop::Refused)? {
            break end;
        }
        scanned = received.len();
        if scanned > limits.header_bytes_max {
            return Err(Stop::Refused(too_large(received, limits)));
        }
        let deadline = *deadline.get_or_insert_with(|| Instant::now() + limits.header_timeout);
        match timeout_at(deadline, guard.receive()).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0) | Err(_)) if scanned == 0 => return Err(Stop::Silent),
            Ok(Ok(0) | Err(_)) => return Err(Stop::Unfinished),
            Err(_) => return Err(Stop::Refused(TOO_SLOW)),
        }
    };
    if end > limits.header_bytes_max {
        return Err(Stop::Refused(too_large(guard.unread(), limits)));
    }
    let Head { length, has_claims, rewritten } =
        framing::read_head(&guard.unread()[..end], &Limits::of(limits)).map_err(Stop::Refused)?;
    let head = guard.begin(end, length, limits.body_bytes_max);
    Ok((rewritten.unwrap_or(head), has_claims))
}

/// Waits for a request to begin.
async fn first_bytes(guard: &mut Guard, wait: Duration, idle: &mut Idle) -> Result<(), Stop> {
    tokio::select! {
        biased;
        received = guard.receive() => match received {
            Ok(1..) => Ok(()),
            Ok(0) | Err(_) => Err(Stop::Silent),
        },
        () = idle.ends(wait) => Err(Stop::Silent),
    }
}

fn too_large(head: &[u8], limits: &ClientConfig) -> Fault {
    let request_line = head.iter().position(|&byte| byte == b'\n').unwrap_or(head.len());
    if request_line > limits.uri_bytes_max {
        framing::URI_TOO_LONG
    } else {
        Fault::new(431, Rejection::HeadTooLarge, "The request head is too large")
    }
}
