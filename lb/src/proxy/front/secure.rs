//! A client's connection over TLS, as a stream of Pingora's. One that speaks HTTP/2 may be watched: its frames are
//! counted, and a head must come to its end in time.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora::protocols::{Shutdown, Stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::{Instant, Sleep, sleep},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::TOO_SLOW;
use crate::{
    config::ClientConfig,
    proxy::{
        framing::{Fault, Frames},
        passed::{Around, pass_on},
    },
    tls,
};

/// A connection whose handshake is done.
#[derive(Debug)]
pub(super) struct Secure {
    inner: TlsStream<Stream>,
    watch: Option<Watch>,
}

/// Over the frames of HTTP/2.
#[derive(Debug)]
struct Watch {
    frames: Frames,
    header_timeout: Duration,
    /// What has come, and has not been passed on. The first `due` bytes are to be.
    held: BytesMut,
    due: usize,
    /// Runs while the head with this number is on its way.
    late: Option<(u64, Pin<Box<Sleep>>)>,
    seen: Arc<Seen>,
}

/// What the watch has seen. HTTP/2, which reads the stream, knows neither.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Why the client is cut off.
    fault: OnceLock<Fault>,
    is_within_head: AtomicBool,
}

impl Seen {
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault.get().copied()
    }

    pub(super) fn is_within_head(&self) -> bool {
        self.is_within_head.load(Ordering::Acquire)
    }
}

impl Secure {
    pub(super) async fn accept(stream: Stream, tls: &TlsAcceptor) -> io::Result<Self> {
        Ok(Self { inner: tls.accept(stream).await?, watch: None })
    }

    /// Whether the client has chosen it.
    pub(super) fn is_http2(&self) -> bool {
        self.inner.get_ref().1.alpn_protocol() == Some(tls::HTTP_2)
    }

    /// From here on the client sends frames.
    pub(super) fn watched(mut self, limits: &ClientConfig) -> (Self, Arc<Seen>) {
        let seen = Arc::new(Seen::default());
        self.watch = Some(Watch {
            frames: Frames::new(&limits.http2),
            header_timeout: limits.header_timeout,
            held: BytesMut::new(),
            due: 0,
            late: None,
            seen: seen.clone(),
        });
        (self, seen)
    }
}

impl Watch {
    /// More has come: what is in `buf` behind `before`. What stays there is passed on.
    fn came(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        let known = self.held.len();
        let passed = if known == 0 {
            self.frames.pass(&mut buf.filled_mut()[before..], 0, Instant::now())
        } else {
            self.held.extend_from_slice(&buf.filled()[before..]);
            buf.set_filled(before);
            self.frames.pass(&mut self.held, known, Instant::now())
        };
        let is_within_head = self.frames.head_in_hand().is_some();
        self.seen.is_within_head.store(is_within_head, Ordering::Release);
        let left = passed.map_err(|fault| self.cut_off(fault))?;
        if known > 0 {
            self.due = self.held.len() - left;
        } else if left > 0 {
            let end = buf.filled().len() - left;
            self.held.extend_from_slice(&buf.filled()[end..]);
            buf.set_filled(end);
        }
        Ok(())
    }

    /// Passes on what is due of what was held.
    fn pass_on(&mut self, buf: &mut ReadBuf<'_>) {
        let passed = self.due.min(buf.remaining());
        buf.put_slice(&self.held[..passed]);
        self.held.advance(passed);
        self.due -= passed;
    }

    /// Nothing more has come yet.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(head) = self.frames.head_in_hand() else {
            self.late = None;
            return Poll::Pending;
        };
        let late = match &mut self.late {
            Some((of, late)) if *of == head => late,
            late => &mut late.insert((head, Box::pin(sleep(self.header_timeout)))).1,
        };
        ready!(late.as_mut().poll(cx));
        Poll::Ready(Err(self.cut_off(TOO_SLOW)))
    }

    fn cut_off(&self, fault: Fault) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, *self.seen.fault.get_or_init(|| fault))
    }
}

impl AsyncRead for Secure {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let Some(watch) = &mut this.watch else {
            return Pin::new(&mut this.inner).poll_read(cx, buf);
        };
        loop {
            if watch.due > 0 {
                watch.pass_on(buf);
                return Poll::Ready(Ok(()));
            }
            match Pin::new(&mut this.inner).poll_read(cx, buf) {
                Poll::Pending => return watch.poll_late(cx),
                Poll::Ready(Ok(())) if buf.filled().len() > before => watch.came(buf, before)?,
                // An error, or the end: what is held is no whole frame.
                read => return read,
            }
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Secure {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

impl Around for Secure {
    fn inner(&self) -> &Stream {
        self.inner.get_ref().0
    }
}

pass_on!(Secure);

#[async_trait]
impl Shutdown for Secure {
    async fn shutdown(&mut self) {
        // Who does not take the last bytes has gone.
        let _ = AsyncWriteExt::shutdown(&mut self.inner).await;
    }
}
