//! The balancer's own answers to requests that it could not pass on.

use std::io;

use bytes::Bytes;
use http::{Method, header};
use pingora::{Error, ErrorSource, ErrorType, Result, http::ResponseHeader, proxy::Session};

use super::framing::Fault;
use crate::metrics::Rejection;

/// What the client did wrong, if that is why the request failed.
pub(super) fn fault(error: &Error) -> Option<Fault> {
    if (error.etype(), error.esource()) == (&ErrorType::ReadTimedout, &ErrorSource::Downstream) {
        return Some(Fault::new(408, Rejection::BodyTimeout, "The body came too slowly"));
    }
    error.root_cause().downcast_ref::<io::Error>()?.get_ref()?.downcast_ref().copied()
}

/// Answers a failed request as far as that is still possible: the status, 0 when nobody can be answered any more.
pub(super) async fn failure(session: &mut Session, error: &Error, fault: Option<Fault>) -> u16 {
    if session.response_written().is_some() {
        return 0;
    }
    let status = fault.map_or_else(|| status_of(error), |it| it.status);
    if status == 0 {
        return 0;
    }
    let message = match (status, fault, error.context.as_ref()) {
        (_, Some(fault), _) => fault.message,
        (502, ..) => "Replica failed before it answered",
        (503, ..) => "No replica is available",
        (504, ..) => "Replica did not answer in time",
        (_, None, Some(context)) => context.as_str(),
        (_, None, None) => "Bad request",
    };
    // A client that cannot be written to is gone.
    match write(session, status, message).await {
        Ok(()) => status,
        Err(_) => 0,
    }
}

fn status_of(error: &Error) -> u16 {
    match (error.etype(), error.esource()) {
        (ErrorType::HTTPStatus(status), _) => *status,
        (ErrorType::ReadTimedout, ErrorSource::Upstream) => 504,
        (_, ErrorSource::Upstream) => 502,
        (
            ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed,
            ErrorSource::Downstream,
        ) => 0,
        (_, ErrorSource::Downstream) => 400,
        // Nothing of ours fails inside except on behalf of a replica.
        (_, ErrorSource::Internal | ErrorSource::Unset) => 502,
    }
}

async fn write(session: &mut Session, status: u16, message: &str) -> Result<()> {
    let body = body(message);
    let mut response = ResponseHeader::build(status, Some(4))?;
    response.insert_header(header::CONTENT_TYPE, "application/json")?;
    response.insert_header(header::CONTENT_LENGTH, body.len())?;
    if status == 503 {
        response.insert_header(header::RETRY_AFTER, "1")?;
    }
    session.set_keepalive(None);
    let has_body = session.req_header().method != Method::HEAD;
    session.write_response_header(Box::new(response), !has_body).await?;
    if has_body {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}

/// The classic shape of an error.
pub(super) fn body(message: &str) -> Bytes {
    let message = format!("<Error> {message}");
    serde_json::json!({ "message": message, "status": "failure" }).to_string().into()
}
