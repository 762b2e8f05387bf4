//! Probes of applications that are particular: about the host, about headers, and in what they answer.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::harness::{Balancer, config_file, http, ringmaster, until};

/// Answers as a web framework in production does: 400 to an unknown host, 301 to what did not come by https, 401 without
/// a token.
struct Application {
    addr: SocketAddr,
    /// The heads of all requests, in lower case.
    heads: Arc<Mutex<Vec<String>>>,
    accepting: JoinHandle<()>,
}

impl Application {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = heads.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, seen.clone()));
            }
        });
        Self { addr, heads, accepting }
    }

    /// A configuration of a pool with this one replica.
    fn pool(&self, heartbeat: &str) -> String {
        format!(
            "pools: {{ default: {{ provider: fixed, fixed: {{ S1: '{}' }}, heartbeat: {{ path: /up, interval_ms: 50, \
             timeout_ms: 49, {heartbeat} }} }} }}",
            self.addr
        )
    }

    fn last_head(&self) -> String {
        self.heads.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn answer(mut stream: TcpStream, heads: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if !matches!(stream.read_buf(&mut head).await, Ok(1..)) {
            return;
        }
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let has = |field: &str| head.contains(&format!("\r\n{field}\r\n"));
    let status = match () {
        () if !has("host: app.example") => "400 Bad Request",
        () if !has("x-forwarded-proto: https") => {
            "301 Moved Permanently\r\nLocation: https://app.example/"
        }
        () if !has("authorization: bearer open-sesame") => "401 Unauthorized",
        () => "204 No Content",
    };
    heads.lock().unwrap().push(head);
    let _ = stream
        .write_all(format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n").as_bytes())
        .await;
}

const HOST: &str = "host: app.example";
const HOST_AND_HEADERS: &str = "host: app.example, \
     headers: { X-Forwarded-Proto: https, Authorization: 'Bearer open-sesame', User-Agent: probe }";

#[tokio::test]
async fn heartbeats_say_what_the_application_wants_to_hear() {
    let application = Application::start().await;
    let balancer = Balancer::start_unready(&application.pool("")).await;
    // By default, they go to the replica's address, which is unknown there.
    let default_host = format!("\r\nhost: {}\r\n", application.addr);
    let probed = async || application.last_head().contains(&default_host).then_some(());
    assert!(until("it is probed", probed).await.is_some(), "{}", application.last_head());
    assert!(application.last_head().contains("\r\nuser-agent: ringmaster-heartbeat\r\n"));
    assert_ne!(balancer.replica("S1").await.unwrap()["phase"], "serving");

    for (heartbeat, serves) in [
        // The redirect to https is no good status, unless it is said to be one.
        (HOST.to_owned(), false),
        (format!("{HOST}, statuses: [200-299, 301]"), true),
        (HOST_AND_HEADERS.to_owned(), true),
        (format!("{HOST_AND_HEADERS}, statuses: [200]"), false),
        (format!("{HOST_AND_HEADERS}, statuses: ['204']"), true),
    ] {
        balancer.rewrite_config(&application.pool(&heartbeat));
        let reloaded = http::send(balancer.admin, "POST", "/api/v1/reload", &[], "").await;
        assert_eq!(reloaded.status, 200, "{heartbeat}: {}", reloaded.body);
        assert_eq!(reloaded.json()["needs_restart"], serde_json::json!([]), "{heartbeat}");
        let changed = async || {
            let replica = balancer.replica("S1").await?;
            ((replica["phase"] == "serving") == serves).then_some(())
        };
        assert!(until(&heartbeat, changed).await.is_some(), "{:?}", balancer.replica("S1").await);
    }
    let head = application.last_head();
    assert_eq!(head.matches("\r\nhost: ").count(), 1, "{head}");
    assert!(head.contains("\r\nuser-agent: probe\r\n"), "{head}");

    let config = balancer.admin("/api/v1/config").await;
    let heartbeat = &config["pools"]["default"]["heartbeat"];
    assert_eq!(heartbeat["host"], "app.example");
    assert_eq!(heartbeat["statuses"], serde_json::json!(["204"]));
    assert_eq!(heartbeat["headers"]["Authorization"], "***");
    for text in [config.to_string(), balancer.output()] {
        assert!(!text.contains("open-sesame"), "{text}");
    }
    balancer.stop().await;
}

#[tokio::test]
async fn the_doctor_probes_as_the_balancer_does() {
    let application = Application::start().await;
    for (heartbeat, line) in [
        (HOST, "answers 301 Moved Permanently, which is not one of 200-299; "),
        (HOST_AND_HEADERS, "ok    pool default, S1 at "),
    ] {
        let file = config_file(&application.pool(heartbeat));
        let output = ringmaster().args(["doctor", "-c"]).arg(file.path()).output().await.unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        assert!(out.contains(line), "{line:?} is not in:\n{out}");
    }
}
