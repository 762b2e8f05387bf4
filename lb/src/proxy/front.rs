//! The front of every client connection: admits it, shakes hands if it is one over TLS, and serves it in the version
//! of HTTP that it speaks.
//!
//! Pingora's own limits are per read, so a client that sends a byte now and then would hold a connection for
//! ever; and it is lenient where others are not. Here every wait has a deadline, and each request means one thing only
//! before Pingora sees it: those of HTTP/1 as bytes, which Pingora then parses as if they had been pipelined, through a
//! `Guard` that ends where the request does; those of HTTP/2 as what its frames say.
//!
//! ```text
//!   accepted ─▶ admitted ─┬──────────────────────▶ http1 ─▶ Pingora, request by request
//!                └ 503    └ TLS handshake ─ALPN─┬▶ http1
//!                              └ late: closed   └▶ http2 ─▶ Pingora, a task for each request
//! ```

mod http1;
mod http2;
mod idle;
mod secure;

use std::{net::IpAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::{apps::ServerApp, protocols::Stream, proxy::HttpProxy, server::ShutdownWatch};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Semaphore,
    time::timeout,
};

use self::secure::Secure;
use super::{Proxy, Settings, answer, connections::Connections, framing::Fault, ledger::Ledger};
use crate::{descriptors, metrics::Rejection};

/// How long a refused client may take to read why, and how much more of it is read meanwhile: closing a socket
/// with unread bytes resets it, and the answer would be lost.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(500);
const FAREWELL_BYTES_MAX: u64 = 1 << 20;

const TOO_SLOW: Fault = Fault::new(408, Rejection::HeadTimeout, "The request head came too slowly");
const TOO_MANY: Fault = Fault::new(503, Rejection::Connections, "Too many connections");

/// Guards the proxy against what clients may send and how long they may take.
pub(crate) struct Front {
    inner: Arc<HttpProxy<Proxy>>,
    settings: Arc<ArcSwap<Settings>>,
    connections: Connections,
    ledger: Ledger,
    farewells: Semaphore,
    /// Connections to it are over TLS.
    secure_port: Option<u16>,
}

impl Front {
    pub(crate) fn new(
        inner: HttpProxy<Proxy>,
        settings: Arc<ArcSwap<Settings>>,
        connections: Connections,
        ledger: Ledger,
        secure_port: Option<u16>,
    ) -> Self {
        let (inner, farewells) = (Arc::new(inner), Semaphore::new(descriptors::refused_max()));
        Self { inner, settings, connections, ledger, farewells, secure_port }
    }

    /// Serves a connection if there is a place for it. What each kind needs while it lasts is boxed, or every connection
    /// would have room for the largest.
    async fn admit(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) {
        let digest = stream.get_socket_digest();
        let peer =
            digest.as_ref().and_then(|it| Some(it.peer_addr()?.as_inet()?.ip().to_canonical()));
        // Without TLS, the port need not be asked for.
        let is_secure = self.secure_port.is_some_and(|port| {
            let local = digest.as_ref().and_then(|it| it.local_addr()?.as_inet());
            local.is_some_and(|it| it.port() == port)
        });
        let settings = self.settings.load_full();
        let limits = &settings.client;
        // Those that are trusted speak for many clients, so that the limit of one is not theirs.
        let client = peer.filter(|&addr| !settings.trusts(addr));
        let (max, per_client) = (limits.connections_max, limits.connections_per_client_max);
        let slot = self.connections.admit(max, client, per_client);
        match (slot, is_secure) {
            (Some(_slot), true) => {
                Box::pin(self.serve_secure(stream, peer, &settings, shutdown)).await;
            }
            (Some(_slot), false) => self.serve_http1(stream, false, peer, limits, shutdown).await,
            (None, _) => {
                self.ledger.refused(TOO_MANY.rejection, TOO_MANY.status, peer);
                // Without a handshake, one over TLS would understand nothing.
                if !is_secure {
                    self.farewell(stream, TOO_MANY).await;
                }
            }
        }
    }

    async fn serve_secure(
        self: &Arc<Self>,
        stream: Stream,
        peer: Option<IpAddr>,
        settings: &Settings,
        shutdown: &ShutdownWatch,
    ) {
        let Some(tls) = &settings.tls else { return };
        let limits = &settings.client;
        match timeout(settings.handshake_timeout, Secure::accept(stream, tls)).await {
            Ok(Ok(stream)) if stream.is_http2() => {
                Box::pin(self.serve_http2(stream, peer, limits, shutdown)).await;
            }
            Ok(Ok(stream)) => {
                self.serve_http1(Box::new(stream), true, peer, limits, shutdown).await;
            }
            // Whoever only looks whether the port is open.
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {}
            Ok(Err(_)) | Err(_) => self.ledger.refused(Rejection::TlsHandshake, 0, peer),
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
}

#[async_trait]
impl ServerApp for Front {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let (front, shutdown) = (self.clone(), shutdown.clone());
        // Pingora's task has room for a TLS handshake, 9 KB that would be kept until the connection ends.
        tokio::spawn(async move { front.admit(stream, &shutdown).await });
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
