//! Who may operate a balancer, what is written down of it, and what one of them may take.

use std::{
    fs::{self, Permissions},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};

use crate::harness::{Balancer, DEADLINE, config_file, http, ringmaster, until};

const READER: &str = "reader-Zq7w0123456789";
const OPERATOR: &str = "operator-Xk9v0123456789";
const GUESS: &str = "guess-Jp4t0123456789";

/// A folder with a tokens file, and the `admin` section that names it. The harness calls from 127.0.0.1, which is
/// trusted; nobody else is.
fn tokens(more: &str) -> (TempDir, String) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("tokens");
    fs::write(&path, format!("read {READER}\nadmin {OPERATOR}\n")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let admin = format!(
        "admin: {{ listen: 127.0.0.1:0, trust: [127.0.0.1/32], tokens_file: {}{more} }}\n",
        path.display()
    );
    (folder, admin)
}

/// Sends a request from 127.0.0.2, and returns the whole answer.
async fn as_stranger(to: SocketAddr, request_line: &str, token: &str) -> String {
    let exchange = async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut stream = socket.connect(to).await.unwrap();
        let request = format!(
            "{request_line} HTTP/1.1\r\nHost: {to}\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    timeout(DEADLINE, exchange).await.expect("an answer")
}

#[tokio::test]
async fn every_change_is_written_down_with_who_asked_and_what_came_of_it() {
    let (_folder, admin) = tokens("");
    let balancer =
        Balancer::start(&format!("{admin}pools: {{ default: {{ replicas: 1 }} }}")).await;
    let answer = http::send(balancer.proxy, "POST", "/add", &[], r#"{"n":1,"hostnames":["A"]}"#);
    assert_eq!(answer.await.status, 200);
    let path = "/api/v1/pools/default/replicas/A";
    let removed = as_stranger(balancer.admin, &format!("DELETE {path}"), OPERATOR).await;
    assert!(removed.starts_with("HTTP/1.1 200 "), "{removed}");
    let again = as_stranger(balancer.admin, &format!("DELETE {path}"), OPERATOR).await;
    assert!(again.starts_with("HTTP/1.1 404 "), "{again}");
    for parts in [
        &[
            "caller=127.0.0.1 door=Proxy",
            "proof=address",
            "change=\"default: add 1 (A)\" status=\"200\"",
        ][..],
        // printf %s operator-Xk9v0123456789 | b2sum -l 32
        &[
            "caller=127.0.0.2 door=Admin",
            "proof=token 0b57382c",
            "change=\"default: remove 1 (A)\" status=\"200\"",
        ],
        &["caller=127.0.0.2 door=Admin", "change=\"default: remove 1 (A)\" status=\"404\""],
    ] {
        let is_there = async || {
            let output = balancer.output();
            let audit = || output.lines().filter(|line| line.contains("ringmaster::audit"));
            audit().any(|line| parts.iter().all(|part| line.contains(part))).then_some(())
        };
        let found = until("it is written down", is_there).await;
        assert!(found.is_some(), "{parts:?} is not in:\n{}", balancer.output());
    }
    balancer.stop().await;
}

#[tokio::test]
async fn a_change_whose_caller_goes_away_is_written_down() {
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = backend.local_addr().unwrap();
    // It answers heartbeats, and keeps everybody else waiting.
    let (asked, mut is_asked) = tokio::sync::mpsc::channel(1);
    let backend = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = backend.accept().await {
            let mut head = [0; 1024];
            let length = stream.read(&mut head).await.unwrap_or(0);
            if head[..length].starts_with(b"GET /heartbeat ") {
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    .await;
            } else {
                kept.push(stream);
                let _ = asked.send(()).await;
            }
        }
    });
    let pool = format!("provider: fixed, fixed: {{ S1: '{addr}' }}, drain_timeout_ms: 600000");
    let balancer = Balancer::start(&format!("pools: {{ default: {{ {pool} }} }}")).await;
    let mut waiting = TcpStream::connect(balancer.proxy).await.unwrap();
    waiting.write_all(b"GET /home HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    timeout(DEADLINE, is_asked.recv()).await.unwrap().unwrap();

    // The removal waits for that request; its caller does not.
    let mut caller = TcpStream::connect(balancer.admin).await.unwrap();
    caller.write_all(b"DELETE /rm HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let drains = async || (balancer.replica("S1").await?["phase"] == "draining").then_some(());
    until("it drains", drains).await.expect("the removal has begun");
    drop(caller);
    balancer
        .until_printed("change=\"default: remove 1\" status=\"none: the caller went away\"")
        .await;
    backend.abort();
    drop(waiting);
    balancer.stop().await;
}

/// A forwarder of connections on the machine makes all of its clients look like that.
#[tokio::test]
async fn a_caller_from_the_machine_s_own_address_is_not_trusted_for_it() {
    let balancer = Balancer::start(
        "\nlisten: 0.0.0.0:0\nadmin: { listen: 127.0.0.1:0, trust: [127.0.0.1/32] }\n\
         pools: { default: { replicas: 1 } }",
    )
    .await;
    let own = SocketAddr::from(([127, 0, 0, 2], balancer.proxy.port()));
    let answer = as_stranger(own, "GET /rep", "").await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    let advice = "127.0.0.2 is not trusted: add it to admin.trust, or call 127.0.0.1 from the balancer's own machine";
    assert!(answer.contains(advice), "{answer}");
    let loopback = SocketAddr::from(([127, 0, 0, 1], balancer.proxy.port()));
    assert_eq!(http::get(loopback, "/rep").await.status, 200);
    balancer.stop().await;
}

#[tokio::test]
async fn who_guesses_is_locked_out_and_the_trusted_are_not() {
    let (_folder, admin) = tokens(", lockout: { failures: 2 }");
    let balancer =
        Balancer::start(&format!("{admin}pools: {{ default: {{ replicas: 1 }} }}")).await;
    for (token, status) in
        [(READER, 200), (GUESS, 401), (GUESS, 401), (GUESS, 429), (OPERATOR, 429)]
    {
        for to in [balancer.proxy, balancer.admin] {
            // Both doors have one memory: a guess at one counts at the other.
            let to = if token == GUESS { balancer.proxy } else { to };
            let answer = as_stranger(to, "GET /rep", token).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{token} {status}: {answer}"
            );
            if status == 429 {
                assert!(answer.to_ascii_lowercase().contains("\r\nretry-after: "), "{answer}");
            }
            if token == GUESS {
                break;
            }
        }
    }
    balancer.until_printed("Locked out: too many bad tokens caller=127.0.0.2").await;
    assert_eq!(balancer.get("/rep").await.status, 200);
    balancer.stop().await;
}

#[tokio::test]
async fn a_tokens_file_that_others_can_read_is_refused() {
    let (folder, admin) = tokens("");
    let path = folder.path().join("tokens");
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let file = config_file(&format!("listen: 127.0.0.1:0\n{admin}"));
    let output = ringmaster().arg("-c").arg(file.path()).output().await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let said = format!("{} has mode 640, which opens it to others; use chmod 600", path.display());
    assert!(text.lines().any(|line| line.contains(&said)), "{text}");
}

#[tokio::test]
async fn no_token_is_ever_printed() {
    let (_folder, admin) = tokens("");
    let environment = [("RUST_LOG", Path::new("trace"))];
    let yaml = format!("{admin}access_log: true\npools: {{ default: {{ replicas: 1 }} }}");
    let balancer = Balancer::start_in(&environment, &yaml).await;
    for to in [balancer.proxy, balancer.admin] {
        for (request, token, status) in [
            ("GET /rep", READER, 200),
            ("POST /add", READER, 403),
            ("POST /add", OPERATOR, 200),
            ("GET /rep", GUESS, 401),
            // One that a client sends to a replica is none of ours, and no less a secret.
            ("GET /home", READER, if to == balancer.proxy { 200 } else { 404 }),
        ] {
            let answer = as_stranger(to, request, token).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
            assert!(!answer.contains(token), "{answer}");
        }
    }
    // A request that cannot be understood is where a parser shows what it read.
    for to in [balancer.proxy, balancer.admin] {
        let unclear = format!("GET /rep HTTP/1.1\r\nAuthorization: Bearer {READER}\r\n:\r\n\r\n");
        let answer = http::raw(to, &[unclear.as_bytes()], Duration::ZERO).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    for replica in balancer.replicas().await {
        let arguments = fs::read(format!("/proc/{}/cmdline", replica["pid"])).unwrap();
        let arguments = String::from_utf8_lossy(&arguments);
        assert!(!arguments.contains("operator-"), "{arguments}");
    }
    // The log is behind: what ends it was written after all that is looked for.
    let http = http::send(balancer.proxy, "POST", "/add", &[], r#"{"hostnames":["Last"]}"#).await;
    assert_eq!(http.status, 200, "{}", http.body);
    balancer.until_printed("add 1 (Last)").await;
    let output = balancer.output();
    assert!(output.contains(" DEBUG ringmaster::audit: A caller was refused"), "{output}");
    for token in [READER, OPERATOR, GUESS] {
        let line = output.lines().find(|line| line.contains(token));
        assert_eq!(line, None, "a token was printed");
    }
    balancer.stop().await;
}

#[tokio::test]
async fn a_slow_head_is_cut_off_on_the_admin_listener() {
    const PAUSE: Duration = Duration::from_millis(300);
    let yaml = "
        admin: { listen: 127.0.0.1:0, header_timeout_ms: 4000 }
        pools: { default: { replicas: 1 } }
    ";
    let balancer = Balancer::start(yaml).await;
    // Nine seconds in all, were it not cut off.
    let drip: Vec<&[u8]> = b"GET /rep HTTP/1.1\r\nHost: localhost".chunks(1).collect();
    let whole: &[u8] = b"GET /rep HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let later: Vec<&[u8]> = std::iter::once(whole).chain(drip.iter().copied()).collect();
    let (first, second, idle) = tokio::join!(
        http::raw(balancer.admin, &drip, PAUSE),
        http::raw(balancer.admin, &later, PAUSE),
        http::raw(balancer.admin, &later[..1], PAUSE),
    );
    assert!(!first.contains("Server1"), "{first}");
    for answered in [second, idle] {
        assert_eq!(answered.matches("Server1").count(), 1, "one answer, then closed: {answered:?}");
    }
    balancer.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_their_turn() {
    let yaml = "
        admin: { listen: 127.0.0.1:0, header_timeout_ms: 600000, connections_max: 2 }
        pools: { default: { replicas: 1 } }
    ";
    let balancer = Balancer::start(yaml).await;
    let silent = TcpStream::connect(balancer.admin).await.unwrap();
    let other = TcpStream::connect(balancer.admin).await.unwrap();
    let mut third = tokio::spawn(http::get(balancer.admin, "/healthz"));
    assert!(timeout(Duration::from_millis(500), &mut third).await.is_err(), "it did not wait");
    drop(silent);
    assert_eq!(third.await.unwrap().status, 200);
    drop(other);
    balancer.stop().await;
}
