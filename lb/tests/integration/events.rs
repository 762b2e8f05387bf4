//! `/api/v1/events` and `ringmaster events`: nothing that happens to a replica or to the configuration is missed.

use std::{net::SocketAddr, process::Stdio};

use ::http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines, copy_bidirectional},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout},
    time::timeout,
};

use crate::harness::{Balancer, DEADLINE, http, kill_9, ringmaster};

/// An open stream of events.
struct Stream {
    body: Incoming,
    text: String,
}

impl Stream {
    /// Opens it; with an id, after that event.
    async fn open(admin: SocketAddr, last_event_id: Option<u64>) -> Self {
        let stream = TcpStream::connect(admin).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::get("/api/v1/events").header("host", admin.to_string());
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body(), text: String::new() }
    }

    /// The next message: its kind and data. `None` when the stream has ended.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            while let Some((message, rest)) = self.text.split_once("\n\n") {
                let (message, rest) = (message.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| {
                    message.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
                };
                if let Some(data) = field("data: ") {
                    let kind = field("event: ").unwrap_or_default();
                    return Some((kind, serde_json::from_str(&data).unwrap()));
                }
            }
            let frame = timeout(DEADLINE, self.body.frame()).await.expect("an event in time");
            // The end of the process may cut the stream off, which is an end, too.
            let data = frame?.ok()?.into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&data).unwrap());
        }
    }

    async fn event(&mut self) -> Value {
        let (kind, event) = self.next().await.expect("the stream goes on");
        assert_eq!(kind, "", "{event}");
        event
    }

    /// The next so many moves of `replica`, as pairs of phases.
    async fn moves(&mut self, replica: &str, count: usize) -> Vec<(Value, Value)> {
        let mut moves = Vec::new();
        while moves.len() < count {
            let event = self.event().await;
            if event["replica"] == replica {
                moves.push((event["from"].clone(), event["to"].clone()));
            }
        }
        moves
    }
}

fn moves(phases: &[Option<&str>]) -> Vec<(Value, Value)> {
    phases.windows(2).map(|pair| (Value::from(pair[0]), Value::from(pair[1]))).collect()
}

#[tokio::test]
async fn a_kill_and_its_healing_are_told_in_order() {
    let balancer = Balancer::start("").await;
    let mut stream = Stream::open(balancer.admin, None).await;
    kill_9(&balancer.replica("Server2").await.unwrap());
    let event = stream.event().await;
    let id = event["id"].as_u64().unwrap();
    assert_eq!((&event["pool"], &event["replica"]), (&"default".into(), &"Server2".into()));
    assert_eq!((&event["from"], &event["to"]), (&"serving".into(), &"down".into()));
    assert_eq!(event["incarnation"], 1);
    assert!(event["cause"].as_str().unwrap().contains("killed"), "{event}");
    let healed = moves(&[Some("down"), Some("starting"), Some("serving")]);
    assert_eq!(stream.moves("Server2", 2).await, healed);

    // Whoever saw only the failure learns the rest, with the ids that follow.
    let mut late = Stream::open(balancer.admin, Some(id)).await;
    assert_eq!(late.event().await["id"], id + 1);
    assert_eq!(late.event().await["id"], id + 2);
    balancer.stop().await;
}

#[tokio::test]
async fn the_whole_life_of_a_replica_is_told_without_a_hole() {
    let balancer = Balancer::start("pools: { default: { replicas: 1 } }").await;
    let mut stream = Stream::open(balancer.admin, Some(0)).await;
    assert_eq!(stream.event().await["id"], 1);
    assert_eq!(stream.event().await["id"], 2);
    let add = ringmaster().args(["add", "A", "--admin", &balancer.admin.to_string()]).output();
    assert!(add.await.unwrap().status.success());
    let born = moves(&[None, Some("starting"), Some("serving")]);
    assert_eq!(stream.moves("A", 2).await, born);
    let remove = ringmaster().args(["rm", "A", "--admin", &balancer.admin.to_string()]).output();
    assert!(remove.await.unwrap().status.success());
    let gone = moves(&[Some("serving"), Some("draining"), Some("draining"), None]);
    assert_eq!(stream.moves("A", 3).await, gone);
    balancer.stop().await;
}

#[tokio::test]
async fn a_reload_is_told_before_what_follows_from_it() {
    let balancer = Balancer::start("pools: { default: { replicas: 1 } }").await;
    let mut stream = Stream::open(balancer.admin, None).await;
    let mut people = Following::start(balancer.admin, &["--since", "2"]);
    let reload = async |query: &str| {
        let target = format!("/api/v1/reload{query}");
        http::send(balancer.admin, "POST", &target, &[], "").await.status
    };
    // Neither of these puts anything in place.
    balancer.rewrite_config("pools: { default: { replicas: 0.5 } }");
    assert_eq!(reload("").await, 400);
    balancer.rewrite_config("pools: { default: { replicas: 2 } }\nthreads: 7");
    assert_eq!(reload("?dry_run=true").await, 200);

    assert_eq!(reload("").await, 200);
    let (kind, told) = stream.next().await.unwrap();
    assert_eq!((kind.as_str(), &told["id"]), ("reload", &3.into()));
    assert_eq!(told["changed"], serde_json::json!(["pools.default.replicas", "threads"]));
    assert_eq!(told["needs_restart"], serde_json::json!(["threads"]));
    let born = moves(&[None, Some("starting"), Some("serving")]);
    assert_eq!(stream.moves("Server2", 2).await, born);

    let line = people.line().await;
    let told = "Z  reload  changed: pools.default.replicas, threads; needs a new start: threads";
    assert!(line.ends_with(told), "{line}");
    balancer.stop().await;
}

#[tokio::test]
async fn an_id_that_nobody_knows_is_a_gap() {
    let balancer = Balancer::start("").await;
    let mut stream = Stream::open(balancer.admin, Some(4_711)).await;
    let (kind, gap) = stream.next().await.unwrap();
    assert_eq!((kind.as_str(), gap), ("gap", serde_json::json!({ "after": 4_711, "next": 1 })));
    assert_eq!(stream.event().await["id"], 1, "what there is follows");
    balancer.stop().await;
}

#[tokio::test]
async fn the_stream_ends_with_the_balancer_and_does_not_hold_it_up() {
    let balancer = Balancer::start("pools: { default: { replicas: 1 } }").await;
    let mut stream = Stream::open(balancer.admin, None).await;
    balancer.stop().await;
    // How much of the end is still told is not promised.
    while stream.next().await.is_some() {}
}

/// `ringmaster events`, running.
struct Following {
    lines: Lines<BufReader<ChildStdout>>,
    child: Child,
}

impl Following {
    fn start(admin: SocketAddr, args: &[&str]) -> Self {
        let mut child = ringmaster()
            .arg("events")
            .args(args)
            .env("RINGMASTER_ADMIN", admin.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { lines: BufReader::new(child.stdout.take().unwrap()).lines(), child }
    }

    async fn line(&mut self) -> String {
        let line = timeout(DEADLINE, self.lines.next_line()).await.expect("a line in time");
        line.unwrap().expect("it goes on")
    }
}

#[tokio::test]
async fn the_command_prints_lines_for_people_and_for_scripts() {
    let balancer = Balancer::start("pools: { default: { replicas: 1 } }").await;
    let mut people = Following::start(balancer.admin, &["--since", "0"]);
    let line = people.line().await;
    let told = "Z  default  Server1  new → starting  added (incarnation 1)";
    assert!(line.ends_with(told), "{line}");
    let mut scripts = Following::start(balancer.admin, &["--since", "1", "--json"]);
    let event: Value = serde_json::from_str(&scripts.line().await).unwrap();
    assert_eq!((&event["id"], &event["to"]), (&2.into(), &"serving".into()));
    let mut lost = Following::start(balancer.admin, &["--since", "4711"]);
    assert_eq!(lost.line().await, "the balancer was started anew; these are its events");
    balancer.stop().await;
}

#[tokio::test]
async fn the_command_ends_when_nobody_reads_it() {
    let balancer = Balancer::start("").await;
    let mut following = Following::start(balancer.admin, &["--since", "0"]);
    following.line().await;
    let Following { lines, mut child } = following;
    drop(lines);
    kill_9(&balancer.replica("Server1").await.unwrap());
    let status = timeout(DEADLINE, child.wait()).await.expect("it ends").unwrap();
    assert!(status.success(), "{status}");
    balancer.stop().await;
}

#[tokio::test]
async fn the_command_comes_back_to_where_it_was_cut_off() {
    let balancer = Balancer::start("pools: { default: { replicas: 1 } }").await;
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut following = Following::start(door.local_addr().unwrap(), &["--json"]);

    // Cut off before the first event, it knows its place all the same.
    let (mut client, mut server) = enter(&door, balancer.admin).await;
    let (mut told, mut buffer) = (Vec::new(), [0; 4_096]);
    let mut count = client.read(&mut buffer).await.unwrap();
    server.write_all(&buffer[..count]).await.unwrap();
    while !String::from_utf8_lossy(&told).contains("\nid: 2\n\n") {
        count = timeout(DEADLINE, server.read(&mut buffer)).await.unwrap().unwrap();
        assert!(count > 0, "{told:?}");
        told.extend_from_slice(&buffer[..count]);
        client.write_all(&buffer[..count]).await.unwrap();
    }
    drop((client, server));

    kill_9(&balancer.replica("Server1").await.unwrap());
    balancer.until_serving("Server1", 1).await;
    let (mut client, mut server) = enter(&door, balancer.admin).await;
    tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
    for id in 3..=5 {
        let event: Value = serde_json::from_str(&following.line().await).unwrap();
        assert_eq!(event["id"], id, "{event}");
    }
    balancer.stop().await;
}

/// The next who knocks at `door`, and a connection for them to `admin`.
async fn enter(door: &TcpListener, admin: SocketAddr) -> (TcpStream, TcpStream) {
    let (client, _) = timeout(DEADLINE, door.accept()).await.unwrap().unwrap();
    (client, TcpStream::connect(admin).await.unwrap())
}
