//! Clients that are slow, greedy or unclear, and what passes between them and the replicas.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::harness::{Balancer, http};

const QUICK: &str = "client: { header_timeout_ms: 300, keepalive_timeout_ms: 60000 }\n";
const DRIP: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_dripped_head_is_cut_on_the_first_request_and_on_the_second() {
    let balancer = Balancer::start(QUICK).await;
    let drip: Vec<&[u8]> = b"GET /home HTTP/1.1\r\nHost: a\r\n".chunks(1).collect();
    let first = http::raw(balancer.proxy, &drip, DRIP).await;
    assert!(first.starts_with("HTTP/1.1 408 "), "{first:?}");

    let whole: &[u8] = b"GET /home HTTP/1.1\r\nHost: a\r\n\r\n";
    let parts: Vec<&[u8]> = std::iter::once(whole).chain(drip).collect();
    let second = http::raw(balancer.proxy, &parts, DRIP).await;
    assert!(second.starts_with("HTTP/1.1 200 "), "{second:?}");
    assert!(second.contains("HTTP/1.1 408 "), "{second:?}");
    balancer.stop().await;
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed() {
    let balancer =
        Balancer::start("client: { header_timeout_ms: 200, keepalive_timeout_ms: 1000 }").await;
    assert_eq!(http::raw(balancer.proxy, &[], DRIP).await, "");
    let whole: &[u8] = b"GET /home HTTP/1.1\r\nHost: a\r\n\r\n";
    let idle = http::raw(balancer.proxy, &[whole], DRIP).await;
    assert_eq!(idle.matches("HTTP/1.1 ").count(), 1, "one answer, then closed: {idle:?}");
    balancer.stop().await;
}

#[tokio::test]
async fn unclear_and_oversized_heads_are_refused() {
    let balancer = Balancer::start("").await;
    let long_uri = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(8_192));
    let longer_uri = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(40_000));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X-A: 1\r\n".repeat(100));
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX-A: {}\r\n\r\n", "x".repeat(40_000));
    for (request, status) in [
        ("GET /home HTTP/1.1\r\n\r\n", 400),
        ("GET /home HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET /home HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET /home HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET /home HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("GET /home HTTP/1.1\r\nHost: a:b\r\n\r\n", 400),
        ("GET /home HTTP/1.1\r\nHost: \r\n\r\n", 400),
        ("GET /home HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("nonsense\r\n\r\n", 400),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 405),
        ("POST /home HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (&long_uri, 414),
        (&longer_uri, 414),
        (&many, 431),
        (&large, 431),
        ("\r\nGET /home HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200),
        ("GET /home HTTP/1.0\r\n\r\n", 200),
    ] {
        let answer = http::raw(balancer.proxy, &[request.as_bytes()], DRIP).await;
        let shown: String = request.chars().take(60).collect();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?}: {answer:?}");
    }
    assert_eq!(balancer.get("/home").await.status, 200);
    balancer.stop().await;
}

/// A backend that answers heartbeats, records the one other request it gets, and answers it with `answer`.
async fn recording(
    answer: &'static str,
) -> (std::net::SocketAddr, tokio::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (sender, receiver) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(record(stream, answer, sender.clone()));
        }
    });
    (addr, receiver)
}

async fn record(mut stream: TcpStream, answer: &str, sender: tokio::sync::mpsc::Sender<String>) {
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    while !request.windows(4).any(|it| it == b"\r\n\r\n") {
        match stream.read(&mut chunk).await {
            Ok(1..) => request.extend_from_slice(&chunk),
            Ok(0) | Err(_) => return,
        }
        request.retain(|&byte| byte != 0);
        chunk.fill(0);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let heartbeat = request.starts_with("GET /heartbeat ");
    let answer = if heartbeat { "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" } else { answer };
    let _ = stream.write_all(answer.as_bytes()).await;
    if !heartbeat {
        let _ = sender.send(request).await;
    }
}

fn fixed(addr: std::net::SocketAddr, more: &str) -> String {
    format!("{more}\npools: {{ default: {{ provider: fixed, fixed: {{ S1: '{addr}' }} }} }}")
}

#[tokio::test]
async fn hop_by_hop_fields_stay_between_their_two_ends() {
    let (addr, mut requests) = recording(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x-private\r\nX-Private: 1\r\n\
         Keep-Alive: timeout=9\r\nTrailer: x\r\nX-Kept: 1\r\n\r\nok",
    )
    .await;
    let balancer = Balancer::start(&fixed(addr, "explain_header: true")).await;
    let headers = [
        ("connection", "x-mine"),
        ("x-mine", "1"),
        ("te", "trailers"),
        ("proxy-authorization", "secret"),
        ("x-forwarded-for", "203.0.113.9"),
        ("x-request-id", "order-7"),
        ("x-kept", "1"),
    ];
    let answer = http::send(balancer.proxy, "GET", "/a?b=%20c", &headers, "").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    for gone in ["x-private", "keep-alive", "trailer"] {
        assert_eq!(answer.header(gone), "", "{gone}");
    }
    assert_eq!(answer.header("x-kept"), "1");
    assert_eq!(answer.header("x-ringmaster"), "S1; reason=hash");

    let request = requests.recv().await.unwrap().to_ascii_lowercase();
    assert!(request.starts_with("get /a?b=%20c http/1.1\r\n"), "{request}");
    for gone in ["x-mine", "\r\nte:", "proxy-authorization"] {
        assert!(!request.contains(gone), "{gone} in {request}");
    }
    for kept in [
        "x-kept: 1\r\n",
        "x-forwarded-for: 203.0.113.9, 127.0.0.1\r\n",
        "x-forwarded-proto: http\r\n",
        "x-forwarded-host: 127.0.0.1:",
        "x-request-id: order-7\r\n",
        "via: 1.1 ringmaster\r\n",
    ] {
        assert!(request.contains(kept), "{kept} not in {request}");
    }
    balancer.stop().await;
}

#[tokio::test]
async fn a_stranger_s_word_about_others_is_not_passed_on() {
    let (addr, mut requests) = recording("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let balancer = Balancer::start(&fixed(addr, "trusted_proxies: []")).await;
    let headers = [("x-forwarded-for", "203.0.113.9"), ("x-request-id", "order-7")];
    http::send(balancer.proxy, "GET", "/", &headers, "").await;
    let request = requests.recv().await.unwrap().to_ascii_lowercase();
    assert!(request.contains("x-forwarded-for: 127.0.0.1\r\n"), "{request}");
    assert!(!request.contains("order-7"), "{request}");
    balancer.stop().await;
}

#[tokio::test]
async fn an_unasked_switch_of_protocols_is_refused() {
    let (addr, _requests) = recording(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    )
    .await;
    let balancer = Balancer::start(&fixed(addr, "")).await;
    let answer = http::send(balancer.proxy, "POST", "/", &[], "").await;
    assert_eq!(answer.status, 502, "{}", answer.body);
    balancer.stop().await;
}

#[tokio::test]
async fn a_post_that_a_replica_dropped_is_not_sent_again() {
    let (addr, mut requests) = recording("").await;
    let balancer = Balancer::start(&fixed(addr, "")).await;
    let answer = http::send(balancer.proxy, "POST", "/order", &[], "1 pizza").await;
    assert_eq!(answer.status, 502);
    assert_eq!(
        answer.body,
        r#"{"message":"<Error> Replica failed before it answered","status":"failure"}"#
    );
    assert!(requests.recv().await.unwrap().starts_with("POST /order "));
    balancer
        .until_counted(
            r#"ringmaster_request_failures_total{pool="default",reason="not_retryable"} 1"#,
        )
        .await;
    assert!(requests.try_recv().is_err(), "it was sent twice");
    balancer.stop().await;
}
