//! What clients may take. Whoever takes more is told or cut off, and the others are served.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::harness::{
    Balancer, DEADLINE,
    backend::Backend,
    http::{self, Connection},
    pool_sizes, until,
};

const REQUEST: &[u8] = b"GET /home HTTP/1.1\r\nHost: a\r\n\r\n";

/// All that the other end says until it closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // An error is an end, too.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut text)).await.expect("closed in time");
    String::from_utf8_lossy(&text).into_owned()
}

async fn metric(balancer: &Balancer, line: &str) -> u64 {
    let metrics = http::get(balancer.admin, "/metrics").await.body;
    let found = metrics.lines().find_map(|it| it.strip_prefix(line)?.trim().parse().ok());
    found.unwrap_or_else(|| panic!("{line} is not in:\n{metrics}"))
}

#[tokio::test]
async fn connections_are_limited_in_all_and_others_get_their_places() {
    let balancer = Balancer::start("client: { connections_max: 4 }").await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut connection = Connection::open(balancer.proxy).await.unwrap();
        assert_eq!(connection.send("GET", "/home", &[], "").await.unwrap().status, 200);
        held.push(connection);
    }
    let refused = http::raw(balancer.proxy, &[], Duration::ZERO).await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused:?}");
    assert!(refused.contains("Retry-After: 1\r\n"), "{refused:?}");
    assert_eq!(
        held[0].send("GET", "/home", &[], "").await.unwrap().status,
        200,
        "who is in is served"
    );
    assert_eq!(metric(&balancer, "ringmaster_connections ").await, 4);
    held.pop();
    let served = async || {
        let answer = http::raw(balancer.proxy, &[CLOSING], Duration::ZERO).await;
        answer.starts_with("HTTP/1.1 200 ").then_some(())
    };
    assert!(until("a place is free", served).await.is_some());
    drop(held);
    balancer.stop().await;
}

const CLOSING: &[u8] = b"GET /home HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn a_client_has_fewer_connections_than_all_unless_it_speaks_for_many() {
    let limits = "client: { connections_per_client_max: 2 }";
    let balancer = Balancer::start(&format!("{limits}\ntrusted_proxies: []")).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut connection = Connection::open(balancer.proxy).await.unwrap();
        assert_eq!(connection.send("GET", "/home", &[], "").await.unwrap().status, 200);
        held.push(connection);
    }
    let refused = http::raw(balancer.proxy, &[], Duration::ZERO).await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused:?}");
    // Another address of this machine is another client.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = socket.connect(balancer.proxy).await.unwrap();
    other.write_all(CLOSING).await.unwrap();
    assert!(rest(&mut other).await.starts_with("HTTP/1.1 200 "));
    drop(held);
    balancer.stop().await;

    let balancer = Balancer::start(limits).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut connection = Connection::open(balancer.proxy).await.unwrap();
        assert_eq!(connection.send("GET", "/home", &[], "").await.unwrap().status, 200);
        held.push(connection);
    }
    drop(held);
    balancer.stop().await;
}

#[tokio::test]
async fn a_connection_carries_so_many_requests() {
    let balancer = Balancer::start("client: { requests_per_connection_max: 3 }").await;
    let answers = http::raw(balancer.proxy, &[&REQUEST.repeat(5)], Duration::ZERO).await;
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 3, "{answers}");
    assert_eq!(answers.to_lowercase().matches("connection: close").count(), 1, "{answers}");
    balancer.stop().await;
}

#[tokio::test]
async fn a_dripped_body_is_cut_and_lets_go_of_its_replica() {
    for size in pool_sizes() {
        let mut backend = Backend::with_replicas(size).await;
        // A byte now and then is no silence, but slower than the floor.
        let client = "client: { read_timeout_ms: 1000, body_bytes_per_second_min: 1048576 }\n";
        let balancer = Balancer::start(&format!("{client}{}", backend.pool(""))).await;
        let mut stream = TcpStream::connect(balancer.proxy).await.unwrap();
        stream
            .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
            .await
            .unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let drip = tokio::spawn(async move {
            while writer.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let mut answer = Vec::new();
        let _ = timeout(DEADLINE, reader.read_to_end(&mut answer)).await.expect("cut in time");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
        drop(reader);
        drip.await.unwrap();
        assert_eq!(backend.received(), [], "no whole request");
        balancer.until_counted(r#"ringmaster_requests_open{pool="default"} 0"#).await;
        let rejected =
            r#"ringmaster_requests_ended_total{outcome="rejected",reason="body_timeout"} 1"#;
        balancer.until_counted(rejected).await;
        assert_eq!(http::send(balancer.proxy, "POST", "/", &[], "hello").await.status, 200);
        balancer.stop().await;
    }
}

#[tokio::test]
async fn a_body_is_limited_whether_it_is_announced_or_not() {
    for size in pool_sizes() {
        let mut backend = Backend::with_replicas(size).await;
        let client = "client: { body_bytes_max: 10 }\n";
        let balancer = Balancer::start(&format!("{client}{}", backend.pool(""))).await;
        for (fields, body, status) in [
            ("Content-Length: 10", "0123456789", 200),
            ("Content-Length: 11", "", 413),
            ("Transfer-Encoding: chunked", "a\r\n0123456789\r\n0\r\n\r\n", 200),
            ("Transfer-Encoding: chunked", "b\r\n", 413),
            ("Transfer-Encoding: chunked", "a\r\n0123456789\r\n1\r\n", 413),
        ] {
            let request = format!(
                "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n\r\n{body}"
            );
            let answer = http::raw(balancer.proxy, &[request.as_bytes()], Duration::ZERO).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer:?}");
        }
        assert_eq!(backend.received().len(), 2);
        balancer.stop().await;
    }
}

#[tokio::test]
async fn who_takes_no_answers_is_cut_off() {
    for size in pool_sizes() {
        let backend = Backend::with_replicas(size).await;
        let large = vec![b'x'; 32 << 20];
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", large.len());
        let client = "client: { write_timeout_ms: 300 }\n";
        let balancer = Balancer::start(&format!("{client}{}", backend.pool(""))).await;
        backend.says(&[head.as_bytes(), &large].concat(), false);
        let mut stream = TcpStream::connect(balancer.proxy).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        // More than the buffers between hold, and nothing of it is read.
        balancer
            .until_counted(r#"ringmaster_requests_ended_total{outcome="failed",reason="client"} 1"#)
            .await;
        balancer.until_counted(r#"ringmaster_requests_open{pool="default"} 0"#).await;
        assert!(rest(&mut stream).await.len() < large.len());
        backend.says(crate::harness::backend::OK, false);
        assert_eq!(balancer.get("/").await.body, "ok");
        balancer.stop().await;
    }
}

#[tokio::test]
async fn a_client_that_does_not_look_loses_no_request_through_a_shutdown() {
    for size in pool_sizes() {
        let mut backend = Backend::with_replicas(size).await;
        let config = format!(
            "grace_period_ms: 60000\nclient: {{ keepalive_min_timeout_ms: 30000 }}\n{}",
            backend.pool("")
        );
        let mut balancer = Balancer::start(&config).await;
        let request = b"POST /order HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n1 pizza";
        let mut clients = Vec::new();
        for _ in 0..16 {
            let mut stream = TcpStream::connect(balancer.proxy).await.unwrap();
            stream.write_all(request).await.unwrap();
            let answer = one_answer(&mut stream).await;
            assert!(answer.contains("keep-alive"), "{answer:?}");
            clients.push(stream);
        }
        balancer.signal(nix::sys::signal::Signal::SIGTERM);
        let listens = async || TcpStream::connect(balancer.proxy).await.is_err().then_some(());
        assert!(until("it takes no new connections", listens).await.is_some());
        // Each sends its next request as if nothing had happened.
        for stream in &mut clients {
            stream.write_all(request).await.unwrap();
            let answer = rest(stream).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
            assert!(answer.to_lowercase().contains("connection: close\r\n"), "{answer:?}");
        }
        assert!(balancer.ended().await.success());
        assert_eq!(backend.received().len(), 32, "each once");
    }
}

async fn one_answer(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    let mut bytes = [0; 1024];
    while !text.ends_with("\r\n\r\nok") {
        let read = timeout(DEADLINE, stream.read(&mut bytes)).await.expect("in time").unwrap();
        assert_ne!(read, 0, "closed after {text:?}");
        text.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    text
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_a_shutdown_for_ever() {
    let mut balancer = Balancer::start("client: { keepalive_min_timeout_ms: 100 }").await;
    let mut connection = Connection::open(balancer.proxy).await.unwrap();
    assert_eq!(connection.send("GET", "/home", &[], "").await.unwrap().status, 200);
    balancer.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(balancer.ended().await.success());
}

/// A balancer that may have 160 file descriptors.
async fn short_of_descriptors(pools: &str) -> Balancer {
    let yaml = format!("listen: 127.0.0.1:0\nadmin: {{ listen: 127.0.0.1:0 }}\n{pools}");
    let config = crate::harness::config_file(&yaml);
    let mut command = tokio::process::Command::new("sh");
    command
        .env_remove("RUST_LOG")
        .kill_on_drop(true)
        .args(["-c", "ulimit -n 160 && exec \"$0\" -c \"$1\"", env!("CARGO_BIN_EXE_ringmaster")])
        .arg(config.path());
    let balancer = Balancer::launch(command, Some(config)).await;
    balancer.until_printed("ready in").await;
    balancer
}

#[tokio::test]
async fn connections_are_no_more_than_there_are_descriptors_for() {
    let balancer = short_of_descriptors("").await;
    assert!(balancer.output().contains("; 10 are accepted"), "{}", balancer.output());
    let mut held = Vec::new();
    for _ in 0..10 {
        let mut connection = Connection::open(balancer.proxy).await.unwrap();
        assert_eq!(connection.send("GET", "/home", &[], "").await.unwrap().status, 200);
        held.push(connection);
    }
    let refused = http::raw(balancer.proxy, &[], Duration::ZERO).await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused:?}");
    for connection in &mut held {
        assert_eq!(connection.send("GET", "/home", &[], "").await.unwrap().status, 200);
    }
    drop(held);
    balancer.stop().await;
}

/// Clients that are told why they are refused take descriptors, too; those that are served need some for the replicas.
#[tokio::test]
async fn clients_beyond_the_limit_take_nothing_from_those_that_are_served() {
    const CROWD: usize = 200;
    // No connection to a replica is used again, so each request needs a descriptor.
    let balancer = short_of_descriptors(
        "pools: { default: { upstream: { idle_timeout_ms: 1 }, hold: { timeout_ms: 100 } } }",
    )
    .await;
    let mut served = Connection::open(balancer.proxy).await.unwrap();
    assert_eq!(served.send("GET", "/home", &[], "").await.unwrap().status, 200);
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push(tokio::net::TcpStream::connect(balancer.proxy).await.unwrap());
    }
    let refused = r#"ringmaster_requests_ended_total{outcome="rejected",reason="connections"} "#;
    let all_were_met = async || {
        let answer = served.send("GET", "/home", &[], "").await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        let metrics = served.send("GET", "/metrics", &[], "").await.unwrap().body;
        let count = metrics.lines().find_map(|it| it.strip_prefix(refused)?.parse::<usize>().ok());
        (count? >= CROWD - 9).then_some(())
    };
    assert!(until("the crowd was refused", all_were_met).await.is_some());
    balancer.stop().await;
}

#[tokio::test]
async fn who_speaks_another_protocol_is_told_at_once() {
    // Its head would be waited for until the test ends.
    let balancer = Balancer::start("client: { header_timeout_ms: 3600000 }").await;
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let answer = http::raw(balancer.proxy, &[hello], Duration::ZERO).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer:?}");
    balancer.stop().await;
}

#[tokio::test]
async fn a_client_s_silence_ends_its_request() {
    for size in pool_sizes() {
        let backend = Backend::with_replicas(size).await;
        let client = "client: { read_timeout_ms: 300 }\n";
        let balancer = Balancer::start(&format!("{client}{}", backend.pool(""))).await;
        let announced: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n";
        let answer = http::raw(balancer.proxy, &[announced], Duration::ZERO).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
        balancer.stop().await;
    }
}

#[tokio::test]
async fn a_replica_s_silence_ends_its_request() {
    for size in pool_sizes() {
        let backend = Backend::with_replicas(size).await;
        let balancer = Balancer::start(&backend.pool(", upstream: { read_timeout_ms: 300 }")).await;
        let _gate = backend.hold();
        let answer = http::send(balancer.proxy, "POST", "/", &[], "").await;
        assert_eq!(answer.status, 504);
        assert_eq!(answer.json()["message"], "<Error> Replica did not answer in time");
        balancer.stop().await;
    }
}

#[tokio::test]
async fn who_closes_before_the_answer_is_taken_for_gone() {
    for size in pool_sizes() {
        let mut backend = Backend::with_replicas(size).await;
        let balancer = Balancer::start(&backend.pool("")).await;
        let _gate = backend.hold();
        let mut stream = TcpStream::connect(balancer.proxy).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        let asked = async || (!backend.received().is_empty()).then_some(());
        assert!(until("the replica is asked", asked).await.is_some());
        stream.shutdown().await.unwrap();
        assert_eq!(rest(&mut stream).await, "");
        balancer
            .until_counted(r#"ringmaster_requests_ended_total{outcome="failed",reason="client"} 1"#)
            .await;
        balancer.until_counted(r#"ringmaster_requests_open{pool="default"} 0"#).await;
        balancer.stop().await;
    }
}

#[tokio::test]
async fn a_flood_of_connections_costs_no_memory_and_no_client_its_place() {
    const FLOOD: usize = 2_000;
    const AT_ONCE: usize = 100;
    const GROWTH_MAX: u64 = 32 << 20;
    const HOUR: &str = "header_timeout_ms: 3600000, keepalive_timeout_ms: 3600000";
    let balancer = Balancer::start(&format!("client: {{ connections_max: 16, {HOUR} }}")).await;
    let mut client = Connection::open(balancer.proxy).await.unwrap();
    assert_eq!(client.send("GET", "/home", &[], "").await.unwrap().status, 200);
    let mut idle = Vec::new();
    for _ in 0..15 {
        idle.push(TcpStream::connect(balancer.proxy).await.unwrap());
    }
    let full = async || (metric(&balancer, "ringmaster_connections ").await == 16).then_some(());
    assert!(until("all places are taken", full).await.is_some());
    let before = metric(&balancer, "process_resident_memory_bytes ").await;
    for _ in 0..FLOOD / AT_ONCE {
        let mut flood = Vec::new();
        for _ in 0..AT_ONCE {
            let mut stream = TcpStream::connect(balancer.proxy).await.unwrap();
            let _ = stream.write_all(b"POST / HTTP/1.1\r\nX: ").await;
            flood.push(stream);
        }
    }
    let refused = format!(
        r#"ringmaster_requests_ended_total{{outcome="rejected",reason="connections"}} {FLOOD}"#
    );
    balancer.until_counted(&refused).await;
    assert_eq!(client.send("GET", "/home", &[], "").await.unwrap().status, 200);
    let grown = metric(&balancer, "process_resident_memory_bytes ").await.saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{grown} bytes more");
    drop((client, idle));
    balancer.stop().await;
}
