//! What a browser may be made to do by a page of another site: the checks against it.

use super::refusal::Dialect;
use axum::{
    extract::Request,
    http::{header, uri::Authority},
};
use std::net::IpAddr;

/// The name by which the request calls us: `HOST[:PORT]`.
fn host(request: &Request) -> Option<Authority> {
    match request.headers().get(header::HOST) {
        Some(host) => Authority::try_from(host.as_bytes()).ok(),
        None => request.uri().authority().cloned(),
    }
}

/// Whether no foreign site can own the name by which we are called: an IP literal or `localhost`.
///
/// A page whose own name was made to point at us (DNS rebinding) calls us by that name. Who sends none is no
/// browser.
pub(super) fn host_is_acceptable(request: &Request) -> bool {
    match host(request) {
        Some(authority) => {
            let host = authority.host();
            let host = host.strip_suffix('.').unwrap_or(host);
            let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            literal.unwrap_or(host).parse::<IpAddr>().is_ok()
                || host.eq_ignore_ascii_case("localhost")
        }
        None => !request.headers().contains_key(header::HOST),
    }
}

/// Whether no page made the request, or one that we served ourselves under a name that is ours.
pub(super) fn origin_is_ours(request: &Request) -> bool {
    let Some(origin) = request.headers().get(header::ORIGIN) else {
        return true;
    };
    let origin = origin.as_bytes();
    let authority =
        [b"http://".as_slice(), b"https://"].iter().find_map(|scheme| origin.strip_prefix(*scheme));
    match (authority, host(request)) {
        (Some(authority), Some(host)) => {
            host.as_str().as_bytes().eq_ignore_ascii_case(authority) && host_is_acceptable(request)
        }
        _ => false,
    }
}

/// Whether a page could not have sent the body without asking first (`application/json` needs a preflight),
/// or a client of the classic endpoints may send it.
pub(super) fn content_type_is_acceptable(request: &Request) -> bool {
    let Some(content_type) = request.headers().get(header::CONTENT_TYPE) else {
        return true;
    };
    let essence = content_type.as_bytes().split(|&byte| byte == b';').next();
    let essence = essence.unwrap_or_default().trim_ascii();
    let is = |known: &[u8]| essence.eq_ignore_ascii_case(known);
    match Dialect::of(request.uri().path()) {
        Dialect::Classic => is(b"application/json") || is(b"application/x-www-form-urlencoded"),
        Dialect::V1 => is(b"application/json"),
    }
}
