//! What is added to and taken from heads on their way through: `X-Forwarded-*`, `Via`, hop-by-hop fields.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use pingora::{
    ErrorType, OrErr, Result,
    http::{RequestHeader, ResponseHeader},
};

use super::{fields, framing::is_claim};

pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const X_RINGMASTER: HeaderName = HeaderName::from_static("x-ringmaster");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Fields that a request gets on its way: those above but one, `Via`, and `Host` if it has none.
const ADDED: usize = 6;

/// What `Via` says of a request that came in this version (RFC 9110 §7.6.3).
const fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_2 => "2 ringmaster",
        Version::HTTP_10 => "1.0 ringmaster",
        _ => "1.1 ringmaster",
    })
}

/// Fields that mean something between a replica and us only (RFC 9110 §7.6.1). Pingora sees to those of requests,
/// and to `Connection`, `Transfer-Encoding` and `Upgrade` of answers.
const HOP_BY_HOP: [HeaderName; 4] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
];

/// The host that a request is for, without the port and without the dot of the root; empty if it says none.
pub(super) fn host(request: &RequestHeader) -> &str {
    let value = request.headers.get(header::HOST).and_then(|it| it.to_str().ok()).unwrap_or("");
    let host = match value.rfind(':') {
        Some(colon) if !value.ends_with(']') => &value[..colon],
        Some(_) | None => value,
    };
    host.strip_suffix('.').unwrap_or(host)
}

/// What a request takes up while it waits, in bytes: its head, and what Pingora keeps of its body to send it again.
pub(super) fn weight(request: &RequestHeader) -> u32 {
    const BODY_BYTES_KEPT: u64 = 64 << 10;
    let fields: usize =
        request.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let length = request.headers.get(header::CONTENT_LENGTH).and_then(|it| it.to_str().ok());
    let body = match length.map(|it| it.parse().unwrap_or(BODY_BYTES_KEPT)) {
        Some(length) => length.min(BODY_BYTES_KEPT),
        None if request.headers.contains_key(header::TRANSFER_ENCODING) => BODY_BYTES_KEPT,
        None => 0,
    };
    u32::try_from((request.raw_path().len() + fields) as u64 + body).unwrap_or(u32::MAX)
}

/// The client that a request comes from: the connection's other end, or what the trusted proxies between say. A hop that
/// is no address ends the walk, at the proxy that vouched for it.
pub(super) fn client(
    request: &RequestHeader,
    peer: Option<IpAddr>,
    trusted: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    let mut client = peer?;
    let mut hops = forwarded_for(&request.headers).rev();
    // From the nearest hop outwards: each is believed because a trusted one vouches for it.
    while trusted(client) {
        match hops.next() {
            Some(Some(hop)) => client = hop,
            Some(None) | None => break,
        }
    }
    Some(client)
}

fn forwarded_for(headers: &HeaderMap) -> impl DoubleEndedIterator<Item = Option<IpAddr>> {
    headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .map(|value| value.to_str().unwrap_or(""))
        .flat_map(|value| value.split(','))
        .map(|hop| hop_addr(hop.trim()))
}

/// The address of a hop, as proxies write it: also with a port, in brackets, or in quotes as in `Forwarded` (RFC 7239 §6).
fn hop_addr(hop: &str) -> Option<IpAddr> {
    let hop = hop.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or(hop);
    let addr = if let Ok(addr) = hop.parse::<IpAddr>() {
        addr
    } else if let Ok(addr) = hop.parse::<SocketAddr>() {
        addr.ip()
    } else {
        hop.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?.into()
    };
    Some(addr.to_canonical())
}

/// Takes what a client that is not trusted says about where its request came from.
pub(super) fn remove_claims(sent: &mut HeaderMap) {
    let claims = sent.keys().filter(|it| is_claim(it.as_str().as_bytes())).cloned();
    for name in claims.collect::<Vec<_>>() {
        sent.remove(name);
    }
}

/// Tells the replica who asked, and for what. Only a trusted proxy's own words are kept.
pub(super) fn request(
    sent: &mut HeaderMap,
    peer: Option<IpAddr>,
    trusted: bool,
    came_in: Version,
    is_secure: bool,
) -> Result<()> {
    // The map of a head that was copied is full.
    sent.reserve(ADDED);
    if let Some(peer) = peer {
        let hops = match trusted.then(|| joined(sent, &X_FORWARDED_FOR)).flatten() {
            Some(hops) => format!("{hops}, {peer}").try_into(),
            None => text(peer).try_into(),
        };
        sent.insert(X_FORWARDED_FOR, hops.or_err(ErrorType::InvalidHTTPHeader, "a bad hop")?);
    }
    if !trusted || !sent.contains_key(&X_FORWARDED_PROTO) {
        let proto = if is_secure { "https" } else { "http" };
        sent.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
    }
    if !trusted || !sent.contains_key(&X_FORWARDED_HOST) {
        match sent.get(header::HOST).cloned() {
            Some(host) => drop(sent.insert(X_FORWARDED_HOST, host)),
            None => drop(sent.remove(&X_FORWARDED_HOST)),
        }
    }
    sent.append(header::VIA, via(came_in));
    Ok(())
}

/// Makes a request of HTTP/1.0 one of HTTP/1.1, as which it is passed on: with a host, and without what it did not mean.
pub(super) fn as_1_1(sent: &mut HeaderMap, replica: SocketAddr) -> Result<()> {
    if !sent.contains_key(header::HOST) {
        let host = HeaderValue::try_from(replica.to_string());
        sent.insert(header::HOST, host.or_err(ErrorType::InvalidHTTPHeader, "a bad address")?);
    }
    sent.remove(header::EXPECT);
    Ok(())
}

fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<&str> =
        headers.get_all(name).iter().filter_map(|it| it.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// Whether an answer says how long it is at most once, and without doubt (RFC 9112 §6.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AnswerLength {
    Doubtful,
    Plain,
    /// With zeros before it, which some would read as an octal number; and without them.
    Padded(HeaderValue),
}

/// Looks at each field once: this is done for every answer.
pub(super) fn answer_length(response: &ResponseHeader) -> AnswerLength {
    let only = |name| {
        let mut values = response.headers.get_all(name).iter().map(HeaderValue::as_bytes);
        (values.next(), values.next().is_none())
    };
    match (only(header::CONTENT_LENGTH), only(header::TRANSFER_ENCODING)) {
        ((None, _), (None, _)) => AnswerLength::Plain,
        ((Some(length), true), (None, _)) => number(length),
        ((None, _), (Some(coding), true))
            if coding.eq_ignore_ascii_case(b"chunked") && response.version == Version::HTTP_11 =>
        {
            AnswerLength::Plain
        }
        _ => AnswerLength::Doubtful,
    }
}

fn number(length: &[u8]) -> AnswerLength {
    match length {
        [] => AnswerLength::Doubtful,
        _ if length.len() > 19 || !length.iter().all(u8::is_ascii_digit) => AnswerLength::Doubtful,
        [b'0', rest @ .., last] => {
            let zeros = 1 + rest.iter().take_while(|it| **it == b'0').count();
            let length = [&length[zeros..length.len() - 1], &[*last]].concat();
            HeaderValue::from_bytes(&length).map_or(AnswerLength::Doubtful, AnswerLength::Padded)
        }
        _ => AnswerLength::Plain,
    }
}

/// Tells the replica the request's id, unless exactly this id came with it: to write a field again costs as much as a new one.
pub(super) fn request_id(sent: &mut HeaderMap, id: &HeaderValue) {
    let mut brought = sent.get_all(X_REQUEST_ID).iter();
    match (brought.next(), brought.next()) {
        (Some(brought), None) if brought == id => {}
        _ => drop(sent.insert(X_REQUEST_ID, id.clone())),
    }
}

/// As `Display` has it, for a tenth of its cost with IPv4.
fn text(addr: IpAddr) -> String {
    let IpAddr::V4(addr) = addr else { return addr.to_string() };
    let mut text = String::with_capacity("255.255.255.255".len());
    for (index, octet) in addr.octets().into_iter().enumerate() {
        if index > 0 {
            text.push('.');
        }
        for (least, digit) in [(100, octet / 100), (10, octet / 10 % 10), (0, octet % 10)] {
            if octet >= least {
                text.push(char::from(b'0' + digit));
            }
        }
    }
    text
}

/// Takes from an answer what was meant for us alone. `Via` is not added: towards clients it is optional (RFC 9110 §7.6.3),
/// and a field more makes the map of every answer grow.
pub(super) fn response(response: &mut ResponseHeader) -> Result<()> {
    let nominated: Vec<HeaderName> = response
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        // Nearly always one of these: the first goes anyway, and there is no field of the other's name.
        .filter(|name| !["keep-alive", "close"].iter().any(|it| name.eq_ignore_ascii_case(it)))
        .filter_map(|name| name.parse().ok())
        // Named by a switch of protocols, which the client must see; the others are Pingora's to write.
        .filter(|name| {
            ![header::UPGRADE, header::CONNECTION, header::CONTENT_LENGTH].contains(name)
        })
        .collect();
    // Said by an answer that switches, or that demands it.
    let says_upgrade =
        matches!(response.status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED);
    fields::of_response(response, |sent| {
        for name in nominated.iter().chain(&HOP_BY_HOP) {
            sent.remove(name);
        }
        if !says_upgrade {
            sent.remove(header::UPGRADE);
        }
    })?;
    // Ours, not the replica's (RFC 9110 §2.5).
    response.set_version(Version::HTTP_11);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn get(forwarded: &[&'static str]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for value in forwarded {
            request.append_header(X_FORWARDED_FOR, *value).unwrap();
        }
        request
    }

    #[test]
    fn the_host_comes_without_its_port() {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for (value, expected) in [
            ("a:80", "a"),
            ("a", "a"),
            ("a:", "a"),
            ("a.example.", "a.example"),
            ("a.example.:80", "a.example"),
            ("a.example.:", "a.example"),
            ("a..", "a."),
            ("[::1]:80", "[::1]"),
            ("[::1]:", "[::1]"),
            ("[::1]", "[::1]"),
        ] {
            request.insert_header(header::HOST, value).unwrap();
            assert_eq!(host(&request), expected);
        }
    }

    #[test]
    fn the_client_is_the_first_hop_that_nobody_trusted_vouches_beyond() {
        let trusted = |addr: IpAddr| addr.to_string().starts_with("10.");
        for (peer, forwarded, expected) in [
            ("1.1.1.1", &["9.9.9.9"][..], "1.1.1.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["9.9.9.9"], "9.9.9.9"),
            ("10.0.0.1", &["6.6.6.6, 9.9.9.9"], "9.9.9.9"),
            ("10.0.0.1", &["9.9.9.9, 10.0.0.2"], "9.9.9.9"),
            ("10.0.0.1", &["9.9.9.9", "10.0.0.2"], "9.9.9.9"),
            ("10.0.0.1", &["junk, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["9.9.9.9:51234"], "9.9.9.9"),
            ("10.0.0.1", &["9.9.9.9:51234, 10.0.0.2:80"], "9.9.9.9"),
            ("10.0.0.1", &["2001:db8::7"], "2001:db8::7"),
            ("10.0.0.1", &["[2001:db8::7]"], "2001:db8::7"),
            ("10.0.0.1", &["[2001:DB8::7]:51234"], "2001:db8::7"),
            ("10.0.0.1", &["\"[2001:db8::7]:51234\""], "2001:db8::7"),
            ("10.0.0.1", &["\"9.9.9.9\""], "9.9.9.9"),
            ("10.0.0.1", &["::ffff:9.9.9.9"], "9.9.9.9"),
            ("10.0.0.1", &["8.8.8.8, ::ffff:10.0.0.2"], "8.8.8.8"),
            ("10.0.0.1", &["9.9.9.9:"], "10.0.0.1"),
            ("10.0.0.1", &["9.9.9.9:123456"], "10.0.0.1"),
            ("10.0.0.1", &["[9.9.9.9]"], "10.0.0.1"),
            ("10.0.0.1", &["9.9.9.9.\""], "10.0.0.1"),
            ("10.0.0.1", &["unknown"], "10.0.0.1"),
            ("10.0.0.1", &["8.8.8.8, "], "10.0.0.1"),
        ] {
            let found = client(&get(forwarded), Some(ip(peer)), trusted);
            assert_eq!(found, Some(ip(expected)), "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn a_stranger_s_forwarded_fields_are_replaced() {
        for (trusted, expected) in [(true, "9.9.9.9, 1.1.1.1"), (false, "1.1.1.1")] {
            let mut sent = get(&["9.9.9.9"]).headers.clone();
            request(&mut sent, Some(ip("1.1.1.1")), trusted, Version::HTTP_11, false).unwrap();
            assert_eq!(joined(&sent, &X_FORWARDED_FOR).as_deref(), Some(expected));
        }
    }

    #[test]
    fn claims_are_removed_and_nothing_else_is() {
        let mut sent = get(&["9.9.9.9", "8.8.8.8"]).headers.clone();
        for name in ["forwarded", "x-real-ip", "x-forwarded-port", "x-request-id", "x-kept"] {
            sent.append(name, HeaderValue::from_static("1"));
            sent.append(name, HeaderValue::from_static("2"));
        }
        remove_claims(&mut sent);
        let mut left: Vec<_> = sent.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["x-kept", "x-request-id"]);
    }

    #[test]
    fn the_length_of_an_answer_has_no_zeros_before_it() {
        for (length, expected) in
            [("010", "10"), ("00", "0"), ("0", "0"), ("10", "10"), ("0000000000000000005", "5")]
        {
            let mut answer = ResponseHeader::build(200, None).unwrap();
            answer.insert_header(header::CONTENT_LENGTH, length).unwrap();
            let expected = match length == expected {
                true => AnswerLength::Plain,
                false => AnswerLength::Padded(HeaderValue::from_static(expected)),
            };
            assert_eq!(answer_length(&answer), expected, "{length}");
        }
    }

    #[test]
    fn addresses_are_written_as_everywhere() {
        for octet in 0..=u8::MAX {
            let addr = IpAddr::from([octet, 0, 255 - octet, 10]);
            assert_eq!(text(addr), addr.to_string());
        }
        assert_eq!(text(ip("2001:db8::1")), "2001:db8::1");
    }

    #[test]
    fn a_request_has_one_id_afterwards() {
        let id = HeaderValue::from_static("order-7");
        for brought in [&[][..], &["order-7"], &["other"], &["order-7", "other"]] {
            let mut sent = HeaderMap::new();
            for value in brought {
                sent.append(X_REQUEST_ID, HeaderValue::from_static(value));
            }
            request_id(&mut sent, &id);
            let ids: Vec<_> = sent.get_all(X_REQUEST_ID).iter().collect();
            assert_eq!(ids, [&id], "{brought:?}");
        }
    }

    #[test]
    fn an_answer_loses_what_was_meant_for_the_next_hop() {
        let mut answer = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [
            ("connection", "x-secret, close"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("x-kept", "1"),
        ] {
            answer.insert_header(name, value).unwrap();
        }
        response(&mut answer).unwrap();
        for gone in ["x-secret", "keep-alive"] {
            assert!(!answer.headers.contains_key(gone), "{gone}");
        }
        assert!(answer.headers.contains_key("x-kept"));
    }
}
