//! Heads of requests (RFC 9112 §3 and §5, RFC 9110 §7.2).

use std::{net::Ipv6Addr, str};

use bytes::{Buf, BytesMut};

use super::{
    Fault, Length, NO_TOKEN, ODD, class, is_field_value, is_token,
    names::{Fate, fate, is_claim},
    rewrite::{self, Offer},
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
    let offer = if fields.has_upgrade { Offer::of(head, length, is_1_1)? } else { Offer::AsItIs };
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
        rewrite::request_line(to, (method, target, authority), is_1_1, host);
        rewrite::fields(to, head, length, offer, limits.underscores)?;
    }
    Ok(Head { length, has_claims: fields.has_claims, rewritten })
}

/// The rest of a head, line by line.
pub(super) struct Lines<'a>(pub(super) &'a [u8]);

impl<'a> Lines<'a> {
    /// The next line, without its CR LF.
    pub(super) fn next(&mut self) -> Result<&'a [u8], Fault> {
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
pub(super) fn field_of(line: &[u8]) -> Result<(&[u8], &[u8], u8), Fault> {
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
mod tests;
