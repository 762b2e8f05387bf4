//! The paths that the balancer answers itself on the proxy's own listener, by the operator's router.

use std::{net::IpAddr, time::Duration};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{Request, header};
use http_body_util::BodyExt;
use pingora::{Error, ErrorType, Result, http::ResponseHeader, proxy::Session};
use tower::ServiceExt;

use crate::admin::{BODY_BYTES_MAX, Caller, Door};

/// Answers a request for a reserved path.
pub(super) async fn answer(
    session: &mut Session,
    peer: Option<IpAddr>,
    router: &axum::Router,
    read_timeout: Duration,
) -> Result<()> {
    let Some(addr) = peer else {
        return Error::e_explain(ErrorType::HTTPStatus(403), "a caller without an address");
    };
    if session.req_header().headers.contains_key(header::EXPECT) {
        session.write_continue_response().await?;
    }
    let body = match tokio::time::timeout(read_timeout, read_body(session)).await {
        Ok(body) => body?,
        Err(_) => return Error::e_explain(ErrorType::HTTPStatus(408), "the body came too slowly"),
    };
    let received = session.req_header();
    let mut request = Request::new(Body::from(body));
    *request.method_mut() = received.method.clone();
    *request.uri_mut() = received.uri.clone();
    *request.headers_mut() = received.headers.clone();
    request.extensions_mut().insert(Caller { addr, door: Door::Proxy });
    let Ok(response) = router.clone().oneshot(request).await;
    write(session, response).await
}

/// At most one byte more than the router accepts, so that it is the one to refuse.
async fn read_body(session: &mut Session) -> Result<Bytes> {
    let mut body = BytesMut::new();
    while let Some(chunk) = session.read_request_body().await? {
        let room = BODY_BYTES_MAX + 1 - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() > BODY_BYTES_MAX {
            break;
        }
    }
    Ok(body.freeze())
}

async fn write(session: &mut Session, response: axum::response::Response) -> Result<()> {
    let (parts, body) = response.into_parts();
    let Ok(body) = body.collect().await.map(|it| it.to_bytes()) else {
        return Error::e_explain(ErrorType::HTTPStatus(502), "the answer broke off");
    };
    let mut header = ResponseHeader::build(parts.status, Some(parts.headers.len() + 1))?;
    for (name, value) in &parts.headers {
        header.append_header(name.clone(), value.clone())?;
    }
    if !parts.headers.contains_key(header::CONTENT_LENGTH) {
        header.insert_header(header::CONTENT_LENGTH, body.len())?;
    }
    session.write_response_header(Box::new(header), body.is_empty()).await?;
    if !body.is_empty() {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}
