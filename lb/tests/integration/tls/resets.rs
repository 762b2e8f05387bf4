//! Requests over HTTP/2 that their clients reset, or whose connection ends: they end at once, wherever they are.

use std::{future::poll_fn, net::SocketAddr, sync::Arc, time::Duration};

use ::http::Request;
use bytes::Bytes;
use h2::{Reason, SendStream};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpSocket, TcpStream},
    sync::{Semaphore, mpsc},
    time::timeout,
};

use super::frames::{
    END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, frame, get,
};
use crate::harness::{
    Balancer, DEADLINE,
    backend::{Backend, OK},
    tls::{Authority, Http2},
};

const UPLOADS: usize = 6;
const UPLOAD_BYTES: usize = 64 << 20;
const GOOD_BYTES: usize = 200_000;

/// When a body has not moved for so long, all windows on its way are full.
const STILL: Duration = Duration::from_millis(500);

/// A replica that reads the heads of requests for `/stuck`, and nothing of their bodies before `gate` has a permit.
struct Stuck {
    addr: SocketAddr,
    gate: Arc<Semaphore>,
    /// How many bytes of each body had come when its connection ended.
    ended: mpsc::UnboundedReceiver<usize>,
}

impl Stuck {
    async fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // Or the kernel would take whole bodies in the replica's stead.
        socket.set_recv_buffer_size(16 << 10).unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(128).unwrap();
        let addr = listener.local_addr().unwrap();
        let gate = Arc::new(Semaphore::new(0));
        let (sender, ended) = mpsc::unbounded_channel();
        let shared = gate.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone(), sender.clone()));
            }
        });
        Self { addr, gate, ended }
    }

    fn pool(&self) -> String {
        format!("pools: {{ default: {{ provider: fixed, fixed: {{ S1: '{}' }} }} }}", self.addr)
    }
}

async fn serve(
    stream: TcpStream,
    gate: Arc<Semaphore>,
    ended: mpsc::UnboundedSender<usize>,
) -> Option<()> {
    let mut stream = BufReader::with_capacity(1024, stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            (stream.read_line(&mut head).await.ok()? > 0).then_some(())?;
        }
        if head.starts_with("POST /stuck ") {
            gate.acquire().await.ok()?.forget();
            let mut body = Vec::new();
            // A reset is an end, too.
            let _ = stream.read_to_end(&mut body).await;
            return ended.send(body.len()).ok();
        }
        if head.starts_with("POST /good ") {
            stream.read_exact(&mut vec![0; GOOD_BYTES]).await.ok()?;
        }
        stream.write_all(OK).await.ok()?;
    }
}

fn post(path: &str, bytes: usize) -> Request<()> {
    let request = Request::post(format!("https://localhost{path}"));
    request.header("content-length", bytes).body(()).unwrap()
}

/// Begins an upload and sends as much of it as goes.
async fn upload_until_full(http2: &Http2) -> SendStream<Bytes> {
    let mut sender = http2.sender.clone().ready().await.unwrap();
    let (answer, mut body) = sender.send_request(post("/stuck", UPLOAD_BYTES), false).unwrap();
    // Or the stream would be reset with it.
    tokio::spawn(answer);
    let mut left = UPLOAD_BYTES;
    loop {
        body.reserve_capacity(left);
        let capacity = timeout(STILL, poll_fn(|cx| body.poll_capacity(cx))).await;
        let Ok(Some(Ok(capacity))) = capacity else {
            // What is reserved is the connection's, which others need, too.
            body.reserve_capacity(0);
            return body;
        };
        body.send_data(vec![b'x'; capacity].into(), false).unwrap();
        left -= capacity;
        assert!(left > 0, "the replica took all of it");
    }
}

#[tokio::test]
async fn uploads_that_are_given_up_end_at_a_replica_that_does_not_read_them() {
    let authority = Authority::new();
    for resets in [true, false] {
        let mut replica = Stuck::start().await;
        let config = format!("access_log: true\n{}{}", authority.config(""), replica.pool());
        let balancer = Balancer::start(&config).await;
        let mut http2 = authority.http2(&balancer).await;
        let mut uploads = Vec::new();
        for _ in 0..UPLOADS {
            uploads.push(upload_until_full(&http2).await);
        }
        let in_flight = |count| {
            format!(r#"ringmaster_requests_in_flight{{pool="default",replica="S1"}} {count}"#)
        };
        balancer.until_counted(&in_flight(UPLOADS)).await;
        if resets {
            uploads.iter_mut().for_each(|it| it.send_reset(Reason::CANCEL));
        } else {
            http2.close();
            http2 = authority.http2(&balancer).await;
        }
        balancer.until_counted(&in_flight(0)).await;
        // All of the connection's window is there again.
        let good = http2.send(post("/good", GOOD_BYTES), Some(&[b'y'; GOOD_BYTES]));
        let answer = timeout(DEADLINE, good).await.expect("an answer in time").unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);

        replica.gate.add_permits(UPLOADS);
        for _ in 0..UPLOADS {
            let came = timeout(DEADLINE, replica.ended.recv()).await.expect("ended in time");
            assert!(came.unwrap() < UPLOAD_BYTES, "{came:?}");
        }
        for line in [
            format!(r#"requests_ended_total{{outcome="failed",reason="client"}} {UPLOADS}"#),
            format!(r#"request_failures_total{{pool="default",reason="client"}} {UPLOADS}"#),
        ] {
            balancer.until_counted(&line).await;
        }
        let logged = balancer.output().lines().filter(|it| it.contains("/stuck")).count();
        assert_eq!(logged, UPLOADS);
        let line = balancer.output().lines().find(|it| it.contains("/stuck")).unwrap().to_owned();
        for part in [
            r#""attempts":1"#,
            r#""client":"127.0.0.1""#,
            r#""method":"POST""#,
            r#""reason":"client""#,
            r#""replica":"S1""#,
        ] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
        balancer.stop().await;
    }
}

#[tokio::test]
async fn requests_that_are_reset_end_before_they_have_a_replica_and_while_they_are_answered() {
    let authority = Authority::new();
    let mut backend = Backend::start().await;
    let gate = backend.hold();
    let pool = backend.pool(
        "upstream: { in_flight_max: 1, connect_timeout_ms: 600000 }, hold: { timeout_ms: 600000 }, \
         heartbeat: { interval_ms: 60000 }",
    );
    let balancer = Balancer::start(&format!("{}{pool}", authority.config(""))).await;
    let ended = async |count: usize| {
        let line = format!(r#"requests_ended_total{{outcome="failed",reason="client"}} {count}"#);
        balancer.until_counted(&line).await;
    };
    let waiting = async |count: usize| {
        balancer
            .until_counted(&format!(r#"ringmaster_requests_waiting{{pool="default"}} {count}"#))
            .await;
    };
    let mut raw = Raw::open(&authority, &balancer).await;
    let ask = async |raw: &mut Raw, stream| {
        raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &get(&[]))).await;
    };
    let reset = async |raw: &mut Raw, stream| {
        raw.send(&frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())).await;
    };
    // The first is at the replica, the second waits for it.
    ask(&mut raw, 1).await;
    balancer.until_counted(r#"requests_in_flight{pool="default",replica="S1"} 1"#).await;
    ask(&mut raw, 3).await;
    waiting(1).await;
    reset(&mut raw, 3).await;
    waiting(0).await;
    ended(1).await;
    reset(&mut raw, 1).await;
    ended(2).await;
    // Reset in the same breath.
    let both = [
        frame(HEADERS, END_HEADERS | END_STREAM, 5, &get(&[])),
        frame(RST_STREAM, 0, 5, &8u32.to_be_bytes()),
    ];
    raw.send(&both.concat()).await;
    ended(3).await;
    // Frames about the windows do not end a request.
    ask(&mut raw, 7).await;
    balancer.until_counted(r#"requests_in_flight{pool="default",replica="S1"} 1"#).await;
    ask(&mut raw, 9).await;
    waiting(1).await;
    for window in [100_000_u32, 10, 65_535] {
        let increment = 1000_u32.to_be_bytes();
        raw.send(&frame(WINDOW_UPDATE, 0, 0, &increment)).await;
        raw.send(&frame(WINDOW_UPDATE, 0, 7, &increment)).await;
        raw.send(&frame(WINDOW_UPDATE, 0, 9, &increment)).await;
        let setting = [&[0, 4][..], &window.to_be_bytes()].concat();
        raw.send(&frame(SETTINGS, 0, 0, &setting)).await;
    }
    raw.send(&frame(PING, 0, 0, &[7; 8])).await;
    while raw.next_of(PING).await.expect("an answer").0 == 0 {}
    // One permit is for the request that was reset at the replica.
    gate.add_permits(3);
    for expected in [7, 9] {
        let (_, stream, _) = raw.next_of(HEADERS).await.expect("an answer");
        assert_eq!(stream, expected);
    }
    // An answer breaks off.
    backend.says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nthe", false);
    gate.add_permits(1);
    ask(&mut raw, 11).await;
    raw.next_of(HEADERS).await.expect("an answer begins");
    reset(&mut raw, 11).await;
    ended(4).await;
    // Nobody accepts the connection to the replica.
    backend.ignore().await;
    ask(&mut raw, 13).await;
    balancer.until_counted(r#"requests_in_flight{pool="default",replica="S1"} 1"#).await;
    reset(&mut raw, 13).await;
    ended(5).await;
    balancer.until_counted(r#"requests_in_flight{pool="default",replica="S1"} 0"#).await;
    balancer.stop().await;
}
