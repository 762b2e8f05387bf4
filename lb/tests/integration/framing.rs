//! What passes between clients and replicas has one meaning: never two requests where the client sent one, never an
//! answer that is another's. Modelled on RFC 9112.

mod answers;
mod fields;
mod requests;

use std::{net::SocketAddr, time::Duration};

use http_desync_guardian::{RequestSafetyTier, request_analyzer::HttpRequestData};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use self::{answers::ANSWERS, requests::REQUESTS};
use crate::harness::{
    Balancer, DEADLINE,
    backend::{Backend, OK},
    http, pool_sizes,
};

/// Sent behind every request that is passed on. Wherever the balancer believes the request to end, this is what it
/// reads next: if it ends too early or too late, the backend sees something else.
const SENTINEL: &[u8] = b"GET /sentinel HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// What is to become of the bytes of a client.
#[derive(Debug)]
pub(crate) enum Expected {
    /// They are answered with this status, and nothing reaches the backend.
    Refused(u16),
    /// The backend receives exactly these requests: method and target, body.
    Passed(&'static [(&'static str, &'static str)]),
    /// And then the status.
    PassedThenRefused(&'static [(&'static str, &'static str)], u16),
}

/// What is to become of the answer of a backend.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The client gets 502.
    Refused,
    /// The client gets status and body.
    Passed(u16, &'static str),
    /// The client is cut off, so that it does not take a part for the whole.
    Cut,
}

#[tokio::test]
async fn every_request_has_one_meaning_or_is_refused() {
    for size in pool_sizes() {
        let mut backend = Backend::with_replicas(size).await;
        let balancer = Balancer::start(&backend.pool("")).await;
        assert!(REQUESTS.len() >= 150, "only {}", REQUESTS.len());
        let mut wrong = Vec::new();
        for (name, bytes, expected) in REQUESTS {
            let (passed, refusal) = match *expected {
                Expected::Refused(status) => (&[][..], Some(status)),
                Expected::Passed(requests) => (requests, None),
                Expected::PassedThenRefused(requests, status) => (requests, Some(status)),
            };
            let text = exchange(balancer.proxy, &[bytes, SENTINEL].concat()).await;
            let statuses = statuses(&text);
            let received = backend.received();
            let mut seen: Vec<_> = received
                .iter()
                .map(|it| (it.line.as_str(), String::from_utf8_lossy(&it.body).into_owned()))
                .collect();
            let closed_by_sentinel = seen.last().is_some_and(|(line, _)| *line == "GET /sentinel");
            if closed_by_sentinel {
                seen.pop();
            }
            let mut due = vec![200; passed.len() + usize::from(closed_by_sentinel)];
            due.extend(refusal);
            let as_expected = seen.len() == passed.len()
                && seen
                    .iter()
                    .zip(passed)
                    .all(|((line, body), due)| (*line, body.as_str()) == *due)
                && statuses == due
                && !(closed_by_sentinel && refusal.is_some());
            if !as_expected {
                wrong.push(format!("{name}: {expected:?}, but {statuses:?} and {seen:?}"));
            }
        }
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), REQUESTS.len(), wrong.join("\n"));
        balancer.stop().await;
    }
}

#[tokio::test]
async fn every_answer_has_one_meaning_or_is_refused() {
    for size in pool_sizes() {
        let mut backend = Backend::with_replicas(size).await;
        let balancer = Balancer::start(&backend.pool("")).await;
        assert!(ANSWERS.len() >= 40, "only {}", ANSWERS.len());
        let mut wrong = Vec::new();
        for (name, bytes, then_close, expected) in ANSWERS {
            backend.says(bytes, *then_close);
            let request = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            let text = exchange(balancer.proxy, request).await;
            backend.says(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext", false);
            let next = http::send(balancer.proxy, "POST", "/next", &[], "").await;
            let answer = answer(&text);
            let as_expected = match expected {
                Outcome::Refused => answer.as_ref().is_some_and(|(status, ..)| *status == 502),
                Outcome::Passed(status, body) => answer.as_ref().is_some_and(|it| {
                    (it.0, it.2.as_slice()) == (*status, body.as_bytes()) && is_clean(&it.1)
                }),
                Outcome::Cut => answer.is_none(),
            };
            let lines: Vec<_> = backend.received().into_iter().map(|it| it.line).collect();
            if !as_expected || next.body != "next" || lines != ["POST /", "POST /next"] {
                wrong
                    .push(format!("{name}: {expected:?}, but {text:?}; next: {next:?}, {lines:?}"));
            }
        }
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), ANSWERS.len(), wrong.join("\n"));
        balancer.stop().await;
    }
}

#[tokio::test]
async fn what_a_second_opinion_calls_severe_is_refused() {
    let mut severe = 0;
    for (name, bytes, expected) in REQUESTS {
        let head = bytes.windows(4).position(|it| it == b"\r\n\r\n");
        let Some(head) = head.map(|end| &bytes[..end + 4]) else { continue };
        let opinion = HttpRequestData::analyze_raw_request(head);
        if opinion.tier == RequestSafetyTier::Severe {
            severe += 1;
            assert!(
                matches!(expected, Expected::Refused(400..=599)),
                "{name}: {expected:?}, but {:?}",
                opinion.reason
            );
        }
    }
    assert!(severe > 50, "only {severe} are severe");
}

/// Sends `bytes` and reads until the balancer closes.
async fn exchange(addr: SocketAddr, bytes: &[u8]) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        // It may have closed already; what it said is read below.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    let shown = bytes.escape_ascii();
    timeout(DEADLINE, exchange).await.unwrap_or_else(|_| panic!("not closed after {shown}"))
}

/// The statuses of all answers but interim ones.
fn statuses(text: &str) -> Vec<u16> {
    let statuses = text.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().unwrap());
    statuses.filter(|status| *status >= 200).collect()
}

/// The one final answer, if it is whole: status, head, body.
fn answer(text: &str) -> Option<(u16, String, Vec<u8>)> {
    let mut rest = text;
    loop {
        let (head, body) = rest.split_once("\r\n\r\n")?;
        let status: u16 = head.strip_prefix("HTTP/1.1 ")?[..3].parse().unwrap();
        if status < 200 {
            rest = body;
            continue;
        }
        let field = |name: &str| {
            head.lines().find_map(|line| {
                let (found, value) = line.split_once(": ")?;
                found.eq_ignore_ascii_case(name).then_some(value)
            })
        };
        let body = match (field("content-length"), field("transfer-encoding")) {
            _ if status == 204 || status == 304 => body.as_bytes().to_vec(),
            (Some(length), None) => {
                let length: usize = length.parse().unwrap();
                (body.len() == length).then(|| body.as_bytes().to_vec())?
            }
            (None, Some("chunked")) => dechunked(body)?,
            (None, None) => body.as_bytes().to_vec(),
            _ => panic!("two lengths in {head:?}"),
        };
        return Some((status, head.to_owned(), body));
    }
}

fn dechunked(mut rest: &str) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let (size, behind) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size, 16).unwrap();
        body.extend_from_slice(behind.get(..size)?.as_bytes());
        rest = behind.get(size..)?.strip_prefix("\r\n")?;
        if size == 0 {
            return rest.is_empty().then_some(body);
        }
    }
}

/// Nothing that was meant for the balancer alone, and no length that is read in two ways.
fn is_clean(head: &str) -> bool {
    let head = head.to_ascii_lowercase();
    if head.lines().any(|it| it.starts_with("content-length: 0") && it != "content-length: 0") {
        return false;
    }
    ["x-secret", "keep-alive", "\r\nte:", "\r\ntrailer:", "proxy-connection", "\r\nupgrade:"]
        .iter()
        .all(|it| !head.contains(it))
}

const EARLY_HINTS: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";

#[tokio::test]
async fn clients_of_http_1_0_get_answers_that_they_can_read() {
    for size in pool_sizes() {
        let mut backend = Backend::with_replicas(size).await;
        let balancer = Balancer::start(&backend.pool("")).await;
        for (answer, then_close) in [
            (&[EARLY_HINTS, OK].concat()[..], false),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", false),
            (OK, false),
            (b"HTTP/1.0 200 OK\r\n\r\nok", true),
            (b"HTTP/1.1 200 OK\r\n\r\nok", true),
        ] {
            backend.says(answer, then_close);
            let request = b"GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n";
            let text = exchange(balancer.proxy, request).await;
            assert!(!backend.received()[0].head.to_lowercase().contains("expect"));
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{text:?}");
            assert_eq!(body, "ok", "{text:?}");
        }
        balancer.stop().await;
    }
}

#[tokio::test]
async fn after_a_change_of_protocol_bytes_pass_both_ways() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(switch_or_beat(stream));
        }
    });
    let balancer = Balancer::start(&format!(
        "client: {{ read_timeout_ms: 200 }}\n\
         pools: {{ default: {{ provider: fixed, fixed: {{ S1: '{addr}' }} }} }}"
    ))
    .await;
    passes_both_ways(balancer.proxy).await;
    balancer.until_counted(r#"ringmaster_requests_in_flight{pool="default",replica="S1"} 0"#).await;
    balancer.stop().await;
}

/// Sends bytes through a tunnel, right behind the handshake and later, and has them come back.
async fn passes_both_ways(proxy: SocketAddr) {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    // The first bytes of the new protocol look like a request, and come before it is agreed on.
    let early = b"GET / HTTP/1.1\nX: \0\r\n\r\n";
    let head =
        b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(&[&head[..], early].concat()).await.unwrap();
    let mut text = Vec::new();
    let late = b"\xff\n\nmore";
    for due in [&early[..], late] {
        while !text.ends_with(due) {
            let read = timeout(DEADLINE, stream.read_buf(&mut text)).await.expect("in time");
            assert!(matches!(read, Ok(1..)), "closed after {}", text.escape_ascii());
        }
        assert!(text.starts_with(b"HTTP/1.1 101 "), "{}", text.escape_ascii());
        // Longer than a client may be silent in a request.
        tokio::time::sleep(Duration::from_millis(600)).await;
        if due != late {
            stream.write_all(late).await.unwrap();
        }
    }
}

/// Answers a heartbeat, or switches to a protocol that sends back what it gets.
async fn switch_or_beat(mut stream: TcpStream) {
    let mut head = Vec::new();
    while !head.windows(4).any(|it| it == b"\r\n\r\n") {
        if !matches!(stream.read_buf(&mut head).await, Ok(1..)) {
            return;
        }
    }
    if !head.starts_with(b"GET /chat ") {
        let _ = stream.write_all(OK).await;
        return;
    }
    let switched =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let _ = stream.write_all(switched).await;
    let end = head.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
    let _ = stream.write_all(&head[end..]).await;
    let (mut reader, mut writer) = stream.split();
    let _ = tokio::io::copy(&mut reader, &mut writer).await;
}
