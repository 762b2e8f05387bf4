//! The endpoints: what is asked, and the exact bytes of the answers.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{
    Router,
    body::to_bytes,
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, Uri, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use serde::Serialize;
use tokio::sync::Notify;

use crate::{
    ServedLog,
    replica::{Behaviour, Replica},
};

/// The longest body of a request that is written down.
const BODY_BYTES_MAX: usize = 64 << 10;

/// The endpoints of `replica`; every heartbeat that is asked for leaves a permit in `beats`.
pub(crate) fn router(replica: &Replica, beats: Arc<Notify>) -> Router {
    let homes = match replica.behaviour.served_log {
        Some(_) => get(home).post(home),
        None => get(home),
    };
    let shared = Shared {
        name: replica.name.clone(),
        home: home_body(replica),
        behaviour: replica.behaviour.clone(),
        heartbeats: AtomicU64::new(0),
        beats,
    };
    Router::new()
        .route("/home", homes)
        .route("/heartbeat", get(heartbeat))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .with_state(Arc::new(shared))
}

struct Shared {
    name: String,
    /// The answer never changes, so it is written once.
    home: Bytes,
    behaviour: Behaviour,
    /// How many were asked for.
    heartbeats: AtomicU64,
    beats: Arc<Notify>,
}

async fn home(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    if let Some(log) = &shared.behaviour.served_log
        && let Err(refusal) = write_down(log, &shared.name, request).await
    {
        return refusal;
    }
    if !shared.behaviour.delay.is_zero() {
        tokio::time::sleep(shared.behaviour.delay).await;
    }
    json(StatusCode::OK, shared.home.clone())
}

/// Writes down a request that has come whole.
async fn write_down(log: &ServedLog, name: &str, request: Request) -> Result<(), Response> {
    let (head, body) = request.into_parts();
    if let Err(error) = to_bytes(body, BODY_BYTES_MAX).await {
        let message = format!("<Error> no body of up to {BODY_BYTES_MAX} bytes: {error}");
        return Err(failure(StatusCode::BAD_REQUEST, message));
    }
    let id = head.headers.get("x-request-id").and_then(|it| it.to_str().ok()).unwrap_or("-");
    log.write(name, head.method.as_str(), id).map_err(|error| {
        let message = format!("<Error> not served, as it cannot be written down: {error}");
        failure(StatusCode::INTERNAL_SERVER_ERROR, message)
    })
}

async fn heartbeat(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.beats.notify_one();
    let before = shared.heartbeats.fetch_add(1, Ordering::Relaxed);
    match shared.behaviour.fail_heartbeat_after {
        Some(answered) if before >= answered => StatusCode::INTERNAL_SERVER_ERROR,
        Some(_) | None => StatusCode::OK,
    }
}

async fn unknown_path(uri: Uri) -> Response {
    let message = format!("<Error> '{}' endpoint does not exist in server replicas", uri.path());
    failure(StatusCode::BAD_REQUEST, message)
}

async fn unknown_method(method: Method, uri: Uri) -> Response {
    let message = format!("<Error> '{}' answers GET and HEAD, not {method}", uri.path());
    failure(StatusCode::METHOD_NOT_ALLOWED, message)
}

/// The answer of `/home`; clients rely on the order of its keys.
#[derive(Serialize)]
struct Home<'a> {
    message: String,
    status: &'static str,
    id: &'a str,
}

fn home_body(replica: &Replica) -> Bytes {
    to_json(&Home {
        message: format!("Hello from Server: {}", replica.id),
        status: "successful",
        id: &replica.name,
    })
}

/// The answer to whatever is outside the contract.
#[derive(Serialize)]
struct Failure {
    message: String,
    status: &'static str,
}

fn failure(status: StatusCode, message: String) -> Response {
    json(status, to_json(&Failure { message, status: "failure" }))
}

fn to_json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("strings under fixed keys always have a JSON form").into()
}

fn json(status: StatusCode, body: Bytes) -> Response {
    (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}
