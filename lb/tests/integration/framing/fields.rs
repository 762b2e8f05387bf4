//! Which fields of a request reach a replica, and how they are spelt there.

use tokio::net::{TcpListener, TcpStream};

use super::exchange;
use crate::harness::{Balancer, backend::Backend, http, until};

/// Who sends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    /// A client that is in no network of `trusted_proxies`.
    Stranger,
    /// A proxy that is.
    Proxy,
    Either,
}
use Sender::{Either, Proxy, Stranger};

/// Name, sender, fields and body, lines that the replica sees, and beginnings of lines that it does not see; in lower case.
type Row = (&'static str, Sender, &'static str, &'static [&'static str], &'static [&'static str]);

const ROWS: &[Row] = &[
    // Where a request came from.
    (
        "a stranger's X-Forwarded-For",
        Stranger,
        "X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\n\r\n",
        &["x-forwarded-for: 127.0.0.1", "x-forwarded-proto: http", "x-forwarded-host: a"],
        &[],
    ),
    (
        "a stranger's relatives of X-Forwarded-For",
        Stranger,
        "Forwarded: for=9.9.9.9\r\nX-Real-IP: 9.9.9.9\r\nX-Forwarded-Port: 1\r\nx-forwarded-prefix: /x\r\n\
         X-Forwarded-Server: b\r\nX-Forwarded-By: b\r\nX-Forwarded-Ssl: on\r\nX-Forwarded: b\r\nX-Forwarded-User: root\r\n\
         X-Client-IP: 9.9.9.9\r\nTRUE-CLIENT-IP: 9.9.9.9\r\nX-Cluster-Client-IP: 9.9.9.9\r\nClient-IP: 9.9.9.9\r\n\
         CF-Connecting-IP: 9.9.9.9\r\nX-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\nX-Kept: 1\r\n\r\n",
        &["x-kept: 1", "x-forwarded-for: 127.0.0.1"],
        &[
            "forwarded:",
            "x-real-ip",
            "x-forwarded-port",
            "x-forwarded-prefix",
            "x-forwarded-server",
            "x-forwarded-by",
            "x-forwarded-ssl",
            "x-forwarded:",
            "x-forwarded-user",
            "x-client-ip",
            "true-client-ip",
            "x-cluster-client-ip",
            "client-ip",
            "cf-connecting-ip",
            "x-original-url",
            "x-rewrite-url",
        ],
    ),
    (
        "a trusted proxy's relatives of X-Forwarded-For",
        Proxy,
        "Forwarded: for=9.9.9.9\r\nX-Real-IP: 9.9.9.9\r\nX-Forwarded-Port: 443\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n",
        &[
            "forwarded: for=9.9.9.9",
            "x-real-ip: 9.9.9.9",
            "x-forwarded-port: 443",
            "x-forwarded-for: 9.9.9.9, 127.0.0.1",
        ],
        &[],
    ),
    // Names that are read as others.
    (
        "underscores",
        Either,
        "X_Forwarded_For: 9.9.9.9\r\nX_Real_IP: 9.9.9.9\r\nX-Forwarded_Proto: https\r\nX_REQUEST_ID: 1\r\nX_User: root\r\n\
         X-User: me\r\n\r\n",
        &["x-user: me"],
        &["x_", "x-forwarded_"],
    ),
    (
        "other characters that are read as underscores",
        Either,
        "X.Forwarded.For: 9.9.9.9\r\nX~Real+IP: 9.9.9.9\r\nX.User: me\r\n\r\n",
        &["x.user: me"],
        &["x.forwarded", "x~"],
    ),
    (
        "an underscore in a length",
        Either,
        "Content_Length: 50\r\nContent-Length: 2\r\n\r\nhi",
        &["content-length: 2"],
        &["content_"],
    ),
    // Lengths.
    (
        "zeros before a length",
        Either,
        "Content-Length: 010\r\n\r\n0123456789",
        &["content-length: 10"],
        &[],
    ),
    (
        "many zeros before a length",
        Either,
        "Content-Length: 0000000000000000000000005\r\n\r\nhello",
        &["content-length: 5"],
        &[],
    ),
    ("only zeros", Either, "Content-Length: 00\r\n\r\n", &["content-length: 0"], &[]),
    // Changes of protocol.
    (
        "HTTP/2 with a body, as Java's client offers it",
        Either,
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\
         Content-Length: 5\r\n\r\nhello",
        &["content-length: 5"],
        &["upgrade", "http2-settings", "connection"],
    ),
    (
        "HTTP/2 with chunks",
        Either,
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\
         Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        &["transfer-encoding: chunked"],
        &["upgrade", "http2-settings", "connection"],
    ),
    (
        "TLS",
        Either,
        "Connection: upgrade\r\nUpgrade: TLS/1.0\r\n\r\n",
        &[],
        &["upgrade", "connection"],
    ),
    (
        "WebSocket",
        Either,
        "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n",
        &["connection: upgrade", "upgrade: websocket"],
        &[],
    ),
    (
        "WebSocket and HTTP/2",
        Either,
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c, websocket\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
        &["connection: upgrade", "upgrade: websocket"],
        &["http2-settings"],
    ),
    (
        "WebSocket that Connection does not announce",
        Either,
        "Upgrade: websocket\r\nContent-Length: 2\r\n\r\nhi",
        &["content-length: 2"],
        &["upgrade", "connection"],
    ),
    // Hosts.
    (
        "the root's dot",
        Either,
        "Host: a.example.:80\r\n\r\n",
        &["host: a.example.:80", "x-forwarded-host: a.example.:80"],
        &[],
    ),
];

#[tokio::test]
async fn a_replica_sees_what_the_request_may_say() {
    let mut backend = Backend::start().await;
    let strict = format!("trusted_proxies: []\n{}", backend.pool(""));
    let (stranger, proxy) =
        (Balancer::start(&strict).await, Balancer::start(&backend.pool("")).await);
    let mut wrong = Vec::new();
    for (name, from, rest, seen, unseen) in ROWS {
        for (balancer, sender) in [(&stranger, Stranger), (&proxy, Proxy)] {
            if ![Either, sender].contains(from) {
                continue;
            }
            let host = if rest.starts_with("Host:") { "" } else { "Host: a\r\n" };
            let request = format!("POST / HTTP/1.1\r\n{host}{rest}");
            let sentinel = "GET /sentinel HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            let text = exchange(balancer.proxy, [&request, sentinel].concat().as_bytes()).await;
            let received = backend.received();
            let lines: Vec<_> = received.iter().map(|it| it.line.as_str()).collect();
            let head = received.first().map(|it| it.head.to_lowercase()).unwrap_or_default();
            let body = received.first().map(|it| it.body.clone()).unwrap_or_default();
            let is_whole = lines == ["POST /", "GET /sentinel"]
                && (rest.ends_with("\r\n") || rest.ends_with(str::from_utf8(&body).unwrap()));
            let is_right = seen.iter().all(|it| head.contains(&format!("\r\n{it}\r\n")))
                && unseen.iter().all(|it| !head.contains(&format!("\r\n{it}")));
            if !is_whole || !is_right {
                wrong.push(format!("{name}, {sender:?}: {text:?}, {lines:?}, {head:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    stranger.stop().await;
    proxy.stop().await;
}

#[tokio::test]
async fn underscores_are_passed_or_refused_where_the_configuration_says_so() {
    let mut backend = Backend::start().await;
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX_User: me\r\nX_Real_IP: 9.9.9.9\r\n\r\n";
    for (policy, status) in [("pass", "200"), ("refuse", "400")] {
        let config =
            format!("client: {{ underscores_in_headers: {policy} }}\n{}", backend.pool(""));
        let balancer = Balancer::start(&config).await;
        let text = exchange(balancer.proxy, request).await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{policy}: {text}");
        let heads: Vec<_> = backend.received().iter().map(|it| it.head.to_lowercase()).collect();
        assert_eq!(heads.len(), usize::from(policy == "pass"), "{policy}");
        assert!(
            heads.iter().all(|it| it.contains("\r\nx_user: me\r\n") && !it.contains("x_real_ip"))
        );
        let shown = balancer.admin("/api/v1/config").await;
        assert!(
            shown.to_string().contains(&format!(r#""underscores_in_headers":"{policy}""#)),
            "{shown}"
        );
        balancer.stop().await;
    }
}

#[tokio::test]
async fn the_key_and_the_access_log_know_the_client_behind_trusted_proxies() {
    let balancer = Balancer::start(
        "
        access_log: true
        explain_header: true
        pools: { default: { replicas: 3, key: client_ip } }
        ",
    )
    .await;
    for (index, (forwarded, client)) in [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:51234", "203.0.113.7"),
        ("203.0.113.99:51234, 127.0.0.1:80", "203.0.113.99"),
        ("[2001:db8::7]:51234", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("\"[2001:db8::8]:51234\"", "2001:db8::8"),
        ("203.0.113.8, nobody", "127.0.0.1"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/home?{index}");
        let fields = [("x-forwarded-for", forwarded), ("x-request-id", &*format!("id-{index}"))];
        let answer = http::send(balancer.proxy, "GET", &path, &fields, "").await;
        let told = balancer.admin(&format!("/api/v1/pools/default/explain?key={client}")).await;
        let replica = told["replica"].as_str().unwrap();
        assert_eq!(answer.header("x-ringmaster"), format!("{replica}; reason=hash"), "{forwarded}");
        let logged = until("it is logged", async || {
            let output = balancer.output();
            let line = output.lines().find(|it| it.contains(&format!(r#""id-{index}""#)))?;
            serde_json::from_str::<serde_json::Value>(line).ok()
        });
        let logged = logged.await.unwrap_or_else(|| panic!("{forwarded} is not logged"));
        assert_eq!(
            (&logged["client"], &logged["peer"]),
            (&client.into(), &"127.0.0.1".into()),
            "{logged}"
        );
    }
    balancer.stop().await;
}

#[tokio::test]
async fn a_loop_of_two_balancers_is_cut_after_a_few_hops() {
    // The first balancer must be told an address of the second one before that has one.
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // Heartbeats must not go round: the balancers answer them themselves.
    let pool = |replica| {
        format!(
            "pools: {{ default: {{ provider: fixed, fixed: {{ S1: '{replica}' }}, heartbeat: {{ path: /metrics }} }} }}"
        )
    };
    let first = Balancer::start_unready(&pool(relay.local_addr().unwrap())).await;
    let second = Balancer::start(&pool(first.proxy)).await;
    let to = second.proxy;
    tokio::spawn(async move {
        while let Ok((mut from, _)) = relay.accept().await {
            tokio::spawn(async move {
                let mut to = TcpStream::connect(to).await?;
                tokio::io::copy_bidirectional(&mut from, &mut to).await
            });
        }
    });
    first.until_printed("ready in").await;
    for (method, body) in [("GET", ""), ("POST", "body")] {
        let answer = http::send(first.proxy, method, "/", &[], body).await;
        assert_eq!(answer.status, 508, "{method}: {}", answer.body);
        assert_eq!(
            answer.body,
            r#"{"message":"<Error> The request came back to this balancer","status":"failure"}"#
        );
    }
    // It passes each of them three times; then the first one counts six of its kind in `Via`.
    first
        .until_counted(r#"ringmaster_requests_ended_total{outcome="rejected",reason="loop"} 2"#)
        .await;
    for balancer in [&first, &second] {
        let passed =
            r#"ringmaster_requests_ended_total{outcome="upstream_error",reason="answered"} 6"#;
        balancer.until_counted(passed).await;
    }
    second.stop().await;
    first.stop().await;
}
