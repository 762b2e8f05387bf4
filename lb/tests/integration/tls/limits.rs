//! What a client may take over TLS and HTTP/2. Whoever takes more is cut off, and the others are served.

use ::http::Request;
use bytes::Bytes;
use h2::Reason;
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM, Raw,
    SETTINGS, WINDOW_UPDATE, frame, get, request,
};
use crate::harness::{Balancer, DEADLINE, backend::Backend, http, pool_sizes, tls::Authority};

/// Counted as refused for this reason, so often.
async fn until_refused(balancer: &Balancer, reason: &str, times: usize) {
    let line = format!(r#"ended_total{{outcome="rejected",reason="{reason}"}} {times}"#);
    balancer.until_counted(&line).await;
}

async fn still_serves(authority: &Authority, balancer: &Balancer) {
    let answer = authority.http2(balancer).await.get("/home").await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test]
async fn a_handshake_has_a_deadline_and_must_be_one() {
    let authority = Authority::new();
    let balancer = Balancer::start(&authority.config(", handshake_timeout_ms: 300")).await;
    let secure = balancer.secure.unwrap();
    let mut silent = TcpStream::connect(secure).await.unwrap();
    let read = timeout(DEADLINE, silent.read(&mut [0; 1])).await.expect("closed in time");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    until_refused(&balancer, "tls_handshake", 1).await;
    http::raw(secure, &[b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"], std::time::Duration::ZERO).await;
    until_refused(&balancer, "tls_handshake", 2).await;
    drop(TcpStream::connect(secure).await.unwrap());
    still_serves(&authority, &balancer).await;
    until_refused(&balancer, "tls_handshake", 2).await;
    balancer.stop().await;
}

#[tokio::test]
async fn floods_of_cheap_frames_end_the_connection() {
    let authority = Authority::new();
    let limits =
        "client: { http2: { resets_per_minute_max: 50, control_frames_per_minute_max: 50 } }\n";
    let balancer = Balancer::start(&format!("{limits}{}", authority.config(""))).await;
    let empty = frame(DATA, 0, 1, &[]);
    let open = frame(HEADERS, END_HEADERS, 1, &request("POST", &[]));
    let block = frame(HEADERS, END_STREAM, 1, &get(&[]));
    for (index, (name, before, flood)) in [
        ("PING", &b""[..], frame(PING, 0, 0, &[7; 8])),
        ("SETTINGS", b"", frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9])),
        ("PRIORITY", b"", frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1])),
        ("unknown frames", b"", frame(0xfb, 0, 1, &[0; 20])),
        ("empty DATA", &open, empty),
        ("CONTINUATION", &block, frame(CONTINUATION, 0, 1, &[])),
    ]
    .into_iter()
    .enumerate()
    {
        let mut raw = Raw::open(&authority, &balancer).await;
        assert!(raw.send(before).await, "{name}");
        raw.cut_off_by(&flood).await;
        until_refused(&balancer, "http2_flood", index + 1).await;
        still_serves(&authority, &balancer).await;
    }
    balancer.stop().await;
}

#[tokio::test]
async fn rapid_resets_end_the_connection_and_reach_no_replica_for_long() {
    for size in pool_sizes() {
        let authority = Authority::new();
        let backend = Backend::with_replicas(size).await;
        let limits = "client: { http2: { resets_per_minute_max: 30 } }\n";
        let config = format!("{limits}{}{}", authority.config(""), backend.pool(""));
        let balancer = Balancer::start(&config).await;
        let mut raw = Raw::open(&authority, &balancer).await;
        for index in 0..31 {
            let stream = 1 + 2 * index;
            let request = frame(HEADERS, END_HEADERS | END_STREAM, stream, &get(&[]));
            let reset = frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
            // The connection may be closed before the last.
            raw.send(&[request, reset].concat()).await;
        }
        raw.closed().await;
        until_refused(&balancer, "http2_flood", 1).await;
        balancer.until_counted(r#"ringmaster_requests_open{pool="default"} 0"#).await;
        still_serves(&authority, &balancer).await;
        balancer.stop().await;
    }
}

#[tokio::test]
async fn requests_at_the_same_time_are_limited() {
    for size in pool_sizes() {
        let authority = Authority::new();
        let backend = Backend::with_replicas(size).await;
        let gate = backend.hold();
        let limits = "client: { http2: { streams_max: 2 } }\n";
        let config = format!("{limits}{}{}", authority.config(""), backend.pool(""));
        let balancer = Balancer::start(&config).await;
        let mut raw = Raw::open(&authority, &balancer).await;
        let (_, _, settings) = raw.next_of(SETTINGS).await.unwrap();
        let streams_max = settings.chunks(6).find(|it| it[..2] == [0, 3]).map(|it| it[5]);
        assert_eq!(streams_max, Some(2), "{settings:?}");
        for stream in [1, 3, 5] {
            raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &get(&[]))).await;
        }
        let (_, stream, reason) = raw.next_of(RST_STREAM).await.unwrap();
        assert_eq!((stream, reason), (5, 7u32.to_be_bytes().to_vec()), "REFUSED_STREAM");
        gate.add_permits(2);
        let (_, first, _) = raw.next_of(HEADERS).await.unwrap();
        let (_, second, _) = raw.next_of(HEADERS).await.unwrap();
        assert_eq!([first.min(second), first.max(second)], [1, 3]);
        balancer.stop().await;
    }
}

#[tokio::test]
async fn heads_and_silence_have_deadlines() {
    let authority = Authority::new();
    let limits = "client: { header_timeout_ms: 500, keepalive_timeout_ms: 400 }\n";
    let balancer = Balancer::start(&format!("{limits}{}", authority.config(""))).await;
    let mut unfinished = Raw::open(&authority, &balancer).await;
    unfinished.send(&frame(HEADERS, END_STREAM, 1, &get(&[]))).await;
    unfinished.closed().await;
    until_refused(&balancer, "head_timeout", 1).await;
    let mut cut = Raw::open(&authority, &balancer).await;
    cut.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &get(&[]))[..12]).await;
    cut.closed().await;
    until_refused(&balancer, "head_timeout", 2).await;
    let mut idle = Raw::open(&authority, &balancer).await;
    assert!(idle.next_of(GOAWAY).await.is_some(), "told before it is closed");
    idle.closed().await;
    still_serves(&authority, &balancer).await;
    balancer.stop().await;
}

#[tokio::test]
async fn a_body_must_come_at_the_least_rate() {
    for size in pool_sizes() {
        let authority = Authority::new();
        let backend = Backend::with_replicas(size).await;
        let limits = "client: { read_timeout_ms: 800, body_bytes_per_second_min: 1000 }\n";
        let config = format!("{limits}{}{}", authority.config(""), backend.pool(""));
        let balancer = Balancer::start(&config).await;
        let http2 = authority.http2(&balancer).await;
        for (name, pause_ms) in [("silence", 3_600_000), ("a drip", 100)] {
            let mut sender = http2.sender.clone().ready().await.unwrap();
            let post = Request::post("https://localhost/").body(()).unwrap();
            let (answer, mut body) = sender.send_request(post, false).unwrap();
            let drip = async {
                while body.send_data(Bytes::from_static(b"x"), false).is_ok() {
                    tokio::time::sleep(std::time::Duration::from_millis(pause_ms)).await;
                }
                std::future::pending::<()>().await;
            };
            let ended = timeout(DEADLINE, async {
                tokio::select! {
                    answer = answer => answer,
                    () = drip => unreachable!(),
                }
            });
            let error = ended.await.expect(name).expect_err(name);
            assert_eq!(error.reason(), Some(Reason::CANCEL), "{name}: {error}");
        }
        until_refused(&balancer, "body_timeout", 2).await;
        balancer.until_counted(r#"ringmaster_requests_open{pool="default"} 0"#).await;
        still_serves(&authority, &balancer).await;
        balancer.stop().await;
    }
}

#[tokio::test]
async fn bodies_and_heads_are_no_larger_than_they_may_be() {
    for size in pool_sizes() {
        let authority = Authority::new();
        let mut backend = Backend::with_replicas(size).await;
        let limits = "client: { body_bytes_max: 1000, uri_bytes_max: 100, headers_max: 10 }\n";
        let config = format!("{limits}{}{}", authority.config(""), backend.pool(""));
        let balancer = Balancer::start(&config).await;
        let mut http2 = authority.http2(&balancer).await;
        let post = || Request::post("https://localhost/").body(()).unwrap();
        let announced =
            Request::post("https://localhost/").header("content-length", "1001").body(()).unwrap();
        let status = |answer: anyhow::Result<crate::harness::tls::Answer>| answer.unwrap().status;
        assert_eq!(status(http2.send(post(), Some(&[7; 1000])).await), 200);
        assert_eq!(status(http2.send(post(), Some(&[7; 1001])).await), 413);
        assert_eq!(status(http2.send(announced, Some(&[7; 1001])).await), 413);
        assert_eq!(status(http2.get(&format!("/{}", "a".repeat(100))).await), 414);
        let mut many = Request::get("https://localhost/");
        for index in 0..11 {
            many = many.header(format!("x-{index}"), "y");
        }
        assert_eq!(status(http2.send(many.body(()).unwrap(), None).await), 431);
        still_serves(&authority, &balancer).await;
        until_refused(&balancer, "body_too_large", 2).await;
        until_refused(&balancer, "head_too_large", 2).await;
        let whole = backend.received().into_iter().filter(|it| it.line == "POST /").count();
        assert_eq!(whole, 1);
        balancer.stop().await;
    }
}

#[tokio::test]
async fn a_connection_carries_so_many_requests() {
    let authority = Authority::new();
    let limits = "client: { requests_per_connection_max: 3 }\n";
    let balancer = Balancer::start(&format!("{limits}{}", authority.config(""))).await;
    let mut raw = Raw::open(&authority, &balancer).await;
    raw.send(&frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0xff, 0xff])).await;
    for stream in [1, 3, 5] {
        raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &get(&[]))).await;
    }
    let mut answers = 0;
    let mut is_told = false;
    while let Some((kind, ..)) = raw.next().await {
        answers += usize::from(kind == HEADERS);
        if kind == GOAWAY {
            is_told = true;
        }
        if kind == PING {
            raw.send(&frame(PING, 1, 0, &[0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54])).await;
        }
    }
    assert_eq!((answers, is_told), (3, true));
    balancer.stop().await;
}

#[tokio::test]
async fn connections_over_tls_count_like_others() {
    let authority = Authority::new();
    let limits = "client: { connections_max: 2 }\n";
    let balancer = Balancer::start(&format!("{limits}{}", authority.config(""))).await;
    let mut first = authority.http2(&balancer).await;
    let mut second = authority.http2(&balancer).await;
    assert_eq!(first.get("/home").await.unwrap().status, 200);
    assert!(authority.try_http2(balancer.secure.unwrap()).await.is_err());
    until_refused(&balancer, "connections", 1).await;
    assert_eq!(second.get("/home").await.unwrap().status, 200);
    drop((first, second));
    balancer.stop().await;
}
