//! Heads of HTTP/2 requests (RFC 9113 §8.3), said as HTTP/1.1 would say them.

use http::{HeaderName, HeaderValue, Method, header};
use pingora::http::RequestHeader;

use super::{
    Fault, Limits, ODD, class,
    head::{
        BAD_TARGET, BODY_TOO_LARGE, NOT_ALLOWED, NOT_IMPLEMENTED, TOO_MANY_FIELDS, UNDERSCORE,
        UNKNOWN_EXPECTATION, URI_TOO_LONG, bad, content_length, is_host, is_target,
    },
    names::{Fate, fate, is_claim},
    via,
};
use crate::config::Underscores;

/// Holds a head to the rules for HTTP/1.1, and gives it the fields that it would have there: the authority as `Host`,
/// and one `Cookie` of several (§8.2.3). `Expect` goes: its answer cannot be sent here, and no client waits for it. So do
/// fields that may be taken for others. Returns whether any field is a claim ([`is_claim`]).
///
/// What HTTP/2 itself forbids, such as fields of the connection, bad names, or a body that is not as long as it says,
/// has not come this far.
pub(in super::super) fn read(request: &mut RequestHeader, limits: &Limits) -> Result<bool, Fault> {
    check_target(request, limits)?;
    if let Some(length) = check_fields(request, limits)? {
        set(request, header::CONTENT_LENGTH, length.into())?;
    }
    let has_claims = take_names(request, limits.underscores)?;
    let host = match request.uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => request.headers.get(header::HOST).cloned(),
    };
    let host = host.filter(|it| is_host(it.as_bytes())).ok_or(bad("Bad authority"))?;
    set(request, header::HOST, host)?;
    let mut cookies = request.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    if let (Some(first), Some(second)) = (cookies.next(), cookies.next()) {
        let all: Vec<&[u8]> = [first, second].into_iter().chain(cookies).collect();
        let all = HeaderValue::from_bytes(&all.join(&b"; "[..]));
        set(request, header::COOKIE, all.map_err(|_| bad("Bad Cookie"))?)?;
    }
    request.remove_header(&header::EXPECT);
    Ok(has_claims)
}

fn check_target(request: &RequestHeader, limits: &Limits) -> Result<(), Fault> {
    let target = request.raw_path();
    match request.method {
        Method::CONNECT | Method::TRACE => Err(NOT_ALLOWED),
        Method::OPTIONS if target == b"*" => Err(NOT_IMPLEMENTED),
        _ if target.len() > limits.uri_bytes_max => Err(URI_TOO_LONG),
        _ if !target.starts_with(b"/") || !is_target(target) => Err(BAD_TARGET),
        _ => Ok(()),
    }
}

/// The length to write in place of one that has zeros before it.
fn check_fields(request: &RequestHeader, limits: &Limits) -> Result<Option<u64>, Fault> {
    let fields = &request.headers;
    if fields.len() > limits.headers_max {
        return Err(TOO_MANY_FIELDS);
    }
    // Around a value there is white space in HTTP/1.1, within it there is none that others would not cut off.
    let is_trimmed = |it: &HeaderValue| it.as_bytes().trim_ascii().len() == it.len();
    if !fields.values().all(is_trimmed) {
        return Err(bad("White space around the value of a header field"));
    }
    let mut expected = fields.get_all(header::EXPECT).iter();
    if !expected.all(|it| it.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(UNKNOWN_EXPECTATION);
    }
    fields
        .get_all(header::VIA)
        .iter()
        .try_fold(0, |passed, it| via::count(passed, it.as_bytes()))?;
    let mut lengths = fields.get_all(header::CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(None),
        (Some(digits), None) => match content_length(digits.as_bytes())? {
            length if length > limits.body_bytes_max => Err(BODY_TOO_LARGE),
            length => Ok((digits.len() > 1 && digits.as_bytes()[0] == b'0').then_some(length)),
        },
        (Some(_), Some(_)) => Err(bad("More than one Content-Length")),
    }
}

/// Drops fields that may be taken for others. Whether one of those left is a claim.
fn take_names(request: &mut RequestHeader, underscores: Underscores) -> Result<bool, Fault> {
    let (mut has_claims, mut dropped) = (false, Vec::<HeaderName>::new());
    for name in request.headers.keys() {
        let text = name.as_str().as_bytes();
        has_claims |= is_claim(text);
        if class(text) & ODD != 0 {
            match fate(text, underscores) {
                Fate::Passed => {}
                Fate::Dropped => dropped.push(name.clone()),
                Fate::Refused => return Err(UNDERSCORE),
            }
        }
    }
    for name in &dropped {
        request.remove_header(name);
    }
    Ok(has_claims)
}

fn set(
    request: &mut RequestHeader,
    name: header::HeaderName,
    value: HeaderValue,
) -> Result<(), Fault> {
    request.insert_header(name, value).map_err(|_| bad("Too many header fields"))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const LIMITS: Limits = Limits {
        uri_bytes_max: 20,
        headers_max: 4,
        body_bytes_max: 100,
        underscores: Underscores::Drop,
    };

    /// A request for `uri` with these fields, read.
    fn read_as(
        method: &str,
        uri: &str,
        fields: &[(&str, &str)],
    ) -> Result<Vec<(String, String)>, u16> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let mut request = RequestHeader::from(request.body(()).unwrap().into_parts().0);
        read(&mut request, &LIMITS).map_err(|fault| fault.status)?;
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        Ok(request.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect())
    }

    fn status(method: &str, uri: &str, fields: &[(&str, &str)]) -> u16 {
        read_as(method, uri, fields).err().unwrap_or(200)
    }

    #[test]
    fn the_rules_are_those_of_http_1_1() {
        let fields = |count: usize| vec![("x", "y"); count];
        for (expected, method, uri, fields) in [
            (200, "GET", "https://a/", vec![]),
            (200, "GET", "https://a:8443/?q", vec![("host", "a:8443")]),
            (200, "POST", "https://a/", vec![("content-length", "100")]),
            (200, "POST", "https://a/", vec![("expect", "100-continue")]),
            (405, "TRACE", "https://a/", vec![]),
            (405, "CONNECT", "a:443", vec![]),
            (501, "OPTIONS", "*", vec![("host", "a")]),
            (414, "GET", "https://a/a-path-of-22-characters", vec![]),
            (431, "GET", "https://a/", fields(5)),
            (400, "GET", "https://a@b/", vec![]),
            (400, "GET", "/", vec![]),
            (400, "GET", "/", vec![("host", "a b")]),
            (400, "GET", "https://a/", vec![("x", " y")]),
            (417, "POST", "https://a/", vec![("expect", "200-ok")]),
            (413, "POST", "https://a/", vec![("content-length", "101")]),
            (400, "POST", "https://a/", vec![("content-length", "1"), ("content-length", "1")]),
            (400, "POST", "https://a/", vec![("content-length", "+1")]),
            (200, "GET", "https://a/", vec![("via", "1.1 ringmaster, 2 ringmaster, 1.1 other")]),
            (508, "GET", "https://a/", vec![("via", "1.1 ringmaster, 2 ringmaster"); 3]),
        ] {
            assert_eq!(status(method, uri, &fields), expected, "{method} {uri} {fields:?}");
        }
    }

    #[test]
    fn the_fields_are_those_of_http_1_1() {
        let fields =
            [("cookie", "a=1"), ("expect", "100-continue"), ("cookie", "b=2"), ("cookie", "c=3")];
        let read = read_as("POST", "https://A.example:1/", &fields).unwrap();
        let expected = [("cookie", "a=1; b=2; c=3"), ("host", "A.example:1")];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let authority = read_as("GET", "https://a/", &[("host", "b")]).unwrap();
        assert_eq!(authority, [("host".to_owned(), "a".to_owned())]);
    }

    #[test]
    fn lengths_and_names_are_passed_on_in_one_spelling() {
        let fields =
            [("content-length", "010"), ("x_real_ip", "1"), ("x_user", "2"), ("x.user", "3")];
        let read = read_as("POST", "https://a/", &fields).unwrap();
        let expected = [("content-length", "10"), ("host", "a"), ("x.user", "3")];
        let mut read: Vec<_> = read.iter().map(|(name, value)| (&**name, &**value)).collect();
        read.sort_unstable();
        assert_eq!(read, expected);
    }
}
