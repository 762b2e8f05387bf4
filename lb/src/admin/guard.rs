//! [`guard`]: what every request passes before a handler sees it.
//!
//! In this order: who calls ([`Caller`], never from a header), by which name (against DNS rebinding), with
//! which right ([`Access`]), and, where something may change, whether a foreign page made the request.
//!
//! `/healthz` and `/readyz` answer whoever can reach the admin listener: probes carry neither tokens nor a
//! `Host` of ours, and learn nothing but the names of pools.

use super::{
    AdminState,
    access::{Access, Operator, Role},
    audit::Entry,
    browser::{content_type_is_acceptable, host_is_acceptable, origin_is_ours},
    refusal::{Code, Dialect, Refusal},
};
use axum::{
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, header},
    middleware::Next,
    response::Response,
};
use std::net::IpAddr;
use tracing::debug;

/// On every answer: none may be kept, taken for another type, or become part of a page.
const SECURITY_HEADERS: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Who sent a request, as the TCP connection tells; an extension of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) addr: IpAddr,
    pub(crate) door: Door,
}

/// Through which listener a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Admin,
    Proxy,
}

/// Lets a request through to its handler, or refuses it.
pub(super) async fn guard(
    State(state): State<AdminState>,
    mut request: Request,
    next: Next,
) -> Response {
    let dialect = Dialect::of(request.uri().path());
    let mut response = match admit(&state.rules.load().access, &request) {
        Ok(Admitted::Reader) => next.run(request).await,
        Ok(Admitted::Changer(caller, operator)) => {
            let entry = Entry::open(caller, operator, request.method(), request.uri());
            request.extensions_mut().insert(entry.note());
            let response = next.run(request).await;
            entry.close(response.status());
            response
        }
        Err(refusal) => {
            // Not louder: whoever reaches the proxy's listener could fill the log.
            debug!(target: "ringmaster::audit", caller = ?request.extensions().get::<Caller>(),
                method = %request.method(), uri = %request.uri(), ?refusal, "A caller was refused");
            refusal.render(dialect)
        }
    };
    for (name, value) in SECURITY_HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whom the guard lets through.
enum Admitted {
    /// It can change nothing.
    Reader,
    Changer(Caller, Operator),
}

/// Everything but reading; a method that nobody serves counts as a change, too.
fn changes(method: &Method) -> bool {
    method != Method::GET && method != Method::HEAD
}

fn admit(access: &Access, request: &Request) -> Result<Admitted, Refusal> {
    let forbidden = |message: &str| Refusal::new(Code::Forbidden, message);
    let caller: Caller = *request
        .extensions()
        .get()
        .ok_or_else(|| forbidden("the caller's address is not known"))?;
    let changes = changes(request.method());

    match caller.door {
        Door::Admin if !changes && matches!(request.uri().path(), "/healthz" | "/readyz") => {
            return Ok(Admitted::Reader);
        }
        Door::Admin if !host_is_acceptable(request) => {
            return Err(forbidden("the Host is foreign: use an IP address or localhost"));
        }
        Door::Admin | Door::Proxy => {}
    }

    let authorization = request.headers().get(header::AUTHORIZATION);
    let operator = access.operator(caller.addr, authorization)?;
    if !changes {
        return Ok(Admitted::Reader);
    }
    match operator.role {
        Role::Admin => {}
        Role::Read => return Err(forbidden("the token's role is read: it may only GET")),
    }
    if !origin_is_ours(request) {
        return Err(forbidden(
            "the Origin is foreign: a page of another site may not ask for changes",
        ));
    }
    if !content_type_is_acceptable(request) {
        return Err(Refusal::bad_request(
            "Invalid payload format: Content-Type must be application/json",
        ));
    }
    Ok(Admitted::Changer(caller, operator))
}
