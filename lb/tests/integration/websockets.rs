//! WebSocket handshakes with replicas that switch protocols sooner than the balancer expects.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

use crate::harness::{Balancer, DEADLINE, backend::OK, http};

const HANDSHAKES: usize = 100;
const ROUNDS: usize = 3;

const ASKED: &[u8] =
    b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCHED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
/// Sent by the replica together with its 101.
const GREETING: &[u8] = b"\x81\x05hello";

/// What a replica sends its 101 on.
#[derive(Clone, Copy, Debug)]
enum SwitchesOn {
    /// The connection, before it has read anything.
    Accept,
    /// The first bytes of the request.
    FirstBytes,
    /// The whole head.
    Head,
}

/// A replica that answers heartbeats, and from the moment that it is told to, all requests with a 101, after which it sends
/// back what it gets.
async fn hasty(switches: SwitchesOn) -> (SocketAddr, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, is_hasty) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
    let told = is_hasty.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if told.load(Ordering::Acquire) {
                tokio::spawn(switch(stream, switches));
            } else {
                tokio::spawn(beat(stream));
            }
        }
    });
    (addr, is_hasty)
}

/// Answers each request on a connection that is kept.
async fn beat(mut stream: TcpStream) {
    let mut head = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut head).await {
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            // The client may be gone.
            let _ = stream.write_all(OK).await;
        }
    }
}

async fn switch(mut stream: TcpStream, switches: SwitchesOn) -> std::io::Result<()> {
    let answer = [SWITCHED, GREETING].concat();
    let mut received = Vec::new();
    let end = |received: &[u8]| {
        received.windows(4).position(|it| it == b"\r\n\r\n").map(|found| found + 4)
    };
    let mut is_sent = false;
    loop {
        let is_due = match switches {
            SwitchesOn::Accept => true,
            SwitchesOn::FirstBytes => !received.is_empty(),
            SwitchesOn::Head => end(&received).is_some(),
        };
        if is_due && !is_sent {
            stream.write_all(&answer).await?;
            is_sent = true;
        }
        if let Some(end) = end(&received) {
            stream.write_all(&received[end..]).await?;
            break;
        }
        if stream.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
    }
    let (mut reader, mut writer) = stream.split();
    tokio::io::copy(&mut reader, &mut writer).await.map(|_| ())
}

/// Shakes hands, has bytes sent behind the handshake and later ones come back, and closes.
async fn converse(proxy: SocketAddr, number: usize) -> Result<(), String> {
    let mut stream = TcpStream::connect(proxy).await.map_err(|error| error.to_string())?;
    let (early, late) = (format!("early {number}"), format!("late {number}"));
    let asked = [ASKED, early.as_bytes()].concat();
    stream.write_all(&asked).await.map_err(|error| error.to_string())?;
    let mut text = Vec::new();
    for due in [[GREETING, early.as_bytes()].concat(), late.clone().into_bytes()] {
        while !text.ends_with(&due) {
            let read = timeout(DEADLINE, stream.read_buf(&mut text)).await;
            if !matches!(read, Ok(Ok(1..))) {
                return Err(format!("{read:?} after {}", text.escape_ascii()));
            }
        }
        if due != late.as_bytes() {
            stream.write_all(late.as_bytes()).await.map_err(|error| error.to_string())?;
        }
    }
    if text.starts_with(b"HTTP/1.1 101 ") { Ok(()) } else { Err(text.escape_ascii().to_string()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_with_hasty_replicas_become_tunnels() {
    for switches in [SwitchesOn::Accept, SwitchesOn::FirstBytes, SwitchesOn::Head] {
        let (replica, is_hasty) = hasty(switches).await;
        let balancer = Balancer::start(&format!(
            "pools: {{ default: {{ provider: fixed, fixed: {{ S1: '{replica}' }}, \
             heartbeat: {{ interval_ms: 600000 }} }} }}"
        ))
        .await;
        // Leaves a connection that is kept.
        assert_eq!(balancer.get("/").await.status, 200);
        is_hasty.store(true, Ordering::Release);
        let mut closed = Vec::new();
        for round in 0..ROUNDS {
            let mut clients = JoinSet::new();
            for number in 0..HANDSHAKES {
                clients.spawn(converse(balancer.proxy, round * HANDSHAKES + number));
            }
            closed.extend(clients.join_all().await.into_iter().filter_map(Result::err));
        }
        let all = ROUNDS * HANDSHAKES;
        assert!(
            closed.is_empty(),
            "{switches:?}: {} of {all} closed: {:?}",
            closed.len(),
            closed[0]
        );
        let ended = r#"ringmaster_requests_in_flight{pool="default",replica="S1"} 0"#;
        balancer.until_counted(ended).await;
        balancer.stop().await;
    }
}

#[tokio::test]
async fn a_refused_handshake_is_answered_and_the_client_s_connection_is_kept() {
    let (replica, _) = hasty(SwitchesOn::Head).await;
    let balancer = Balancer::start(&format!(
        "pools: {{ default: {{ provider: fixed, fixed: {{ S1: '{replica}' }} }} }}"
    ))
    .await;
    let mut stream = TcpStream::connect(balancer.proxy).await.unwrap();
    for _ in 0..3 {
        stream.write_all(ASKED).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok") {
            let read = timeout(DEADLINE, stream.read_buf(&mut answer)).await.expect("in time");
            assert!(matches!(read, Ok(1..)), "closed after {}", answer.escape_ascii());
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", answer.escape_ascii());
    }
    let answer = http::send(balancer.proxy, "GET", "/", &[], "").await;
    assert_eq!(answer.status, 200);
    balancer.stop().await;
}
