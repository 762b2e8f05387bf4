//! Frames of HTTP/2 (RFC 9113 §4), written by hand: what no client that means well would send.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use crate::harness::{
    Balancer, DEADLINE,
    tls::{Authority, HTTP_2},
};

pub(super) const DATA: u8 = 0x0;
pub(super) const HEADERS: u8 = 0x1;
pub(super) const PRIORITY: u8 = 0x2;
pub(super) const RST_STREAM: u8 = 0x3;
pub(super) const SETTINGS: u8 = 0x4;
pub(super) const PING: u8 = 0x6;
pub(super) const GOAWAY: u8 = 0x7;
pub(super) const WINDOW_UPDATE: u8 = 0x8;
pub(super) const CONTINUATION: u8 = 0x9;

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A block of fields, none of them indexed or compressed (RFC 7541 §6.2.2).
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let field = |(name, value): &(&str, &str)| [vec![0], text(name), text(value)].concat();
    fields.iter().flat_map(field).collect()
}

/// The fields of `GET https://localhost/home`, and more.
pub(super) fn get(more: &[(&str, &str)]) -> Vec<u8> {
    request("GET", more)
}

pub(super) fn request(method: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let own = [
        (":method", method),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", "/home"),
    ];
    block(&[&own[..], more].concat())
}

/// A connection that is about to send frames.
pub(super) struct Raw(TlsStream<TcpStream>);

impl Raw {
    pub(super) async fn open(authority: &Authority, balancer: &Balancer) -> Self {
        let addr = balancer.secure.expect("it serves TLS");
        let mut stream = authority.connect(addr, "localhost", &[HTTP_2]).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut raw = Self(stream);
        raw.send(&frame(SETTINGS, 0, 0, &[])).await;
        raw
    }

    /// The other end may have closed already; what it said is read later.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok() && self.0.flush().await.is_ok()
    }

    /// The next frame: kind, flags, stream and payload; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let next = async {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let [high, middle, low, kind, flags, stream @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            Some((kind, flags, u32::from_be_bytes(stream), payload))
        };
        timeout(DEADLINE, next).await.expect("a frame or the end in time")
    }

    /// The next frame of this kind, whatever comes before it.
    pub(super) async fn next_of(&mut self, wanted: u8) -> Option<(u8, u32, Vec<u8>)> {
        loop {
            let (kind, flags, stream, payload) = self.next().await?;
            if kind == wanted {
                return Some((flags, stream, payload));
            }
        }
    }

    /// Reads to the end of the connection.
    pub(super) async fn closed(&mut self) {
        while self.next().await.is_some() {}
    }

    /// Sends `bytes` again and again, and waits until the connection is closed for it.
    pub(super) async fn cut_off_by(self, bytes: &[u8]) {
        let (mut received, mut sent) = tokio::io::split(self.0);
        let flood = async {
            while sent.write_all(bytes).await.is_ok() {}
            std::future::pending::<()>().await;
        };
        // What comes back must be taken, or both ends would wait for each other. An error is an end, too.
        let end = async {
            let _ = tokio::io::copy(&mut received, &mut tokio::io::sink()).await;
        };
        let cut = async {
            tokio::select! {
                () = flood => {}
                () = end => {}
            }
        };
        timeout(DEADLINE, cut).await.expect("cut off in time");
    }
}
