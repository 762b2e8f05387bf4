//! The endpoints: what is asked, and the exact bytes of the answers.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, Method, StatusCode, Uri, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use serde::Serialize;
use tokio::sync::Notify;

use crate::replica::{Behaviour, Replica};

/// The endpoints of `replica`; every heartbeat that is asked for leaves a permit in `beats`.
pub(crate) fn router(replica: &Replica, beats: Arc<Notify>) -> Router {
    let shared = Shared {
        home: home_body(replica),
        behaviour: replica.behaviour.clone(),
        heartbeats: AtomicU64::new(0),
        beats,
    };
    Router::new()
        .route("/home", get(home))
        .route("/heartbeat", get(heartbeat))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .with_state(Arc::new(shared))
}

struct Shared {
    /// The answer never changes, so it is written once.
    home: Bytes,
    behaviour: Behaviour,
    /// How many were asked for.
    heartbeats: AtomicU64,
    beats: Arc<Notify>,
}

async fn home(State(shared): State<Arc<Shared>>) -> Response {
    if !shared.behaviour.delay.is_zero() {
        tokio::time::sleep(shared.behaviour.delay).await;
    }
    json(StatusCode::OK, shared.home.clone())
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
