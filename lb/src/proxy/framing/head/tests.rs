use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    uri_bytes_max: 8_192,
    headers_max: 100,
    body_bytes_max: 1 << 30,
    underscores: Underscores::Drop,
};

fn length(fields: &str) -> Result<Length, u16> {
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    read(head.as_bytes(), &LIMITS).map(|it| it.length).map_err(|it| it.status)
}

#[test]
fn the_head_ends_at_the_first_empty_line_however_it_is_cut() {
    for (text, end) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\nbody", Some(27)),
        ("GET / HTTP/1.1\nHost: a\n\nbody", Some(24)),
        ("GET / HTTP/1.1\r\nHost: a\r\n", None),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r", None),
        ("\n\n", Some(2)),
    ] {
        for scanned in 0..end.unwrap_or(text.len()) {
            assert_eq!(end_of_head(text.as_bytes(), scanned), end, "{text:?} from {scanned}");
        }
    }
}

#[test]
fn a_head_is_found_however_it_is_cut() {
    let text = b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nbody";
    for cut in 0..text.len() {
        let (mut received, mut scanned, mut found) = (BytesMut::new(), 0, None);
        for part in [&text[..cut], &text[cut..]] {
            received.extend_from_slice(part);
            found = found.or(find(&mut received, scanned).unwrap());
            scanned = received.len();
        }
        let head = found.map(|end| &received[..end]);
        assert_eq!(head, Some(&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..]), "cut at {cut}");
    }
}

#[test]
fn the_length_of_a_body_has_one_source() {
    assert_eq!(length(""), Ok(Length::Known(0)));
    assert_eq!(length("Content-Length: 7\r\n"), Ok(Length::Known(7)));
    assert_eq!(length("Transfer-Encoding: Chunked\r\n"), Ok(Length::Chunked));
    assert_eq!(length("Content-Length: 1073741825\r\n"), Err(413));
    for fields in [
        "Content-Length: 5, 5\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: \r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: \u{b}chunked\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n",
        "Connection: upgrade\r\nUpgrade: h2c, websocket\r\nContent-Length: 5\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n",
    ] {
        assert_eq!(length(fields), Err(400), "{fields:?}");
    }
}

#[test]
fn an_absolute_target_is_passed_on_in_origin_form() {
    for (head, expected) in [
        (
            "GET http://a/b?c HTTP/1.1\r\nHost: A\r\n\r\n",
            Some("GET /b?c HTTP/1.1\r\nHost: A\r\n\r\n"),
        ),
        (
            "GET HTTP://a:80?c HTTP/1.1\r\nHost: a:80\r\n\r\n",
            Some("GET /?c HTTP/1.1\r\nHost: a:80\r\n\r\n"),
        ),
        ("GET http://a HTTP/1.0\r\n\r\n", Some("GET / HTTP/1.0\r\nHost: a\r\n\r\n")),
        ("GET /http://b HTTP/1.1\r\nHost: a\r\n\r\n", None),
    ] {
        let read = read(head.as_bytes(), &LIMITS).unwrap();
        assert_eq!(read.rewritten.as_deref(), expected.map(str::as_bytes), "{head:?}");
    }
}

/// The fields that are passed on in place of `fields`; `None` if they stay as they are.
fn rewritten(fields: &str) -> Option<String> {
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let rewritten = read(head.as_bytes(), &LIMITS).unwrap().rewritten?;
    let again = read(&rewritten, &LIMITS).unwrap();
    assert_eq!(again.rewritten, None, "{fields:?} is rewritten once");
    let rewritten = String::from_utf8(rewritten.to_vec()).unwrap();
    let fields = rewritten.strip_prefix("POST / HTTP/1.1\r\nHost: a\r\n").unwrap();
    Some(fields.strip_suffix("\r\n").unwrap().to_owned())
}

#[test]
fn only_websocket_is_offered_to_replicas() {
    const SETTINGS: &str = "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n";
    for (fields, expected) in [
        ("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n", Some("")),
        (
            "Connection: Upgrade\r\nConnection: close\r\nUpgrade: h2c\r\n",
            Some("Connection: close\r\n"),
        ),
        (
            "Connection: x, Upgrade,y\r\nUpgrade: TLS/1.0\r\nX: 1\r\n",
            Some("X: 1\r\nConnection: x, y\r\n"),
        ),
        ("Upgrade:\r\n", Some("")),
        ("Upgrade: h2c\r\nContent-Length: 5\r\n", Some("Content-Length: 5\r\n")),
        // An offer that `Connection` does not announce was meant for another hop.
        ("Upgrade: websocket\r\nContent-Length: 5\r\n", Some("Content-Length: 5\r\n")),
        ("Connection: close\r\nUpgrade: websocket\r\n", Some("Connection: close\r\n")),
        ("Connection: upgrade\r\nUpgrade: websocket/13\r\n", Some("")),
        ("Connection: upgrade\r\nUpgrade: websocket\r\n", None),
        ("UPGRADE: WebSocket\r\nCONNECTION: keep-alive, Upgrade\r\n", None),
        ("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n", None),
        (
            "Connection: upgrade, close\r\nUpgrade: h2c, WebSocket\r\n",
            Some("Upgrade: websocket\r\nConnection: close, upgrade\r\n"),
        ),
        (
            "Upgrade: websocket,\r\nConnection: upgrade\r\n",
            Some("Upgrade: websocket\r\nConnection: upgrade\r\n"),
        ),
        (
            "Upgrade: websocket\r\nConnection: upgrade\r\nUpgrade: h2c\r\nConnection: upgrade\r\n",
            Some("Upgrade: websocket\r\nConnection: upgrade\r\n"),
        ),
    ] {
        assert_eq!(rewritten(fields).as_deref(), expected, "{fields:?}");
        // Settings of HTTP/2 go with the offer.
        if expected.is_some() {
            assert_eq!(rewritten(&[fields, SETTINGS].concat()).as_deref(), expected);
        }
    }
    let old = b"POST / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\n";
    let old = read(old, &LIMITS).unwrap();
    let expected = &b"POST / HTTP/1.0\r\nContent-Length: 1\r\n\r\n"[..];
    assert_eq!((old.length, old.rewritten.as_deref()), (Length::Known(1), Some(expected)));
}

#[test]
fn lengths_and_names_are_passed_on_in_one_spelling() {
    for (fields, expected) in [
        ("content-length: 010\r\n", Some("content-length: 10\r\n")),
        ("Content-Length: 0000000000000000000000005\r\n", Some("Content-Length: 5\r\n")),
        ("Content-Length: 00\r\n", Some("Content-Length: 0\r\n")),
        ("Content-Length: 0\r\n", None),
        ("X_Forwarded_For: 1\r\nX_User: 2\r\nX-User: 3\r\n", Some("X-User: 3\r\n")),
        ("X.Real.IP: 1\r\nX.User: 2\r\n", Some("X.User: 2\r\n")),
        ("X.User: 2\r\n", None),
    ] {
        assert_eq!(rewritten(fields).as_deref(), expected, "{fields:?}");
    }
}

#[test]
fn underscores_are_passed_or_refused_where_the_configuration_says_so() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nX_User: 1\r\nX_Real_IP: 2\r\n\r\n";
    let read = |underscores| read(head, &Limits { underscores, ..LIMITS });
    assert_eq!(read(Underscores::Refuse), Err(UNDERSCORE));
    let expected = &b"GET / HTTP/1.1\r\nHost: a\r\nX_User: 1\r\n\r\n"[..];
    assert_eq!(read(Underscores::Pass).unwrap().rewritten.as_deref(), Some(expected));
}

#[test]
fn claims_and_loops_are_seen() {
    let has_claims = |fields: &str| {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        read(head.as_bytes(), &LIMITS).map(|it| it.has_claims).map_err(|it| it.status)
    };
    assert_eq!(has_claims("Accept: x\r\n"), Ok(false));
    assert_eq!(has_claims("TRUE-client-ip: 1\r\nAccept: x\r\n"), Ok(true));
    let hop = "Via: 1.1 ringmaster\r\n";
    assert_eq!(has_claims(&hop.repeat(5)), Ok(false));
    assert_eq!(has_claims(&hop.repeat(6)), Err(508));
}

#[test]
fn hosts_are_unmistakable() {
    for good in
        ["a", "example.com", "example.com:80", "127.0.0.1:5000", "[::1]", "[::1]:5000", "a_b"]
    {
        assert!(is_host(good.as_bytes()), "{good}");
    }
    for bad in [
        "", ":80", "a b", "a/b", "a?b", "a#b", "a@b", "a:b", "a:1:2", "a:123456", "[::1", "[x]",
        "a,b",
    ] {
        assert!(!is_host(bad.as_bytes()), "{bad}");
    }
}

proptest! {
    #[test]
    fn whatever_is_read_has_one_host_and_one_length(head in "[GETPOSHhost:/ a1.,\r\n\t]{0,80}\r\n\r\n") {
        if let Ok(read) = read(head.as_bytes(), &LIMITS) {
            prop_assert!(head.starts_with(|first: char| first.is_ascii_alphabetic()));
            prop_assert!(!head.replace("\r\n", "").contains(['\r', '\n']));
            prop_assert_eq!(read.length, Length::Known(0));
        }
    }
}
