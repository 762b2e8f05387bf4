//! A client's connection as the proxy reads it: one request at a time, and not a byte further.
//!
//! Invariants: what Pingora reads belongs to the request in hand, and its body has passed the strict reader. What
//! follows it stays in `unread` for the next one. A client that sends or takes bytes too slowly gets an error.

mod cancel;
mod link;
mod outgoing;
mod pace;
mod upload;

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use bytes::BytesMut;
use pingora::protocols::{Shutdown, Stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

pub(super) use self::link::Link;
use self::{outgoing::Outgoing, pace::Pace};
use super::{
    framing::{Chunks, Fault, Length},
    passed::{Around, pass_on},
};
use crate::config::ClientConfig;

/// What is received at once of a head. Most fit.
const HEAD_BYTES_TYPICAL: usize = 4096;

/// A stream between the client and Pingora.
#[derive(Debug)]
pub(super) struct Guard {
    inner: Stream,
    /// Received, and not part of what was read so far.
    unread: BytesMut,
    outgoing: Outgoing,
    body: Body,
    pace: Pace,
    link: Arc<Link>,
    write_timeout: Duration,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

/// What is still to come of the request in hand.
#[derive(Debug)]
enum Body {
    Known(u64),
    Chunked(Chunks),
}

impl Body {
    fn is_done(&self) -> bool {
        match self {
            Self::Known(left) => *left == 0,
            Self::Chunked(chunks) => chunks.is_done(),
        }
    }

    /// How many of `bytes` belong to it.
    fn pass(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        match self {
            Self::Known(left) => {
                let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                Ok(taken)
            }
            Self::Chunked(chunks) => chunks.pass(bytes),
        }
    }
}

impl Guard {
    pub(super) fn new(inner: Stream, limits: &ClientConfig, link: Arc<Link>) -> Self {
        Self {
            inner,
            unread: BytesMut::new(),
            outgoing: Outgoing::default(),
            body: Body::Known(0),
            pace: Pace::new(limits),
            link,
            write_timeout: limits.write_timeout,
            stalled: None,
        }
    }

    /// What has been received of the next request.
    pub(super) fn unread(&mut self) -> &mut BytesMut {
        &mut self.unread
    }

    /// Receives more of the next head; 0 at the end. It waits without a buffer: most connections are idle.
    pub(super) async fn receive(&mut self) -> io::Result<usize> {
        poll_fn(|cx| {
            let mut bytes = [const { MaybeUninit::uninit() }; HEAD_BYTES_TYPICAL];
            let mut received = ReadBuf::uninit(&mut bytes);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut received))?;
            self.unread.extend_from_slice(received.filled());
            Poll::Ready(Ok(received.filled().len()))
        })
        .await
    }

    /// Takes the head of the next request, so many bytes, whose body is `length` long.
    pub(super) fn begin(
        &mut self,
        head_bytes: usize,
        length: Length,
        body_bytes_max: u64,
    ) -> BytesMut {
        self.body = match length {
            Length::Known(bytes) => Body::Known(bytes),
            Length::Chunked => Body::Chunked(Chunks::new(body_bytes_max)),
        };
        self.pace.begin();
        if head_bytes == self.unread.len() {
            // Not shared with anything, so Pingora need not copy it.
            std::mem::take(&mut self.unread)
        } else {
            self.unread.split_to(head_bytes)
        }
    }

    /// The connection itself, for a client that is not served any further.
    pub(super) fn into_inner(self) -> Stream {
        self.inner
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.unread.is_empty() {
            let Poll::Ready(read) = Pin::new(&mut self.inner).poll_read(cx, buf) else {
                self.pace.wait();
                return Poll::Pending;
            };
            read?;
        } else {
            let room = self.unread.len().min(buf.remaining());
            buf.put_slice(&self.unread.split_to(room));
        }
        let came = &buf.filled()[before..];
        let taken = self.body.pass(came).map_err(refused)?;
        self.pace.came(taken).map_err(refused)?;
        if taken < came.len() {
            let mut unread = BytesMut::from(&came[taken..]);
            unread.unsplit(std::mem::take(&mut self.unread));
            self.unread = unread;
            buf.set_filled(before + taken);
        }
        Poll::Ready(Ok(()))
    }

    /// After the request's end only the connection's end is of interest; what comes is for the next request.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            let mut bytes = [0; 512];
            let mut received = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut received))?;
            if received.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.unread.extend_from_slice(received.filled());
        }
        Poll::Pending
    }

    fn poll_tunnel(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let room = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread.split_to(room));
        Poll::Ready(Ok(()))
    }

    /// Gives up on a client that has taken nothing for too long.
    fn unless_stalled<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timer = self.stalled.get_or_insert_with(|| Box::pin(sleep(self.write_timeout)));
        ready!(timer.as_mut().poll(cx));
        self.stalled = None;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Around for Guard {
    fn inner(&self) -> &Stream {
        &self.inner
    }
}

pass_on!(Guard);

#[async_trait]
impl Shutdown for Guard {
    async fn shutdown(&mut self) {
        // Whoever does not take the rest is gone.
        let _ = tokio::io::AsyncWriteExt::flush(self).await;
        self.inner.shutdown().await;
    }
}

fn refused(fault: Fault) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, fault)
}

impl AsyncRead for Guard {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.link.is_tunnel() {
            this.poll_tunnel(cx, buf)
        } else if this.body.is_done() {
            this.poll_end(cx)
        } else {
            this.poll_body(cx, buf)
        }
    }
}

impl AsyncWrite for Guard {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = this.outgoing.poll_write(&mut this.inner, cx, bufs);
        this.unless_stalled(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = match this.outgoing.poll_send(&mut this.inner, cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut this.inner).poll_flush(cx),
            unsent => unsent,
        };
        this.unless_stalled(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = match this.outgoing.poll_send(&mut this.inner, cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut this.inner).poll_shutdown(cx),
            unsent => unsent,
        };
        this.unless_stalled(cx, shut)
    }
}
