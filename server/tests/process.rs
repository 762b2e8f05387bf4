//! The life of the real binary: identity, signals, and what it does when nobody looks after it.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may panic like the test itself")]

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn identity_comes_from_arguments_environment_and_host_name() {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let cases: [(&[&str], Option<&str>, &str); 5] = [
        (&["--name", "Server7"], None, r#"Server: 7","status":"successful","id":"Server7""#),
        (
            &["--name", "Server7"],
            Some("seven"),
            r#"Server: seven","status":"successful","id":"Server7""#,
        ),
        (&["--name", "Server7"], Some(""), r#"Server: 7","status":"successful","id":"Server7""#),
        (
            &["--name", "S1", "--id", "x"],
            Some("y"),
            r#"Server: x","status":"successful","id":"S1""#,
        ),
        (&[], None, &format!(r#""id":"{}""#, host.trim_end())),
    ];
    for (arguments, server_id, expected) in cases {
        let mut command = server(arguments);
        if let Some(id) = server_id {
            command.env("SERVER_ID", id);
        }
        let (_replica, address) = start(command);
        let home = get(address, "/home");
        assert!(home.contains(expected), "{arguments:?} {server_id:?}: {home}");
    }
}

#[test]
fn a_signal_finishes_what_is_in_flight_and_exits_with_0() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (mut replica, address) = start(server(&["--name", "Server3", "--delay-ms", "500"]));
        let mut in_flight = send(address, "/home");
        // Connections are accepted in order, so an answer here means that the one before is in its
        // handler.
        assert!(get(address, "/heartbeat").starts_with("HTTP/1.1 200"));
        kill(Pid::from_raw(replica.0.id().try_into().unwrap()), signal).unwrap();
        until("the socket is closed", || TcpStream::connect(address).is_err());
        let mut answer = String::new();
        in_flight.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{signal}: {answer:?}");
        assert_eq!(replica.exit_status().code(), Some(0), "{signal}");
    }
}

#[test]
fn without_heartbeats_it_ends_itself() {
    let (mut replica, _) = start(server(&["--name", "Server3", "--exit-without-heartbeat-s", "1"]));
    assert_eq!(replica.exit_status().code(), Some(0));
    let mut log = String::new();
    replica.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert_eq!(log, "Server3: no heartbeat for 1 s: stopping\n");
}

#[test]
fn with_heartbeats_it_stays() {
    let (mut replica, address) =
        start(server(&["--name", "Server3", "--exit-without-heartbeat-s", "2"]));
    let start = Instant::now();
    // Longer than the limit, so that one who counted from the start would have left.
    until("4 s have passed", || {
        assert!(get(address, "/heartbeat").starts_with("HTTP/1.1 200"));
        start.elapsed() > Duration::from_secs(4)
    });
    assert_eq!(replica.0.try_wait().unwrap(), None);
    assert_eq!(replica.exit_status().code(), Some(0), "and goes when they end");
}

#[test]
fn lines_that_nobody_reads_do_not_end_it() {
    let (reader, stdout) = io::pipe().unwrap();
    drop(reader);
    let stderr = stdout.try_clone().unwrap();
    // The line that names the port cannot be read here, so the address is chosen: this process's
    // own loopback address, on which nobody else listens.
    let [.., high, low] = std::process::id().to_be_bytes();
    let address = SocketAddr::from(([127, 77, high, low.clamp(1, 254)], 5999));
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmaster-server"));
    command.args([
        "--name",
        "Server3",
        "--exit-without-heartbeat-s",
        "2",
        "--listen",
        &address.to_string(),
    ]);
    let mut replica = Replica(command.stdout(stdout).stderr(stderr).spawn().unwrap());

    until("it serves", || TcpStream::connect(address).is_ok());
    assert!(get(address, "/home").starts_with("HTTP/1.1 200"));
    assert_eq!(replica.exit_status().code(), Some(0), "it drains, and its farewell is lost");
}

#[test]
fn what_it_serves_is_written_down_before_it_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("served");
    let log = log.to_str().unwrap();
    let (_first, first) = start(server(&["--name", "S1", "--served-log", log]));
    let (_second, second) = start(server(&["--name", "S2", "--served-log", log]));
    for (address, method, id) in [(first, "GET", "1"), (second, "POST", "2"), (first, "POST", "3")]
    {
        let answer = exchange(address, method, "/home", &format!("x-request-id: {id}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    get(first, "/heartbeat");
    get(first, "/home");
    let served = std::fs::read_to_string(log).unwrap();
    assert_eq!(served, "S1 GET 1\nS2 POST 2\nS1 POST 3\nS1 GET -\n");
}

#[test]
fn an_address_in_use_is_an_error_that_names_it() {
    let (_replica, address) = start(server(&[]));
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmaster-server"));
    let output = command.args(["--name", "S1", "--listen", &address.to_string()]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    let expected = format!("ringmaster-server: listening on {address}: Address already in use");
    assert!(error.starts_with(&expected) && error.lines().count() == 1, "{error}");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]));
}

/// Killed when the test ends, however it ends.
struct Replica(Child);

impl Replica {
    fn exit_status(&mut self) -> ExitStatus {
        let mut status = None;
        until("the replica has ended", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.expect("until() waited for it")
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The binary on a free port.
fn server(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmaster-server"));
    command
        .args(["--listen", "127.0.0.1:0"])
        .args(arguments)
        .env_remove("SERVER_ID")
        .env_remove("SERVED_LOG");
    command
}

fn start(mut command: Command) -> (Replica, SocketAddr) {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut replica = Replica(child);
    let mut line = String::new();
    BufReader::new(replica.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address =
        line.trim_end().strip_prefix("listening on ").and_then(|address| address.parse().ok());
    (replica, address.unwrap_or_else(|| panic!("not the promised line: {line:?}")))
}

fn send(address: SocketAddr, path: &str) -> TcpStream {
    send_as(address, "GET", path, "")
}

fn send_as(address: SocketAddr, method: &str, path: &str, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: replica\r\n{headers}connection: close\r\n\r\n"
    )
    .unwrap();
    stream
}

fn get(address: SocketAddr, path: &str) -> String {
    exchange(address, "GET", path, "")
}

fn exchange(address: SocketAddr, method: &str, path: &str, headers: &str) -> String {
    let mut answer = String::new();
    send_as(address, method, path, headers).read_to_string(&mut answer).unwrap();
    answer
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
