//! Who gets in through which door, and what a browser may do there.

use super::*;
use futures_util::{StreamExt, stream};
use std::convert::Infallible;

const READER: &str = "Bearer reader-0123456789";
const OPERATOR: &str = "Bearer operator-0123456789";

fn with_tokens() -> Api {
    let tokens = "read reader-0123456789\nadmin operator-0123456789\n";
    Api::with(Access::trusting(&["127.0.0.0/8"], tokens))
}

#[tokio::test]
async fn a_stranger_needs_a_token() {
    let api = with_tokens();
    for (method, token, status) in [
        ("GET", None, 401),
        ("GET", Some("Bearer nonsense"), 401),
        ("GET", Some(READER), 200),
        ("HEAD", Some(READER), 200),
        ("GET", Some(OPERATOR), 200),
        ("POST", Some(READER), 403),
        ("POST", None, 401),
        ("POST", Some(OPERATOR), 200),
    ] {
        let targets = match method {
            "POST" => ["/add", "/api/v1/pools/any/replicas"],
            _ => ["/rep", "/api/v1/pools/any/replicas"],
        };
        for (door, target) in [(Door::Admin, targets[0]), (Door::Proxy, targets[1])] {
            let mut request = from(STRANGER, door, method, target, "");
            if let Some(token) = token {
                request = with(request, "authorization", token);
            }
            let answer = api.send(request).await;
            let case = format!("{method} {target} {token:?} {door:?}");
            assert_eq!(answer.status, status, "{case}");
            let challenge = (status == 401).then_some("Bearer");
            assert_eq!(answer.header("www-authenticate"), challenge, "{case}");
        }
    }
}

#[tokio::test]
async fn without_tokens_a_stranger_is_refused_in_the_shape_of_the_path() {
    let api = Api::start();
    let message = "192.0.2.1 is not trusted: add it to admin.trust, or call 127.0.0.1 from the balancer's own machine";
    for (target, body) in [
        ("/rep", format!(r#"{{"message":"<Error> {message}","status":"failure"}}"#)),
        ("/metrics", format!(r#"{{"error":{{"code":"forbidden","message":"{message}"}}}}"#)),
        ("/nowhere", format!(r#"{{"error":{{"code":"forbidden","message":"{message}"}}}}"#)),
    ] {
        let answer = api.send(from(STRANGER, Door::Proxy, "GET", target, "")).await;
        assert_eq!((answer.status, answer.body), (403, body), "{target}");
        assert!(!answer.headers.contains_key("www-authenticate"));
    }
}

#[tokio::test]
async fn headers_do_not_tell_who_calls() {
    let api = Api::start();
    for name in ["x-forwarded-for", "x-real-ip", "forwarded"] {
        let request = from(STRANGER, Door::Proxy, "GET", "/rep", "");
        assert_eq!(api.send(with(request, name, LOCAL)).await.status, 403, "{name}");
    }
}

#[tokio::test]
async fn a_request_without_a_caller_is_refused() {
    let api = Api::start();
    let mut unknown = request("GET", "/rep", "");
    unknown.extensions_mut().clear();
    assert_eq!(api.send(unknown).await.status, 403);
    for (peer, status) in [("127.0.0.1", 200), ("::ffff:127.0.0.1", 200), ("192.0.2.1", 403)] {
        let answer = api.send(from(peer, Door::Admin, "GET", "/rep", "")).await;
        assert_eq!(answer.status, status, "{peer}");
    }
}

#[tokio::test]
async fn probes_need_neither_trust_nor_our_name() {
    let api = with_tokens();
    for target in ["/healthz", "/readyz"] {
        let probe = |door, method| {
            let request = from(STRANGER, door, method, target, "");
            with(request, "host", "balancer.example")
        };
        assert_eq!(api.send(probe(Door::Admin, "GET")).await.status, 200);
        assert_eq!(api.send(probe(Door::Proxy, "GET")).await.status, 401);
        assert_eq!(api.send(probe(Door::Admin, "POST")).await.status, 403);
    }
}

#[tokio::test]
async fn the_admin_listener_refuses_foreign_hosts() {
    let api = Api::start();
    for (host, status) in [
        ("127.0.0.1", 200),
        ("127.0.0.1:5001", 200),
        ("192.0.2.7:80", 200),
        ("[::1]:5001", 200),
        ("[::1]", 200),
        ("LocalHost:5001", 200),
        ("evil.example", 403),
        ("localhost.:5001", 200),
        ("127.0.0.1.", 200),
        ("localhost..", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example:5001", 403),
        ("localhost@evil.example", 403),
        ("evil.example#@localhost", 403),
        ("", 403),
        ("[::1", 403),
    ] {
        let admin = with(request("GET", "/rep", ""), "host", host);
        assert_eq!(api.send(admin).await.status, status, "{host:?}");
        // The proxy serves whatever names its clients use.
        let proxied = from(LOCAL, Door::Proxy, "GET", "/rep", "");
        assert_eq!(api.send(with(proxied, "host", host)).await.status, 200, "{host:?}");
    }
    let mut nameless = request("GET", "/rep", "");
    nameless.headers_mut().remove("host");
    assert_eq!(api.send(nameless).await.status, 200);
}

#[tokio::test]
async fn only_our_own_pages_ask_for_changes() {
    let api = Api::start();
    for (host, origin, status) in [
        ("127.0.0.1:5001", "http://127.0.0.1:5001", 409),
        ("127.0.0.1:5001", "https://127.0.0.1:5001", 409),
        ("localhost", "http://LOCALHOST", 409),
        ("[::1]:5001", "http://[::1]:5001", 409),
        ("127.0.0.1:5001", "http://127.0.0.1:5002", 403),
        ("127.0.0.1:5001", "http://127.0.0.1", 403),
        ("127.0.0.1:5001", "http://evil.example", 403),
        ("127.0.0.1:5001", "127.0.0.1:5001", 403),
        ("127.0.0.1:5001", "null", 403),
        ("127.0.0.1:5001", "", 403),
        // A name that was made to point at us.
        ("evil.example", "http://evil.example", 403),
    ] {
        for door in [Door::Admin, Door::Proxy] {
            let target = "/api/v1/pools/default/replicas";
            let request = from(LOCAL, door, "POST", target, "");
            let request = with(with(request, "host", host), "origin", origin);
            // A version that never was: who gets through changes nothing.
            let answer = api.send(with(request, "if-match", "\"99\"")).await;
            assert_eq!(answer.status, status, "{host} {origin} {door:?}");
        }
    }
    let look = with(request("GET", "/rep", ""), "origin", "http://evil.example");
    let answer = api.send(look).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn a_body_must_be_of_a_type_that_pages_may_not_send() {
    let api = Api::start();
    let form = "application/x-www-form-urlencoded";
    let v1 = "/api/v1/pools/default/replicas?dry_run=true";
    for (target, content_type, status) in [
        ("/add", "application/json", 200),
        ("/add", "Application/JSON; charset=utf-8", 200),
        ("/add", form, 200),
        ("/add", "text/plain", 400),
        ("/add", "multipart/form-data; boundary=x", 400),
        ("/add", "text/plain; application/json", 400),
        ("/add", "", 400),
        (v1, "application/json", 200),
        (v1, form, 400),
        (v1, "text/plain", 400),
    ] {
        let request = with(request("POST", target, r#"{"n":1}"#), "content-type", content_type);
        let answer = api.send(request).await;
        assert_eq!(answer.status, status, "{target} {content_type:?}");
    }
}

#[tokio::test]
async fn every_answer_protects_itself() {
    let api = Api::start();
    for (addr, target) in
        [(LOCAL, "/rep"), (LOCAL, "/nowhere"), (STRANGER, "/rep"), (LOCAL, "/metrics")]
    {
        let answer = api.send(from(addr, Door::Proxy, "GET", target, "")).await;
        for (name, value) in [
            ("cache-control", "no-store"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("cross-origin-resource-policy", "same-origin"),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{target}");
        }
    }
}

#[tokio::test]
async fn who_guesses_tokens_is_told_when_to_come_back() {
    let api = with_tokens();
    let guess = async |token| {
        let request = from(STRANGER, Door::Proxy, "GET", "/api/v1/pools", "");
        api.send(with(request, "authorization", token)).await
    };
    let lockout = crate::config::Config::default().admin.lockout;
    for _ in 0..lockout.failures {
        assert_eq!(guess("Bearer nonsense").await.status, 401);
    }
    let answer = guess(OPERATOR).await;
    assert_eq!((answer.status, answer.code()), (429, "locked_out".to_owned()));
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=lockout.duration.as_secs()).contains(&wait), "{wait}");
    // Who needs no token is served, whatever comes from elsewhere.
    assert_eq!(api.ask("GET", "/rep", "").await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_end_is_given_up() {
    let api = Api::start();
    for target in ["/add", "/api/v1/pools/default/replicas"] {
        let begin = stream::iter([Ok::<_, Infallible>("{")]);
        let mut request = request("POST", target, "");
        *request.body_mut() = Body::from_stream(begin.chain(stream::pending()));
        let answer = api.send(request).await;
        assert_eq!(answer.status, 408, "{}", answer.body);
        assert!(answer.body.contains("the body took longer than 10 s"), "{}", answer.body);
    }
}
