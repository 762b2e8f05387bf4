//! Heads of requests (RFC 9112 §3 and §5, RFC 9110 §7.2).

use std::{net::Ipv6Addr, str};

use bytes::{Buf, BytesMut};

use super::{
    Fault, Length, NO_TOKEN, ODD, class, is_field_value, is_token,
    names::{Fate, fate, is_claim},
    via,
};
use crate::{
    config::{ClientConfig, Underscores},
    metrics::Rejection,
};

pub(super) const BAD_TARGET: Fault = bad("Bad target");
pub(in super::super) const URI_TOO_LONG: Fault =
    Fault::new(414, Rejection::HeadTooLarge, "The URI is too long");
pub(super) const TOO_MANY_FIELDS: Fault =
    Fault::new(431, Rejection::HeadTooLarge, "Too many header fields");
pub(super) const UNKNOWN_EXPECTATION: Fault =
    Fault::new(417, Rejection::BadHead, "Unknown expectation");
pub(in super::super) const BODY_TOO_LARGE: Fault =
    Fault::new(413, Rejection::BodyTooLarge, "The body is too large");
pub(super) const NOT_ALLOWED: Fault =
    Fault::new(405, Rejection::BadHead, "The method is not allowed");
pub(super) const UNDERSCORE: Fault = bad("An underscore in the name of a header field");
pub(super) const NOT_IMPLEMENTED: Fault =
    Fault::new(501, Rejection::BadHead, "OPTIONS * is not implemented");

/// The only protocol that a request is let change to.
const WEB_SOCKET: &[u8] = b"websocket";

/// What a head may take, and have.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Limits {
    pub(in super::super) uri_bytes_max: usize,
    pub(in super::super) headers_max: usize,
    pub(in super::super) body_bytes_max: u64,
    pub(in super::super) underscores: Underscores,
}

impl Limits {
    pub(in super::super) fn of(client: &ClientConfig) -> Self {
        Self {
            uri_bytes_max: client.uri_bytes_max,
            headers_max: client.headers_max,
            body_bytes_max: client.body_bytes_max,
            underscores: client.underscores_in_headers,
        }
    }
}

/// What a head says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Head {
    pub(in super::super) length: Length,
    /// Whether any field is a claim ([`is_claim`]).
    pub(in super::super) has_claims: bool,
    /// The head as it is passed on, where that differs: with a target in origin form, a length without zeros before it,
    /// no field that may be taken for another, and no offer of a protocol but WebSocket.
    pub(in super::super) rewritten: Option<BytesMut>,
}

/// The fields that decide how a request is read.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a [u8]>,
    content_length: Option<&'a [u8]>,
    is_chunked: bool,
    has_upgrade: bool,
    expects: bool,
    has_claims: bool,
    /// Some field is not to be passed on.
    is_dropping: bool,
    /// Balancers like this one that `Via` names.
    passed: usize,
}

/// What is to become of the protocols that a request offers to change to (RFC 9110 §7.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offer {
    /// There is none, or only WebSocket, as it is passed on.
    AsItIs,
    /// WebSocket among others, which are taken out.
    WebSocket,
    /// None that could be taken up.
    Dropped,
}

/// The length of the next head among what was `received`, its empty line included, if all of it has come. What may stand
/// before it is dropped. `scanned` bytes are known not to end it.
pub(in super::super) fn find(
    received: &mut BytesMut,
    scanned: usize,
) -> Result<Option<usize>, Fault> {
    without_empty_lines(received);
    if !may_begin(received) {
        return Err(bad("Bad request line"));
    }
    Ok(end_of_head(received, scanned))
}

/// RFC 9112 §2.2: empty lines before a request are ignored.
fn without_empty_lines(head: &mut BytesMut) {
    while head.starts_with(b"\r\n") {
        head.advance(2);
    }
}

/// Whether a request may begin like this: who speaks another protocol, such as TLS, is told so at once.
fn may_begin(head: &[u8]) -> bool {
    head.first().is_none_or(|&first| is_token(first) || first == b'\r')
}

/// The length of the head, its empty line included, if that has come. `scanned` bytes are known not to end it.
///
/// Lines that end without CR count here, so that nobody waits for the rest of what [`read`] will refuse.
fn end_of_head(head: &[u8], scanned: usize) -> Option<usize> {
    // The line before the empty one may have ended in what was scanned.
    let mut at = scanned.saturating_sub(2);
    while let Some(newline) = head[at..].iter().position(|&byte| byte == b'\n') {
        at += newline + 1;
        match &head[at..] {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
    None
}

/// Reads a whole head, up to and including its empty line.
pub(in super::super) fn read(head: &[u8], limits: &Limits) -> Result<Head, Fault> {
    let mut lines = Lines(head);
    let request_line = lines.next()?;
    let (method, target, is_1_1) = request_line_of(request_line)?;
    if target.len() > limits.uri_bytes_max {
        return Err(URI_TOO_LONG);
    }
    let mut fields = Fields::default();
    let mut count = 0;
    loop {
        let line = lines.next()?;
        if line.is_empty() {
            break;
        }
        count += 1;
        if count > limits.headers_max {
            return Err(TOO_MANY_FIELDS);
        }
        let (name, value, class) = field_of(line)?;
        if class & ODD != 0 {
            match fate(name, limits.underscores) {
                Fate::Passed => {}
                Fate::Dropped => fields.is_dropping = true,
                Fate::Refused => return Err(UNDERSCORE),
            }
        }
        fields.take(name, value, is_1_1)?;
    }
    if !lines.0.is_empty() {
        return Err(bad("Bad line in the head"));
    }
    let length = fields.length(limits)?;
    let offer = if fields.has_upgrade { offer_of(head, length, is_1_1)? } else { Offer::AsItIs };
    let authority = authority_of(method, target)?;
    match (fields.host, authority) {
        (None, None) if is_1_1 => return Err(bad("No Host header")),
        (Some(host), _) if !is_host(host) => return Err(bad("Bad Host header")),
        (_, Some(authority)) if !is_host(authority) => return Err(BAD_TARGET),
        (None, Some(_)) if is_1_1 => return Err(bad("No Host header")),
        (Some(host), Some(authority)) if !host.eq_ignore_ascii_case(authority) => {
            return Err(bad("The target's host is not that of the Host header"));
        }
        _ => {}
    }
    let has_zeros = fields.content_length.is_some_and(|it| it.len() > 1 && it[0] == b'0');
    let differs = authority.is_some() || fields.is_dropping || has_zeros || offer != Offer::AsItIs;
    let mut rewritten = None;
    if differs {
        let to = rewritten.insert(BytesMut::with_capacity(head.len() + target.len()));
        let host = authority.filter(|_| fields.host.is_none());
        write_request_line(to, (method, target, authority), is_1_1, host);
        write_fields(to, head, length, offer, limits.underscores)?;
    }
    Ok(Head { length, has_claims: fields.has_claims, rewritten })
}

/// The rest of a head, line by line.
struct Lines<'a>(&'a [u8]);

impl<'a> Lines<'a> {
    /// The next line, without its CR LF.
    fn next(&mut self) -> Result<&'a [u8], Fault> {
        let end = self.0.iter().position(|&byte| byte == b'\n');
        let end = end.ok_or(bad("Bad line in the head"))?;
        let (line, rest) = self.0.split_at(end + 1);
        self.0 = rest;
        line.strip_suffix(b"\r\n").ok_or(bad("A line does not end in CR LF"))
    }
}

impl<'a> Fields<'a> {
    fn take(&mut self, name: &[u8], value: &'a [u8], is_1_1: bool) -> Result<(), Fault> {
        self.has_claims |= is_claim(name);
        // Told apart by their length first: most fields are none of these.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                once(&mut self.host, value, "More than one Host header")?;
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                once(&mut self.content_length, value, "More than one Content-Length")?;
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") || !is_1_1 {
                    return Err(bad("A Transfer-Encoding that is not one `chunked`"));
                }
                self.is_chunked = true;
            }
            6 if name.eq_ignore_ascii_case(b"expect") && is_1_1 => {
                if self.expects || !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(UNKNOWN_EXPECTATION);
                }
                self.expects = true;
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.has_upgrade = true,
            3 if name.eq_ignore_ascii_case(b"via") => self.passed = via::count(self.passed, value)?,
            _ => {}
        }
        Ok(())
    }

    fn length(&self, limits: &Limits) -> Result<Length, Fault> {
        let length = match (self.content_length, self.is_chunked) {
            (Some(_), true) => return Err(bad("Content-Length and Transfer-Encoding together")),
            (None, true) => Length::Chunked,
            (None, false) => Length::Known(0),
            (Some(digits), false) => Length::Known(content_length(digits)?),
        };
        match length {
            Length::Known(bytes) if bytes > limits.body_bytes_max => Err(BODY_TOO_LARGE),
            _ => Ok(length),
        }
    }
}

fn once<'a>(
    field: &mut Option<&'a [u8]>,
    value: &'a [u8],
    message: &'static str,
) -> Result<(), Fault> {
    if field.replace(value).is_some() { Err(bad(message)) } else { Ok(()) }
}

pub(super) fn content_length(digits: &[u8]) -> Result<u64, Fault> {
    let all_digits = digits.iter().all(u8::is_ascii_digit);
    let number = str::from_utf8(digits).ok().filter(|_| all_digits).and_then(|it| it.parse().ok());
    number.ok_or(bad("Bad Content-Length"))
}

/// Method, target, and whether the version is 1.1 and not 1.0.
fn request_line_of(line: &[u8]) -> Result<(&[u8], &[u8], bool), Fault> {
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(bad("Bad request line"));
    };
    if method.is_empty() || !method.iter().copied().all(is_token) {
        return Err(bad("Bad method"));
    }
    if !is_target(target) {
        return Err(BAD_TARGET);
    }
    match version {
        b"HTTP/1.1" => Ok((method, target, true)),
        b"HTTP/1.0" => Ok((method, target, false)),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Fault::new(505, Rejection::BadHead, "The version is neither 1.1 nor 1.0"))
        }
        _ => Err(bad("Bad version")),
    }
}

/// Name, value without the white space around it, and what the bytes of the name are.
fn field_of(line: &[u8]) -> Result<(&[u8], &[u8], u8), Fault> {
    let colon = line.iter().position(|&it| it == b':').ok_or(bad("A header field without ':'"))?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    // Refuses folded lines as well: they begin with white space.
    let class = class(name);
    if name.is_empty() || class & NO_TOKEN != 0 {
        return Err(bad("Bad name of a header field"));
    }
    if !value.iter().copied().all(is_field_value) {
        return Err(bad("Bad value of a header field"));
    }
    Ok((name, value.trim_ascii(), class))
}

/// The authority of a target in absolute form.
fn authority_of<'a>(method: &[u8], target: &'a [u8]) -> Result<Option<&'a [u8]>, Fault> {
    if matches!(method, b"CONNECT" | b"TRACE") {
        return Err(NOT_ALLOWED);
    }
    if target.starts_with(b"/") {
        return Ok(None);
    }
    if method == b"OPTIONS" && target == b"*" {
        return Err(NOT_IMPLEMENTED);
    }
    match target.split_at_checked(b"http://".len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"http://") => {
            let end = rest.iter().position(|it| matches!(it, b'/' | b'?')).unwrap_or(rest.len());
            Ok(Some(&rest[..end]))
        }
        _ => Err(BAD_TARGET),
    }
}

/// What is to become of the offers in a head with `Upgrade`. One that is not honoured is ignored (RFC 9110 §7.8), whatever
/// the request is: only WebSocket is, where `Connection` announces it. Its bytes begin where the head ends, so that a body
/// would have two meanings.
fn offer_of(head: &[u8], length: Length, is_1_1: bool) -> Result<Offer, Fault> {
    let (mut fields, mut is_alone, mut is_web_socket, mut is_announced) = (0, false, false, false);
    let mut lines = Lines(head);
    lines.next()?;
    loop {
        let line = lines.next()?;
        if line.is_empty() {
            break;
        }
        let (name, value, _) = field_of(line)?;
        if name.eq_ignore_ascii_case(b"upgrade") {
            fields += 1;
            is_alone = value.eq_ignore_ascii_case(WEB_SOCKET);
            is_web_socket |= members(value).any(|it| it.eq_ignore_ascii_case(WEB_SOCKET));
        } else if name.eq_ignore_ascii_case(b"connection") {
            is_announced |= members(value).any(|it| it.eq_ignore_ascii_case(b"upgrade"));
        }
    }
    if !is_1_1 || !is_web_socket || !is_announced {
        return Ok(Offer::Dropped);
    }
    if length != Length::Known(0) {
        return Err(bad("A change of protocol together with a body"));
    }
    Ok(if is_alone && fields == 1 { Offer::AsItIs } else { Offer::WebSocket })
}

/// The members of a list (RFC 9110 §5.6.1). Commas in quotes, which no list here may have, separate, too.
fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&it| it == b',').map(<[u8]>::trim_ascii).filter(|it| !it.is_empty())
}

/// Writes the request line, with `/path?query` as its target, and `host` as a field if it is given.
fn write_request_line(
    to: &mut BytesMut,
    (method, target, authority): (&[u8], &[u8], Option<&[u8]>),
    is_1_1: bool,
    host: Option<&[u8]>,
) {
    let path = authority.map_or(target, |it| &target[b"http://".len() + it.len()..]);
    let slash: &[u8] = if path.starts_with(b"/") { b"" } else { b"/" };
    let version: &[u8] = if is_1_1 { b" HTTP/1.1\r\n" } else { b" HTTP/1.0\r\n" };
    write(to, &[method, b" ", slash, path, version]);
    if let Some(host) = host {
        write(to, &[b"Host: ", host, b"\r\n"]);
    }
}

/// Writes the fields of `head` as they are passed on, and the empty line.
fn write_fields(
    to: &mut BytesMut,
    head: &[u8],
    length: Length,
    offer: Offer,
    underscores: Underscores,
) -> Result<(), Fault> {
    let mut lines = Lines(head);
    lines.next()?;
    let mut connection = Vec::new();
    loop {
        let line = lines.next()?;
        if line.is_empty() {
            break;
        }
        let (name, value, class) = field_of(line)?;
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        if class & ODD != 0 && fate(name, underscores) == Fate::Dropped {
            continue;
        }
        match (length, offer) {
            (Length::Known(bytes), _) if is(b"content-length") => {
                write(to, &[name, b": ", bytes.to_string().as_bytes(), b"\r\n"]);
            }
            (_, Offer::WebSocket | Offer::Dropped) if is(b"upgrade") || is(b"http2-settings") => {}
            (_, Offer::WebSocket | Offer::Dropped) if is(b"connection") => {
                let is_offer = |it: &&[u8]| {
                    it.eq_ignore_ascii_case(b"upgrade")
                        || it.eq_ignore_ascii_case(b"http2-settings")
                };
                connection.extend(members(value).filter(|it| !is_offer(it)));
            }
            _ => write(to, &[line, b"\r\n"]),
        }
    }
    if offer == Offer::WebSocket {
        connection.push(b"upgrade");
        write(to, &[b"Upgrade: ", WEB_SOCKET, b"\r\n"]);
    }
    if !connection.is_empty() {
        write(to, &[b"Connection: ", &connection.join(&b", "[..]), b"\r\n"]);
    }
    to.extend_from_slice(b"\r\n");
    Ok(())
}

fn write(to: &mut BytesMut, parts: &[&[u8]]) {
    parts.iter().for_each(|it| to.extend_from_slice(it));
}

/// RFC 9110 §7.2, strictly: a name, an IPv4 address or a bracketed IPv6 address, and a port or none.
pub(super) fn is_host(value: &[u8]) -> bool {
    let (host, port) = match value.iter().rposition(|&it| it == b':') {
        Some(colon) if value.last() != Some(&b']') => (&value[..colon], &value[colon + 1..]),
        Some(_) | None => (value, &b""[..]),
    };
    let well_formed = match host {
        [b'[', inside @ .., b']'] => {
            str::from_utf8(inside).is_ok_and(|it| it.parse::<Ipv6Addr>().is_ok())
        }
        _ => host.iter().all(|it| it.is_ascii_alphanumeric() || b"-._~".contains(it)),
    };
    !host.is_empty() && well_formed && port.len() <= 5 && port.iter().all(u8::is_ascii_digit)
}

/// Fragments are never sent, and what is not visible ASCII must be escaped.
pub(super) fn is_target(target: &[u8]) -> bool {
    !target.is_empty() && target.iter().all(|&it| it.is_ascii_graphic() && it != b'#')
}

pub(super) const fn bad(message: &'static str) -> Fault {
    Fault::new(400, Rejection::BadHead, message)
}

#[cfg(test)]
mod tests {
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
            // An offer that `Connection` does not announce was meant for somebody else.
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
            "", ":80", "a b", "a/b", "a?b", "a#b", "a@b", "a:b", "a:1:2", "a:123456", "[::1",
            "[x]", "a,b",
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
}
