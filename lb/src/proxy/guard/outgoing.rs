//! What Pingora has written and the connection has not taken yet.
//!
//! The buffer lasts for as long as there is something in it, so that idle connections have none; Pingora's own, below, would
//! last as long as they do. What does not fit goes out together with what was in it: a head and its body, at once.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

/// A head and a small body.
const BYTES_TYPICAL: usize = 1024;
const BYTES_MAX: usize = 4096;
/// Of one write: the buffer, and the parts of a chunk.
const SLICES_MAX: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Outgoing(BytesMut);

impl Outgoing {
    /// Takes some of `parts`; all of them if there is room.
    pub(super) fn poll_write(
        &mut self,
        connection: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = parts.iter().map(|it| it.len()).sum();
        while self.0.len() + length > BYTES_MAX {
            let mut together = [IoSlice::new(&[]); SLICES_MAX];
            let parts = &parts[..parts.len().min(SLICES_MAX - 1)];
            together[0] = IoSlice::new(&self.0);
            together[1..=parts.len()].copy_from_slice(parts);
            let sent = Pin::new(&mut *connection).poll_write_vectored(cx, &together);
            let sent = not_zero(ready!(sent)?)?;
            let own = sent.min(self.0.len());
            self.0.advance(own);
            if sent > own {
                return Poll::Ready(Ok(sent - own));
            }
        }
        if self.0.capacity() == 0 {
            self.0.reserve(BYTES_TYPICAL);
        }
        parts.iter().for_each(|it| self.0.extend_from_slice(it));
        Poll::Ready(Ok(length))
    }

    /// Sends all of it.
    pub(super) fn poll_send(
        &mut self,
        connection: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.0.is_empty() {
            let sent = ready!(Pin::new(&mut *connection).poll_write(cx, &self.0))?;
            self.0.advance(not_zero(sent)?);
        }
        self.0 = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

fn not_zero(sent: usize) -> io::Result<usize> {
    if sent == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(sent) }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Takes seven bytes of every second write.
    #[derive(Default)]
    struct Grudging {
        taken: Vec<u8>,
        is_willing: bool,
        at_once: bool,
    }

    impl AsyncWrite for Grudging {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            parts: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.is_willing = !self.is_willing;
            if !self.is_willing {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let offered = parts.iter().flat_map(|it| it.iter()).copied();
            let before = self.taken.len();
            let most = if self.at_once { usize::MAX } else { 7 };
            self.taken.extend(offered.take(most));
            Poll::Ready(Ok(self.taken.len() - before))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    async fn write(outgoing: &mut Outgoing, connection: &mut Grudging, parts: &[&[u8]]) -> usize {
        let parts: Vec<_> = parts.iter().map(|it| IoSlice::new(it)).collect();
        poll_fn(|cx| outgoing.poll_write(connection, cx, &parts)).await.unwrap()
    }

    #[tokio::test]
    async fn everything_goes_out_in_order_whatever_the_sizes() {
        let (mut outgoing, mut connection) = (Outgoing::default(), Grudging::default());
        let mut written = Vec::new();
        for size in [3, 5_000, 0, 4_000, 96, 1, 9_000, 4_096, 2] {
            let mut rest = &vec![b'a' + (size % 26) as u8; size][..];
            written.extend_from_slice(rest);
            while !rest.is_empty() {
                let half = rest.len() / 2;
                let parts = [&rest[..half], &[], &rest[half..], &[], &[]];
                rest = &rest[write(&mut outgoing, &mut connection, &parts).await..];
            }
        }
        poll_fn(|cx| outgoing.poll_send(&mut connection, cx)).await.unwrap();
        assert!(connection.taken == written);
        assert_eq!(outgoing.0.capacity(), 0, "idle connections have no buffer");
    }

    #[tokio::test]
    async fn a_head_goes_out_with_its_body() {
        let mut connection = Grudging { at_once: true, ..Grudging::default() };
        let mut outgoing = Outgoing::default();
        assert_eq!(write(&mut outgoing, &mut connection, &[b"head"]).await, 4);
        assert!(connection.taken.is_empty());
        let body = [b'x'; BYTES_MAX];
        assert_eq!(write(&mut outgoing, &mut connection, &[&body]).await, BYTES_MAX);
        assert_eq!(connection.taken.len(), 4 + BYTES_MAX);
    }
}
