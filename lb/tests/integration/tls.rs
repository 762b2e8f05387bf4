//! Clients over TLS: with HTTP/1.1 or HTTP/2 as they choose, with the certificate for the name that they ask for, and
//! within limits.

mod frames;
mod limits;
mod resets;
mod translation;

use std::fs;

use ::http::Request;
use nix::sys::signal::Signal;
use tokio::net::TcpStream;

use crate::harness::{
    Balancer,
    backend::Backend,
    http::{self, Connection},
    pool_sizes,
    tls::{Authority, HTTP_1_1, HTTP_2},
    until,
};

#[tokio::test]
async fn clients_choose_their_version_and_replicas_are_told_of_tls() {
    for size in pool_sizes() {
        let authority = Authority::new();
        let mut backend = Backend::with_replicas(size).await;
        let balancer =
            Balancer::start(&format!("{}{}", authority.config(""), backend.pool(""))).await;
        let secure = balancer.secure.unwrap();
        assert!(balancer.output().contains(&format!("  proxy  https://{secure}")));

        let stream = authority.connect(secure, "localhost", &[HTTP_1_1]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(HTTP_1_1));
        let mut connection = Connection::over(stream, secure).await.unwrap();
        assert_eq!(connection.send("POST", "/one", &[], "body").await.unwrap().body, "ok");
        assert_eq!(connection.send("GET", "/two", &[], "").await.unwrap().status, 200);

        let without = authority.connect(secure, "localhost", &[]).await.unwrap();
        let mut connection = Connection::over(without, secure).await.unwrap();
        assert_eq!(connection.send("GET", "/three", &[], "").await.unwrap().status, 200);

        let mut http2 = authority.http2(&balancer).await;
        let post = Request::post("https://localhost/four").body(()).unwrap();
        let answer = http2.send(post, Some(b"a body")).await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));

        assert_eq!(balancer.get("/five").await.status, 200);
        let received = backend.received();
        let seen: Vec<_> = received
            .iter()
            .map(|it| {
                let proto = it.head.lines().find_map(|line| {
                    let (name, value) = line.split_once(": ")?;
                    name.eq_ignore_ascii_case("x-forwarded-proto").then_some(value)
                });
                (it.line.as_str(), it.body.len(), proto.unwrap_or_default())
            })
            .collect();
        let expected = [
            ("POST /one", 4, "https"),
            ("GET /two", 0, "https"),
            ("GET /three", 0, "https"),
            ("POST /four", 6, "https"),
            ("GET /five", 0, "http"),
        ];
        assert_eq!(seen, expected);
        balancer.until_counted(r#"ended_total{outcome="ok",reason="answered"} 5"#).await;
        balancer.stop().await;
    }
}

#[tokio::test]
async fn operators_are_answered_over_http2_as_well() {
    let authority = Authority::new();
    let balancer = Balancer::start(&authority.config("")).await;
    let mut http2 = authority.http2(&balancer).await;
    let answer = http2.get("/rep").await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.body.contains("\"N\":3"), "{}", answer.body);
    let add = Request::post("https://localhost/add").body(()).unwrap();
    let body = br#"{"n": 1, "hostnames": ["S9"]}"#;
    let answer = http2.send(add, Some(body)).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.body.contains("S9"), "{}", answer.body);
    let metrics = http2.get("/metrics").await.unwrap().body;
    assert!(metrics.contains(r#"reason="operator"} 2"#), "{metrics}");
    balancer.stop().await;
}

#[tokio::test]
async fn http2_can_be_switched_off() {
    let authority = Authority::new();
    let balancer = Balancer::start(&authority.config(", http2: false")).await;
    let secure = balancer.secure.unwrap();
    let stream = authority.connect(secure, "localhost", &[HTTP_2, HTTP_1_1]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(HTTP_1_1));
    assert!(authority.connect(secure, "localhost", &[HTTP_2]).await.is_err());
    balancer.stop().await;
}

/// The end of the certificate that clients get who ask for `name`.
async fn presented(authority: &Authority, balancer: &Balancer, name: &str) -> Option<Vec<u8>> {
    let secure = balancer.secure.expect("it serves TLS");
    let stream = authority.connect(secure, name, &[HTTP_1_1]).await.ok()?;
    Some(stream.get_ref().1.peer_certificates()?.first()?.to_vec())
}

#[tokio::test]
async fn certificates_are_chosen_by_name_and_replaced_by_a_reload() {
    let authority = Authority::new();
    let (one, two) = (authority.certify("one", "one.test"), authority.certify("two", "*.two.test"));
    let config = format!("tls: {{ listen: 127.0.0.1:0, certificates: [{one}, {two}] }}\n");
    let balancer = Balancer::start(&config).await;
    let first = presented(&authority, &balancer, "one.test").await.unwrap();
    assert!(presented(&authority, &balancer, "a.two.test").await.is_some_and(|it| it != first));
    assert!(presented(&authority, &balancer, "other.test").await.is_none(), "it trusts neither");
    let secure = balancer.secure.unwrap();
    let kept = authority.connect(secure, "one.test", &[HTTP_1_1]).await.unwrap();
    let mut kept = Connection::over(kept, secure).await.unwrap();

    authority.certify("one", "one.test");
    let answer = http::send(balancer.admin, "POST", "/api/v1/reload", &[], "").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let second = presented(&authority, &balancer, "one.test").await.unwrap();
    assert_ne!(first, second, "the file was replaced");
    assert_eq!(kept.send("GET", "/home", &[], "").await.unwrap().status, 200);

    let [certificate, _] = authority.files("one");
    fs::write(&certificate, "no certificate").unwrap();
    let answer = http::send(balancer.admin, "POST", "/api/v1/reload", &[], "").await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    let told = format!("tls.certificates[0].certificate: {}", certificate.display());
    assert!(answer.body.contains(&told), "{}", answer.body);
    assert_eq!(presented(&authority, &balancer, "one.test").await, Some(second));
    balancer.stop().await;
}

#[tokio::test]
async fn a_closing_balancer_finishes_the_requests_of_http2_connections() {
    for size in pool_sizes() {
        let authority = Authority::new();
        let backend = Backend::with_replicas(size).await;
        let gate = backend.hold();
        let config =
            format!("grace_period_ms: 60000\n{}{}", authority.config(""), backend.pool(""));
        let mut balancer = Balancer::start(&config).await;
        let mut http2 = authority.http2(&balancer).await;
        let mut others = Vec::new();
        for _ in 0..3 {
            let mut connection = http2.clone();
            others.push(tokio::spawn(async move { connection.get("/home").await }));
        }
        balancer.until_counted(r#"ringmaster_requests_open{pool="default"} 3"#).await;
        balancer.signal(Signal::SIGTERM);
        let listens =
            async || TcpStream::connect(balancer.secure.unwrap()).await.is_err().then_some(());
        assert!(until("it takes no new connections", listens).await.is_some());
        gate.add_permits(3);
        for other in others {
            assert_eq!(other.await.unwrap().unwrap().status, 200);
        }
        assert!(balancer.ended().await.success());
        assert!(http2.get("/home").await.is_err());
    }
}
