//! What an HTTP/2 request becomes on its way to a replica, which speaks HTTP/1.1: one request, or none.

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, Raw, block, frame,
};
use crate::harness::{Balancer, backend::Backend, pool_sizes, tls::Authority};

/// What is to become of a request.
#[derive(Debug, PartialEq, Eq)]
enum Becomes {
    /// This request line, with these fields among others, and this body.
    Request(&'static str, &'static [&'static str], &'static str),
    /// An answer of the balancer's own.
    Refused(u16),
    /// The stream is reset, or the connection closed.
    Reset,
}
use Becomes::{Refused, Request, Reset};

type Fields = &'static [(&'static str, &'static str)];

const OWN: Fields = &to("GET", "a.test", "/");
const POST: Fields = &to("POST", "a.test", "/p?q=1");

const fn to(
    method: &'static str,
    authority: &'static str,
    path: &'static str,
) -> [(&'static str, &'static str); 4] {
    [(":method", method), (":scheme", "https"), (":authority", authority), (":path", path)]
}

/// Name, pseudo-header fields, further fields, body, and what becomes of it.
const CASES: &[(&str, Fields, Fields, Option<&str>, Becomes)] = &[
    ("plain", OWN, &[], None, Request("GET /", &["host: a.test", "via: 2 ringmaster"], "")),
    (
        "with a body of unknown length",
        POST,
        &[],
        Some("body"),
        Request("POST /p?q=1", &["transfer-encoding: chunked"], "body"),
    ),
    (
        "with a body of known length",
        POST,
        &[("content-length", "4")],
        Some("body"),
        Request("POST /p?q=1", &["content-length: 4"], "body"),
    ),
    (
        "with an empty body",
        POST,
        &[("content-length", "0")],
        Some(""),
        Request("POST /p?q=1", &["content-length: 0"], ""),
    ),
    ("less than it says", POST, &[("content-length", "5")], Some("body"), Reset),
    ("more than it says", POST, &[("content-length", "3")], Some("body"), Reset),
    (
        "two lengths",
        POST,
        &[("content-length", "4"), ("content-length", "4")],
        Some("body"),
        Refused(400),
    ),
    ("a bad length", POST, &[("content-length", "+4")], Some("body"), Reset),
    (
        "cookies in crumbs",
        OWN,
        &[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")],
        None,
        Request("GET /", &["cookie: a=1; b=2; c=3"], ""),
    ),
    (
        "several fields of a name",
        OWN,
        &[("x-a", "1"), ("x-a", "2")],
        None,
        Request("GET /", &["x-a: 1", "x-a: 2"], ""),
    ),
    (
        "a field with bytes above ASCII",
        OWN,
        &[("x-a", "ä")],
        None,
        Request("GET /", &["x-a: ä"], ""),
    ),
    ("host as well", OWN, &[("host", "a.test")], None, Request("GET /", &["host: a.test"], "")),
    ("another host", OWN, &[("host", "b.test")], None, Refused(400)),
    (
        "host in place of the authority",
        &[(":method", "GET"), (":scheme", "https"), (":path", "/")],
        &[("host", "b.test")],
        None,
        Request("GET /", &["host: b.test"], ""),
    ),
    (
        "no host at all",
        &[(":method", "GET"), (":scheme", "https"), (":path", "/")],
        &[],
        None,
        Refused(400),
    ),
    ("a user in the authority", &to("GET", "u@a.test", "/"), &[], None, Refused(400)),
    ("a bad authority", &to("GET", "a b", "/"), &[], None, Reset),
    ("a name that HTTP/1.1 would end", OWN, &[("x\r\ny", "1")], None, Reset),
    ("a value with a line in it", OWN, &[("x", "1\r\nhost: b")], None, Reset),
    ("a value with a NUL", OWN, &[("x", "1\0")], None, Reset),
    ("white space around a value", OWN, &[("x", " 1")], None, Refused(400)),
    ("a name in upper case", OWN, &[("X-A", "1")], None, Reset),
    ("an empty name", OWN, &[("", "1")], None, Reset),
    ("a name with a colon", OWN, &[("x:y", "1")], None, Reset),
    ("a path with a line in it", &to("GET", "a.test", "/ HTTP/1.1\r\nx: y"), &[], None, Reset),
    ("a path with a space", &to("GET", "a.test", "/a b"), &[], None, Reset),
    ("a path without a slash", &to("GET", "a.test", "a"), &[], None, Reset),
    ("an empty path", &to("GET", "a.test", ""), &[], None, Reset),
    ("a path in absolute form", &to("GET", "a.test", "http://b.test/"), &[], None, Reset),
    ("a method with a line in it", &to("GET / HTTP/1.1\r\n", "a.test", "/"), &[], None, Reset),
    ("CONNECT", &[(":method", "CONNECT"), (":authority", "a.test:443")], &[], None, Refused(405)),
    ("TRACE", &to("TRACE", "a.test", "/"), &[], None, Refused(405)),
    ("OPTIONS *", &to("OPTIONS", "a.test", "*"), &[], None, Refused(501)),
    (
        "two methods",
        &[
            (":method", "GET"),
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "a.test"),
            (":path", "/"),
        ],
        &[],
        None,
        Reset,
    ),
    (
        "no method",
        &[(":scheme", "https"), (":authority", "a.test"), (":path", "/")],
        &[],
        None,
        Reset,
    ),
    (
        "no path",
        &[(":method", "GET"), (":scheme", "https"), (":authority", "a.test")],
        &[],
        None,
        Reset,
    ),
    ("an unknown pseudo-header field", OWN, &[(":protocol2", "x")], None, Reset),
    (
        "a pseudo-header field after others",
        &[
            ("x", "y"),
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "a.test"),
            (":path", "/"),
        ],
        &[],
        None,
        Reset,
    ),
    (
        "a websocket by extended CONNECT",
        &[
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":authority", "a.test"),
            (":path", "/"),
        ],
        &[],
        None,
        Reset,
    ),
    ("transfer-encoding", POST, &[("transfer-encoding", "chunked")], Some("0\r\n\r\n"), Reset),
    ("connection", OWN, &[("connection", "close")], None, Reset),
    ("keep-alive", OWN, &[("keep-alive", "timeout=5")], None, Reset),
    ("upgrade", OWN, &[("upgrade", "websocket")], None, Reset),
    ("te other than trailers", OWN, &[("te", "gzip")], None, Reset),
    ("te: trailers", OWN, &[("te", "trailers")], None, Request("GET /", &["host: a.test"], "")),
    (
        "expect",
        POST,
        &[("expect", "100-continue"), ("content-length", "4")],
        Some("body"),
        Request("POST /p?q=1", &["content-length: 4"], "body"),
    ),
    ("an unknown expectation", POST, &[("expect", "200-ok")], Some("body"), Refused(417)),
    (
        "what looks like another request in the body",
        POST,
        &[],
        Some("GET /evil HTTP/1.1\r\nhost: a\r\n\r\n"),
        Request("POST /p?q=1", &[], "GET /evil HTTP/1.1\r\nhost: a\r\n\r\n"),
    ),
    (
        "a length that is another one in octal",
        POST,
        &[("content-length", "010")],
        Some("0123456789"),
        Request("POST /p?q=1", &["content-length: 10"], "0123456789"),
    ),
    (
        "the root's dot",
        &to("GET", "a.test.", "/"),
        &[],
        None,
        Request("GET /", &["host: a.test.", "x-forwarded-host: a.test."], ""),
    ),
    (
        "passed by five balancers",
        OWN,
        &[("via", "1.1 ringmaster, 2 ringmaster, 1.1 ringmaster, 1.1 ringmaster, 1.1 ringmaster")],
        None,
        Request("GET /", &["via: 2 ringmaster"], ""),
    ),
    (
        "passed by six balancers",
        OWN,
        &[
            ("via", "1.1 ringmaster, 2 ringmaster, 1.1 ringmaster, 1.1 ringmaster"),
            ("via", "1.1 ringmaster, 1.1 ringmaster"),
        ],
        None,
        Refused(508),
    ),
    (
        "names that are read as others",
        OWN,
        &[
            ("x_forwarded_for", "9.9.9.9"),
            ("x.real.ip", "9.9.9.9"),
            ("x_user", "root"),
            ("x.user", "me"),
        ],
        None,
        Request("GET /", &["x.user: me"], ""),
    ),
    (
        "a forged address",
        OWN,
        &[
            ("forwarded", "for=9.9.9.9"),
            ("x-real-ip", "9.9.9.9"),
            ("x-forwarded-port", "1"),
            ("true-client-ip", "9.9.9.9"),
            ("x-forwarded-for", "9.9.9.9"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "evil"),
        ],
        None,
        Request(
            "GET /",
            &["x-forwarded-for: 127.0.0.1", "x-forwarded-proto: https", "x-forwarded-host: a.test"],
            "",
        ),
    ),
];

/// What no replica sees of a client that is not trusted.
const UNSEEN: &[&str] = &[
    "\r\nforwarded",
    "x-real-ip",
    "x-forwarded-port",
    "true-client-ip",
    "x_",
    "x.real",
    "9.9.9.9",
];

#[tokio::test]
async fn an_http2_request_becomes_one_request_or_none() {
    for size in pool_sizes() {
        let authority = Authority::new();
        let mut backend = Backend::with_replicas(size).await;
        let config = format!("trusted_proxies: []\n{}{}", authority.config(""), backend.pool(""));
        let balancer = Balancer::start(&config).await;
        let mut wrong = Vec::new();
        for (name, pseudo, fields, body, expected) in CASES {
            let status = exchange(&authority, &balancer, &[*pseudo, *fields].concat(), *body).await;
            let received = backend.received();
            let is_as_expected = match (expected, &received[..]) {
                (Request(line, fields, body), [one]) => {
                    let head = one.head.to_ascii_lowercase();
                    status == Some(200)
                        && one.line == *line
                        && one.body == body.as_bytes()
                        && fields.iter().all(|it| head.contains(&format!("\r\n{it}\r\n")))
                        && !head.contains("expect")
                        && UNSEEN.iter().all(|it| !head.contains(it))
                        && !head.contains("\r\nte:")
                }
                (Refused(expected), []) => status == Some(*expected),
                (Reset, []) => status.is_none(),
                _ => false,
            };
            if !is_as_expected {
                wrong.push(format!("{name}: {expected:?}, but {status:?} and {received:?}"));
            }
        }
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
        balancer.stop().await;
    }
}

/// Sends one request on a connection of its own; the status, or none if it was reset.
async fn exchange(
    authority: &Authority,
    balancer: &Balancer,
    fields: &[(&str, &str)],
    body: Option<&str>,
) -> Option<u16> {
    let mut raw = Raw::open(authority, balancer).await;
    let end = if body.is_none() { END_STREAM } else { 0 };
    let head = frame(HEADERS, END_HEADERS | end, 1, &block(fields));
    let body = body.map(|it| frame(DATA, END_STREAM, 1, it.as_bytes()));
    raw.send(&[head, body.unwrap_or_default()].concat()).await;
    while let Some((kind, _, stream, payload)) = raw.next().await {
        match (kind, stream) {
            (HEADERS, 1) => return Some(status_of(&payload)),
            (RST_STREAM, 1) => return None,
            _ => {}
        }
    }
    None
}

/// The code of RST_STREAM for malformed requests (RFC 9113 §7).
const PROTOCOL_ERROR: [u8; 4] = [0, 0, 0, 1];

/// What trailers do to their request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trailers {
    Served,
    /// The stream ends with an error of the protocol, and the connection goes on.
    Reset,
    /// The connection is closed: the library cannot decode them.
    Closed,
}

#[tokio::test]
async fn malformed_trailers_reset_their_stream_and_no_other() {
    use Trailers::{Closed, Reset, Served};
    const ENDED: u8 = END_STREAM | END_HEADERS;
    let mut wrong = Vec::new();
    let authority = Authority::new();
    let mut backend = Backend::start().await;
    let balancer = Balancer::start(&format!("{}{}", authority.config(""), backend.pool(""))).await;
    let trailers = |fields: &[(&str, &str)]| frame(HEADERS, ENDED, 1, &block(fields));
    // The head puts `:authority: a.test` into the dynamic table, which trailers can refer to by its index (RFC 7541 §6).
    let head = [b"\x83\x87\x84\x41\x06a.test", &block(&[("x-a", "b")])[..]].concat();
    for (name, trailers, expected) in [
        ("a field", trailers(&[("x-b", "c")]), Served),
        ("no field", trailers(&[]), Served),
        ("a length, which does not count", trailers(&[("content-length", "9")]), Served),
        ("a method", trailers(&[(":method", "GET")]), Reset),
        ("a path before a field", trailers(&[(":path", "/b"), ("x-b", "c")]), Reset),
        ("a path after a field", trailers(&[("x-b", "c"), (":path", "/b")]), Reset),
        ("a status", trailers(&[(":status", "200")]), Reset),
        ("an unknown pseudo-header field", trailers(&[(":x", "y")]), Closed),
        ("a method of the static table", frame(HEADERS, ENDED, 1, b"\x83"), Reset),
        ("an authority of the dynamic table", frame(HEADERS, ENDED, 1, b"\xbe"), Reset),
        (
            "a method in a frame of its own",
            [frame(HEADERS, END_STREAM, 1, &[]), frame(CONTINUATION, END_HEADERS, 1, b"\x83")]
                .concat(),
            Reset,
        ),
        ("a name in upper case", trailers(&[("X-B", "c")]), Closed),
        ("connection", trailers(&[("connection", "close")]), Reset),
        ("transfer-encoding", trailers(&[("transfer-encoding", "chunked")]), Reset),
        ("upgrade", trailers(&[("upgrade", "h2c")]), Reset),
        ("te", trailers(&[("te", "gzip")]), Reset),
        ("a value with a line in it", trailers(&[("x-b", "c\r\nd: e")]), Closed),
        (
            "trailers that do not end the stream",
            frame(HEADERS, END_HEADERS, 1, &block(&[("x-b", "c")])),
            Reset,
        ),
    ] {
        let mut raw = Raw::open(&authority, &balancer).await;
        let request = [frame(HEADERS, END_HEADERS, 1, &head), frame(DATA, 0, 1, b"body")].concat();
        let bytes = [request, trailers].concat();
        // Also cut where a frame begins and within one.
        let (first, second) = bytes.split_at(bytes.len() - 3);
        raw.send(first).await;
        raw.send(second).await;
        let answered = loop {
            match raw.next().await {
                Some((HEADERS, _, 1, block)) if status_of(&block) == 200 => break Served,
                Some((RST_STREAM, _, 1, code)) if code == PROTOCOL_ERROR => break Reset,
                Some((HEADERS | RST_STREAM, _, 1, payload)) => panic!("{name}: {payload:?}"),
                Some(_) => {}
                None => break Closed,
            }
        };
        if answered != expected {
            wrong.push(format!("{name}: {expected:?}, but {answered:?}"));
        }
        let mut due = vec![("POST /", &b"body"[..]); usize::from(expected == Served)];
        if answered != Closed {
            let again = block(&to("GET", "a.test", "/again"));
            raw.send(&frame(HEADERS, ENDED, 3, &again)).await;
            let again = loop {
                match raw.next().await {
                    Some((HEADERS, _, 3, block)) => break Some(status_of(&block)),
                    Some((RST_STREAM, _, 3, _)) | None => break None,
                    Some(_) => {}
                }
            };
            assert_eq!(again, Some(200), "{name}: the next request");
            due.push(("GET /again", b""));
        }
        let received = backend.received();
        let lines: Vec<_> = received.iter().map(|it| (&*it.line, &*it.body)).collect();
        if lines != due {
            wrong.push(format!("{name}: {lines:?} reached the backend"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    balancer.stop().await;
}

/// `:status` comes first, from the static table where it is there, and with a value of its own otherwise
/// (RFC 7541 §6.1, §6.2, Appendix A).
fn status_of(block: &[u8]) -> u16 {
    match block {
        [0x88, ..] => 200,
        [0x8c, ..] => 400,
        [0x8d, ..] => 404,
        [0x8e, ..] => 500,
        [0x48, length, text @ ..] if length & 0x80 == 0 => {
            let text = &text[..usize::from(*length)];
            std::str::from_utf8(text).unwrap().parse().unwrap()
        }
        [0x48, length, text @ ..] => digits(&text[..usize::from(length & 0x7f)]),
        other => panic!("no status in {other:?}"),
    }
}

/// Three digits in Huffman's code, of which each takes five or six bits (RFC 7541, Appendix B).
fn digits(coded: &[u8]) -> u16 {
    let mut bits =
        coded.iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1)));
    let mut next = || {
        let mut code = (0..5).fold(0, |code, _| code << 1 | bits.next().unwrap());
        if code > 2 {
            code = code << 1 | bits.next().unwrap();
            code - 0x19 + 3
        } else {
            code
        }
    };
    next() * 100 + next() * 10 + next()
}
