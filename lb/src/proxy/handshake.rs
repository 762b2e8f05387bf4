//! Connections to replicas for WebSocket handshakes.
//!
//! Pingora 0.9.1 sends a request and reads its answer at the same time, in a random order. When the replica's 101 is there
//! before Pingora has taken note that the request has no body, it takes the end of the request, which it sees next, for the
//! end of the tunnel, and closes it. It flushes the connection twice: after the head, and when it takes note of the end. So
//! these connections give it nothing to read before the second flush.

use std::{
    io,
    pin::Pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll, Waker, ready},
};

use async_trait::async_trait;
use pingora::{
    Error, ErrorType, Result,
    connectors::l4::Connect,
    protocols::l4::{
        ext,
        socket::SocketAddr,
        stream::Stream,
        virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream},
    },
    upstreams::peer::HttpPeer,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// The flushes that Pingora makes until a request without a body is complete.
const FLUSHES: u8 = 2;

/// Has connections to `peer` opened by this module. Pingora cannot tell which replica they lead to, so it must not keep them:
/// `peer` has to be one for a fresh connection.
pub(super) fn prepare(peer: &mut HttpPeer) {
    static CONNECTOR: LazyLock<Arc<Connector>> = LazyLock::new(|| Arc::new(Connector));
    peer.options.custom_l4 = Some(CONNECTOR.clone());
}

#[derive(Debug)]
struct Connector;

#[async_trait]
impl Connect for Connector {
    async fn connect(&self, addr: &SocketAddr) -> Result<Stream> {
        let Some(addr) = addr.as_inet() else {
            return Error::e_explain(ErrorType::InternalError, "a replica without an IP address");
        };
        let held = Held::new(ext::connect(addr, None).await?);
        Ok(VirtualSocketStream::new(Box::new(held)).into())
    }
}

/// A connection from which nothing is read before the request is complete.
#[derive(Debug)]
struct Held {
    inner: TcpStream,
    flushes: u8,
    reader: Option<Waker>,
}

impl Held {
    fn new(inner: TcpStream) -> Self {
        Self { inner, flushes: 0, reader: None }
    }
}

impl VirtualSocket for Held {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.inner.set_nodelay(true),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl AsyncRead for Held {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.flushes < FLUSHES {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Held {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.flushes = FLUSHES.min(self.flushes + 1);
        if self.flushes == FLUSHES
            && let Some(reader) = self.reader.take()
        {
            reader.wake();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use pingora::{http::RequestHeader, protocols::http::v1::client::HttpSession};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        select,
    };

    use super::*;

    #[tokio::test]
    async fn an_early_answer_is_not_read_before_the_request_is_complete() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = SocketAddr::Inet(listener.local_addr().unwrap());
        let stream = Connector.connect(&addr).await.unwrap();
        let (mut replica, _) = listener.accept().await.unwrap();
        replica.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\nearly").await.unwrap();

        let mut session = HttpSession::new(Box::new(stream));
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        request.insert_header("Upgrade", "websocket").unwrap();
        session.write_request_header(Box::new(request)).await.unwrap();
        // The whole head has arrived, so the answer is there, too.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            replica.read_buf(&mut head).await.unwrap();
        }
        for _ in 0..100 {
            select! {
                biased;
                _ = session.read_response_task() => panic!("the answer was read too early"),
                () = tokio::task::yield_now() => {}
            }
        }
        session.finish_body().await.unwrap();
        assert!(matches!(
            session.read_response_task().await.unwrap(),
            pingora::protocols::http::HttpTask::Header(head, false) if head.status == 101
        ));
        let body = session.read_body_bytes().await.unwrap();
        assert_eq!(body.as_deref(), Some(&b"early"[..]));
    }
}
