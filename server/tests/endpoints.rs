//! What a replica answers, byte for byte, over real sockets.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may panic like the test itself")]

use std::{net::SocketAddr, time::Duration};

use ringmaster_server::{Behaviour, Replica, run};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

const HOME: &str = r#"{"message":"Hello from Server: 3","status":"successful","id":"Server3"}"#;
const DEADLINE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn every_request_gets_the_answer_of_the_contract() {
    let address = start(Replica::new("Server3")).await;
    let cases = [
        ("GET /home", 200, HOME),
        ("GET /home?x=1", 200, HOME),
        ("HEAD /home", 200, ""),
        ("GET /heartbeat", 200, ""),
        ("HEAD /heartbeat", 200, ""),
        ("GET /", 400, &unknown("/")),
        ("GET /other", 400, &unknown("/other")),
        ("POST /other?x=1", 400, &unknown("/other")),
        ("GET /home/", 400, &unknown("/home/")),
        (r#"GET /a"b"#, 400, &unknown(r#"/a\"b"#)),
        ("GET /a%22b", 400, &unknown("/a%22b")),
        ("POST /home", 405, &wrong_method("/home", "POST")),
        ("DELETE /heartbeat", 405, &wrong_method("/heartbeat", "DELETE")),
    ];
    for (request, status, body) in cases {
        let answer = ask(address, request).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{request}");
    }
}

#[tokio::test]
async fn headers_say_what_the_body_is_and_what_is_allowed() {
    let address = start(Replica::new("Server3")).await;
    let length = format!("content-length: {}", HOME.len());
    let cases = [
        ("GET /home", "content-type: application/json"),
        ("HEAD /home", length.as_str()),
        ("GET /heartbeat", "content-length: 0"),
        ("GET /other", "content-type: application/json"),
        ("PUT /home", "allow: GET,HEAD"),
    ];
    for (request, header) in cases {
        let answer = ask(address, request).await;
        assert!(
            answer.head.lines().any(|line| line == header),
            "{request}: no {header:?} in {}",
            answer.head
        );
    }
}

#[tokio::test]
async fn the_id_stands_in_the_message_and_is_escaped() {
    let address = start(Replica { id: r#"a"b"#.into(), ..Replica::new("S\\1") }).await;
    assert_eq!(
        ask(address, "GET /home").await.body,
        r#"{"message":"Hello from Server: a\"b","status":"successful","id":"S\\1"}"#
    );
}

#[tokio::test]
async fn home_takes_the_delay() {
    let delay = Duration::from_millis(100);
    let address = start(behaving(Behaviour { delay, ..Behaviour::default() })).await;
    let start = Instant::now();
    assert_eq!(ask(address, "GET /home").await.status, 200);
    assert!(start.elapsed() >= delay, "answered after {:?}", start.elapsed());
}

#[tokio::test]
async fn heartbeats_fail_after_the_given_number() {
    let address =
        start(behaving(Behaviour { fail_heartbeat_after: Some(2), ..Behaviour::default() })).await;
    for status in [200, 200, 500, 500] {
        assert_eq!(ask(address, "GET /heartbeat").await.status, status);
    }
    assert_eq!(ask(address, "GET /home").await.status, 200);
}

#[tokio::test]
async fn what_outlives_the_grace_is_abandoned() {
    let behaviour = Behaviour {
        delay: Duration::from_secs(3600),
        grace: Duration::from_millis(50),
        ..Behaviour::default()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET /home HTTP/1.1\r\nhost: replica\r\n\r\n").await.unwrap();
    // Heartbeats are not delayed: this one shows that the server runs and has accepted the
    // connection before it.
    let shutdown = async { assert_eq!(ask(address, "GET /heartbeat").await.status, 200) };
    timeout(DEADLINE, run(listener, behaving(behaviour), shutdown)).await.unwrap().unwrap();
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// Sends `request` ("GET /home") on a connection of its own.
async fn ask(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nhost: replica\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer))
        .await
        .expect("an answer in time")
        .unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an empty line after the head");
    let status =
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
    Answer { status, head: head.into(), body: body.into() }
}

async fn start(replica: Replica) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(run(listener, replica, std::future::pending()));
    address
}

fn behaving(behaviour: Behaviour) -> Replica {
    Replica { behaviour, ..Replica::new("Server3") }
}

fn unknown(path: &str) -> String {
    format!(
        r#"{{"message":"<Error> '{path}' endpoint does not exist in server replicas","status":"failure"}}"#
    )
}

fn wrong_method(path: &str, method: &str) -> String {
    format!(
        r#"{{"message":"<Error> '{path}' answers GET and HEAD, not {method}","status":"failure"}}"#
    )
}
