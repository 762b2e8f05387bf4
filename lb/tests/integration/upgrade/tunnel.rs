//! A replica that switches to a protocol of its own, in which it sends back what it gets.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::harness::{DEADLINE, backend::OK};

const SWITCHED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";

/// A configuration of a pool with such a replica.
pub(super) async fn pool() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    format!("pools: {{ default: {{ provider: fixed, fixed: {{ S1: '{addr}' }} }} }}")
}

async fn serve(mut stream: TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if !matches!(stream.read_buf(&mut head).await, Ok(1..)) {
            return;
        }
    }
    let is_beat = !head.starts_with(b"GET /chat ");
    // Whoever asked may have gone away.
    let _ = stream.write_all(if is_beat { OK } else { SWITCHED }).await;
    if !is_beat {
        let (mut reader, mut writer) = stream.split();
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    }
}

/// A client's end.
pub(super) struct Tunnel(TcpStream);

impl Tunnel {
    /// Opens one through which bytes pass.
    pub(super) async fn open(proxy: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(proxy).await.unwrap();
        let asked =
            b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(asked).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let read = timeout(DEADLINE, stream.read_buf(&mut head)).await.expect("in time");
            assert!(read.unwrap() > 0, "{}", head.escape_ascii());
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", head.escape_ascii());
        let mut tunnel = Self(stream);
        assert!(tunnel.passes("hello").await, "closed right after the handshake");
        tunnel
    }

    /// Whether `words` come back.
    pub(super) async fn passes(&mut self, words: &str) -> bool {
        let exchange = async {
            self.0.write_all(words.as_bytes()).await?;
            let mut back = vec![0; words.len()];
            self.0.read_exact(&mut back).await?;
            std::io::Result::Ok(back == words.as_bytes())
        };
        timeout(DEADLINE, exchange).await.expect("in time").unwrap_or(false)
    }
}
