//! What holds for heads, bodies and keys of requests, whatever their bytes.

use std::net::{IpAddr, Ipv6Addr};

use bytes::BytesMut;
use http::{Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use tokio::time::Instant;

use super::{
    forward,
    framing::{Chunks, Fault, Frames, Head, Limits, find_head, read_head},
    ids::Ids,
    key::KeyText,
};
use crate::config::{Config, Http2Config, KeySource, Underscores};

const LIMITS: Limits = Limits {
    uri_bytes_max: 512,
    headers_max: 16,
    body_bytes_max: 1 << 20,
    underscores: Underscores::Drop,
};

/// A head is the same one however it was cut on its way, and what is passed on has one meaning.
pub(crate) fn fuzz_head(bytes: &[u8]) {
    let whole = found(bytes, bytes.len());
    for step in [1, 2, 7] {
        assert_eq!(found(bytes, step), whole, "in steps of {step}");
    }
    let Ok(Some(head)) = whole else { return };
    let Ok(Head { length, has_claims, rewritten }) = read_head(&head, &LIMITS) else { return };
    let passed = rewritten.unwrap_or(head);
    let again = read_head(&passed, &LIMITS).expect("what is passed on is well formed");
    assert_eq!(again, Head { length, has_claims, rewritten: None }, "{passed:?}");
    let mut lines: Vec<&[u8]> = passed[..].split(|&it| it == b'\n').collect();
    assert_eq!(lines.pop(), Some(&b""[..]));
    for line in lines {
        let line = line.strip_suffix(b"\r").expect("a line ends in CR LF");
        assert!(!line.iter().any(|it| matches!(it, b'\r' | b'\0')), "{passed:?}");
    }
}

/// The head that is found among `bytes` when they come in steps.
fn found(bytes: &[u8], step: usize) -> Result<Option<BytesMut>, Fault> {
    let (mut received, mut scanned) = (BytesMut::new(), 0);
    for part in bytes.chunks(step.max(1)) {
        received.extend_from_slice(part);
        if let Some(end) = find_head(&mut received, scanned)? {
            return Ok(Some(received.split_to(end)));
        }
        scanned = received.len();
    }
    Ok(None)
}

/// A chunked body ends at the same byte, or is refused for the same reason, however it was cut.
pub(crate) fn fuzz_chunks(bytes: &[u8]) {
    let whole = passed(bytes, bytes.len());
    for step in [1, 2, 7] {
        assert_eq!(passed(bytes, step), whole, "in steps of {step}");
    }
    if let Ok((taken, true)) = whole {
        assert!(bytes[..taken].ends_with(b"\r\n"));
        assert_eq!(passed(&bytes[..taken - 1], taken), Ok((taken - 1, false)), "a byte less");
    }
}

/// How many of `bytes` belong to the body, and whether it ends with them.
fn passed(bytes: &[u8], step: usize) -> Result<(usize, bool), Fault> {
    let (mut chunks, mut taken) = (Chunks::new(LIMITS.body_bytes_max), 0);
    for part in bytes.chunks(step.max(1)) {
        taken += chunks.pass(part)?;
        if chunks.is_done() {
            break;
        }
    }
    Ok((taken, chunks.is_done()))
}

/// The frames of a connection are passed on as the same bytes however they were cut, but for flags, and little is held.
pub(crate) fn fuzz_frames(bytes: &[u8]) {
    const HELD_MAX: usize = 600;
    const END_STREAM: u8 = 1;
    let limits = Config::default().client.http2;
    let (whole, _) = passed_frames(bytes, bytes.len(), &limits);
    assert!(
        whole.iter().zip(bytes).all(|(&passed, &came)| passed | END_STREAM == came | END_STREAM)
    );
    for step in [1, 2, 7] {
        let (cut, held) = passed_frames(bytes, step, &limits);
        assert_eq!(cut, whole, "in steps of {step}");
        assert!(held <= HELD_MAX, "{held} bytes are held");
    }
}

/// What is passed on of `bytes`, which come in steps, until the connection is cut off; and how much of it is held.
fn passed_frames(bytes: &[u8], step: usize, limits: &Http2Config) -> (Vec<u8>, usize) {
    let (mut frames, now) = (Frames::new(limits), Instant::now());
    let (mut held, mut passed) = (Vec::new(), Vec::new());
    for part in bytes.chunks(step.max(1)) {
        let known = held.len();
        held.extend_from_slice(part);
        let Ok(left) = frames.pass(&mut held, known, now) else { return (passed, 0) };
        passed.extend(held.drain(..held.len() - left));
    }
    (passed, held.len())
}

/// Every request has a host, a client and a key, and what is told to replicas and clients can be written. The first
/// line is the target, the others are fields.
pub(crate) fn fuzz_key(bytes: &[u8]) {
    let mut lines = bytes.split(|&it| it == b'\n');
    let target = lines.next().unwrap_or_default();
    let Ok(mut request) = RequestHeader::build("GET", target, None) else { return };
    let Ok(mut response) = ResponseHeader::build(200, None) else { return };
    for line in lines {
        let Some(colon) = line.iter().position(|&it| it == b':') else { continue };
        let (Ok(name), value) = (str::from_utf8(&line[..colon]), &line[colon + 1..]) else {
            continue;
        };
        // What cannot be a field is refused before anybody asks for a key.
        let _ = request.append_header(name.to_owned(), value);
        let _ = response.append_header(name.to_owned(), value);
    }
    let peer = IpAddr::from(Ipv6Addr::LOCALHOST);
    let host = forward::host(&request);
    let sent = request.headers.get(header::HOST).and_then(|it| it.to_str().ok()).unwrap_or("");
    assert!(sent.starts_with(host), "{host:?} of {sent:?}");
    for trusted in [false, true] {
        let client = forward::client(&request, Some(peer), |_| trusted);
        assert!(client.is_some() && (trusted || client == Some(peer)));
        let ids = Ids::new(1);
        for source in [
            KeySource::RequestId,
            KeySource::ClientIp,
            KeySource::Path,
            KeySource::Header(header::HOST),
            KeySource::Cookie("sid".into()),
            KeySource::Query("user".into()),
        ] {
            let key = KeyText::of(&source, &request, || client, &ids);
            // Pingora writes three bytes for one that is no UTF-8.
            assert!(key.as_bytes().len() <= 3 * bytes.len().max(45), "{source:?}");
        }
        let mut told = request.headers.clone();
        if !trusted {
            forward::remove_claims(&mut told);
            assert!(!told.contains_key("x-real-ip") && !told.contains_key("forwarded"));
        }
        forward::request(&mut told, Some(peer), trusted, Version::HTTP_2, true)
            .expect("fields can be added");
        let id = ids.request_id(&request, trusted);
        forward::request_id(&mut told, &id);
        assert_eq!(told.get_all(forward::X_REQUEST_ID).iter().collect::<Vec<_>>(), [&id]);
    }
    assert!(u64::from(forward::weight(&request)) <= (64 << 10) + 2 * bytes.len() as u64 + 1);
    forward::response(&mut response).expect("fields can be removed");
    assert!(!response.headers.contains_key("keep-alive"));
    forward::answer_length(&response);
}
