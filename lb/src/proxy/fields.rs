//! Heads with one map of fields. Pingora reads them into two: the other one keeps how each name was spelt, which means
//! nothing (RFC 9110 §5.1), and costs as much again wherever a head is copied, changed or written.

use std::mem::replace;

use http::{HeaderMap, Request, Response, request, response};
use pingora::{
    Result,
    http::{RequestHeader, ResponseHeader},
};

/// Changes the fields of a request, which has one map of them from here on.
///
/// Its target must be one that the strict reader passes on, in origin form and of visible ASCII: only these does
/// [`http::Uri`] give back byte for byte.
pub(super) fn of_request<T>(
    head: &mut RequestHeader,
    change: impl FnOnce(&mut HeaderMap) -> T,
) -> T {
    let empty = Request::new(()).into_parts().0;
    let mut parts = request::Parts::from(replace(head, empty.into()));
    let changed = change(&mut parts.headers);
    *head = parts.into();
    changed
}

/// Changes the fields of an answer, which has one map of them from here on.
pub(super) fn of_response(
    head: &mut ResponseHeader,
    change: impl FnOnce(&mut HeaderMap),
) -> Result<()> {
    let usual = head.status.canonical_reason();
    let reason = head.get_reason_phrase().filter(|it| Some(*it) != usual).map(str::to_owned);
    let empty = Response::new(()).into_parts().0;
    let mut parts = response::Parts::from(replace(head, empty.into()));
    change(&mut parts.headers);
    *head = parts.into();
    reason.map_or(Ok(()), |it| head.set_reason_phrase(Some(&it)))
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Version};

    use super::*;

    #[test]
    fn a_request_stays_as_it_was_but_for_the_spelling() {
        for target in ["/", "/a/b?c=d&e", "/%7e/..//\"{}|^?`", "/?"] {
            let mut head = RequestHeader::build("PUT", target.as_bytes(), None).unwrap();
            head.set_version(Version::HTTP_10);
            head.append_header("X-Twice", "1").unwrap();
            head.append_header("x-tWICE", "2").unwrap();
            of_request(&mut head, |fields| fields.insert("x-more", HeaderValue::from_static("3")));
            assert_eq!((head.method.as_str(), head.version), ("PUT", Version::HTTP_10));
            assert_eq!(head.raw_path(), target.as_bytes());
            let mut written = Vec::new();
            head.header_to_h1_wire(&mut written);
            assert_eq!(written, b"x-twice: 1\r\nx-twice: 2\r\nx-more: 3\r\n");
        }
    }

    #[test]
    fn an_answer_keeps_its_reason() {
        for (status, reason) in [
            (200, Some("OK")),
            (200, Some("Fine")),
            (404, Some("")),
            (299, Some("Odd")),
            (299, None),
        ] {
            let mut head = ResponseHeader::build(status, None).unwrap();
            head.set_reason_phrase(reason).unwrap();
            head.set_version(Version::HTTP_10);
            head.append_header("X-One", "1").unwrap();
            of_response(&mut head, |_| ()).unwrap();
            assert_eq!((head.status.as_u16(), head.get_reason_phrase()), (status, reason));
            assert_eq!(head.version, Version::HTTP_10);
            let mut written = Vec::new();
            head.header_to_h1_wire(&mut written);
            assert_eq!(written, b"x-one: 1\r\n");
        }
    }
}
