//! The log: what clients and replicas do is counted, not logged.

use std::{net::SocketAddr, path::Path};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::harness::{
    Balancer,
    backend::{Backend, OK},
    http::{self, Connection},
    tls::{Authority, HTTP_2},
};

/// What was printed so far, but for what happens to replicas: a busy machine may miss heartbeats.
fn lines(balancer: &Balancer) -> Vec<String> {
    let output = balancer.output();
    let lines = output.lines().filter(|line| !line.contains("ringmaster::supervisor"));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn kept_connections_that_replicas_close_are_counted_and_not_logged() {
    const CLIENTS: usize = 16;
    const REQUESTS: usize = 100;
    let backend = Backend::start().await;
    // It does not say so, so each is kept until the balancer sees its end.
    backend.says(OK, true);
    let balancer = Balancer::start(&backend.pool("")).await;
    let proxy = balancer.proxy;
    let before = lines(&balancer);
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(async move {
            let mut connection = Connection::open(proxy).await.unwrap();
            for _ in 0..REQUESTS {
                let answer = connection.send("GET", "/", &[], "").await.unwrap();
                assert_eq!(answer.status, 200, "{}", answer.body);
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    // Each connection served one request, but for those that were retried.
    let name = "ringmaster_upstream_connections_total{pool=\"default\",replica=\"S1\"} ";
    let metrics = http::get(balancer.admin, "/metrics").await.body;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)).expect(&metrics);
    assert!(line.parse::<usize>().unwrap() >= CLIENTS * REQUESTS, "{line}");
    assert_eq!(lines(&balancer), before);
    balancer.stop().await;
}

#[tokio::test]
async fn reused_connections_are_not_counted_as_opened() {
    let backend = Backend::start().await;
    let balancer = Balancer::start(&backend.pool("")).await;
    let mut connection = Connection::open(balancer.proxy).await.unwrap();
    for _ in 0..10 {
        assert_eq!(connection.send("GET", "/", &[], "").await.unwrap().status, 200);
    }
    let one = "ringmaster_upstream_connections_total{pool=\"default\",replica=\"S1\"} 1\n";
    balancer.until_counted(one).await;
    balancer.stop().await;
}

async fn send(to: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(to).await.unwrap();
    // It may be refused before all of it was sent.
    let _ = stream.write_all(bytes).await;
    stream
}

/// Sends, reads until the end, and ignores what it was.
async fn provoke(to: SocketAddr, bytes: &[u8]) {
    let mut stream = send(to, bytes).await;
    let _ = stream.shutdown().await;
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

/// Goes away with a reset.
async fn reset(to: SocketAddr, bytes: &[u8]) {
    let stream = send(to, bytes).await;
    stream.set_zero_linger().unwrap();
}

#[tokio::test]
async fn clients_do_not_decide_how_much_is_logged() {
    const TIMES: usize = 20;
    let authority = Authority::new();
    let backend = Backend::start().await;
    // A replica that talks too much, too.
    backend.says(&[OK, b"more"].concat(), false);
    let balancer = Balancer::start(&format!("{}{}", authority.config(""), backend.pool(""))).await;
    let secure = balancer.secure.unwrap();
    let before = lines(&balancer);
    for _ in 0..TIMES {
        for bytes in [
            &b"GET"[..],
            b"nonsense\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nab",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"POST /add HTTP/1.1\r\nHost: a\r\nOrigin: http://b\r\nContent-Length: 0\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ] {
            provoke(balancer.proxy, bytes).await;
            reset(balancer.proxy, bytes).await;
            // No handshake is among them.
            provoke(secure, bytes).await;
        }
        // A handshake for a name that no certificate has, with a client that does not like it.
        let _ = authority.connect(secure, "other.example", &[HTTP_2]).await;
        // Frames that HTTP/2 does not know what to do with: an acknowledgement of a ping that was not sent, and nonsense.
        let mut stream = authority.connect(secure, "localhost", &[HTTP_2]).await.unwrap();
        let mut frames = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        frames.extend(b"\0\0\x08\x06\x01\0\0\0\0abcdefgh");
        frames.extend(b"\0\0\x01\x00\x00\0\0\0\x05x");
        let _ = stream.write_all(&frames).await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    assert_eq!(balancer.get("/").await.status, 200);
    assert_eq!(lines(&balancer), before);
    balancer.stop().await;
}

#[tokio::test]
async fn who_asks_for_the_lines_of_libraries_gets_them() {
    for (levels, is_there) in [("warn,ringmaster=info", true), ("", false), ("not=a=level", false)]
    {
        let backend = Backend::start().await;
        backend.says(&[OK, b"more"].concat(), false);
        let environment = [("RUST_LOG", Path::new(levels))];
        let balancer = Balancer::start_in(&environment, &backend.pool("")).await;
        assert_eq!(balancer.get("/").await.status, 200);
        let line = "Peer sent more data than expected";
        if is_there {
            balancer.until_printed(line).await;
        } else {
            assert!(!balancer.output().contains(line), "{}", balancer.output());
        }
        let is_told = balancer.output().contains("RUST_LOG cannot be read; the default levels");
        assert_eq!(is_told, levels.contains("=a="), "{}", balancer.output());
        balancer.stop().await;
    }
}
