//! What a request is placed by: the text of its key.

use std::{
    io::{Cursor, Write},
    net::IpAddr,
};

use http::{HeaderMap, header};
use pingora::http::RequestHeader;

use super::{forward::X_REQUEST_ID, ids::Ids};
use crate::config::KeySource;

/// Room for the longest text of an address, `ffff:…:ffff`, with a zone never written.
const ADDR_BYTES_MAX: usize = 45;

/// A key, borrowed from the request where it stands there: no allocation.
pub(super) enum KeyText<'a> {
    Sent(&'a [u8]),
    Addr([u8; ADDR_BYTES_MAX], usize),
    Drawn([u8; 6]),
}

impl<'a> KeyText<'a> {
    /// The key of a request; its id where it lacks what `source` names.
    pub(super) fn of(
        source: &KeySource,
        request: &'a RequestHeader,
        client: impl FnOnce() -> Option<IpAddr>,
        ids: &Ids,
    ) -> Self {
        let headers = &request.headers;
        let sent = match source {
            KeySource::RequestId => None,
            KeySource::ClientIp => {
                return client().map_or_else(|| Self::id(headers, ids), Self::addr);
            }
            KeySource::Path => Some(request.uri.path().as_bytes()),
            KeySource::Header(name) => headers.get(name).map(|it| it.as_bytes()),
            KeySource::Cookie(name) => cookie(headers, name.as_bytes()),
            KeySource::Query(name) => query(request.uri.query().unwrap_or(""), name),
        };
        sent.map_or_else(|| Self::id(headers, ids), Self::Sent)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sent(text) => text,
            Self::Addr(text, length) => &text[..*length],
            Self::Drawn(digits) => digits,
        }
    }

    fn id(headers: &'a HeaderMap, ids: &Ids) -> Self {
        match headers.get(X_REQUEST_ID) {
            Some(id) => Self::Sent(id.as_bytes()),
            None => Self::Drawn(ids.six_digits()),
        }
    }

    /// As text, so that `explain?key=192.0.2.1` speaks of the same key.
    fn addr(addr: IpAddr) -> Self {
        let mut text = [0; ADDR_BYTES_MAX];
        let mut cursor = Cursor::new(&mut text[..]);
        // Cannot fail: the room is that of the longest text.
        let _ = write!(cursor, "{addr}");
        let length = cursor.position() as usize;
        Self::Addr(text, length)
    }
}

fn cookie<'a>(headers: &'a HeaderMap, name: &[u8]) -> Option<&'a [u8]> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&it| it == b';'))
        .find_map(|pair| pair.trim_ascii().strip_prefix(name)?.strip_prefix(b"="))
}

/// The value as sent, without decoding: equal requests are equal byte by byte.
fn query<'a>(query: &'a str, name: &str) -> Option<&'a [u8]> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_finds_its_text() {
        let mut request = RequestHeader::build("GET", b"/a/b?u=1&user=alice", None).unwrap();
        request.insert_header("cookie", "x=1; sid=s7 ; sidecar=2").unwrap();
        request.insert_header("x-user", "bob").unwrap();
        request.insert_header("x-request-id", "id-9").unwrap();
        let ids = Ids::new(1);
        for (source, expected) in [
            (KeySource::RequestId, "id-9"),
            (KeySource::ClientIp, "2001:db8::1"),
            (KeySource::Path, "/a/b"),
            (KeySource::Header("x-user".parse().unwrap()), "bob"),
            (KeySource::Header("x-none".parse().unwrap()), "id-9"),
            (KeySource::Cookie("sid".into()), "s7"),
            (KeySource::Cookie("none".into()), "id-9"),
            (KeySource::Query("user".into()), "alice"),
            (KeySource::Query("us".into()), "id-9"),
        ] {
            let client = || Some("2001:db8::1".parse().unwrap());
            let key = KeyText::of(&source, &request, client, &ids);
            assert_eq!(std::str::from_utf8(key.as_bytes()), Ok(expected), "{source:?}");
        }
    }

    #[test]
    fn the_longest_address_fits() {
        let longest: IpAddr = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap();
        assert_eq!(KeyText::addr(longest).as_bytes(), longest.to_string().as_bytes());
    }
}
