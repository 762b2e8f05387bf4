//! The operator's HTTP API: one router behind two doors.
//!
//! ```text
//!  admin listener ───────────────▶ ┌───────┐     ┌────────┐ classic ─▶ /rep /add /rm
//!                                  │ guard │ ──▶ │ router │ v1 ──────▶ /api/v1/…
//!  proxy's listener ──oneshot────▶ └───────┘     └────────┘ ─────────▶ /healthz /readyz /metrics
//! ```
//!
//! * `GET    /rep`                                         -- the serving replicas
//! * `POST   /add`, `DELETE|POST /rm`                      -- change the wanted set
//! * `GET    /api/v1/pools`, `…/{pool}`                    -- every pool, one pool
//! * `GET    /api/v1/pools/{pool}/replicas`                -- every replica with its phase
//! * `POST   /api/v1/pools/{pool}/replicas`                -- adds
//! * `DELETE /api/v1/pools/{pool}/replicas`, `…/{name}`     -- drains, then removes
//! * `POST   /api/v1/pools/{pool}/replicas/{name}/restart` -- drains, then starts anew
//! * `GET    /api/v1/pools/{pool}/explain`                 -- why a key goes where it goes
//! * `GET    /api/v1/pools/{pool}/plan`                    -- what a change would move
//! * `GET    /api/v1/pools/{pool}/distribution`            -- how even the slots and requests are
//! * `GET    /api/v1/config`                               -- every key with the value in force
//! * `POST   /api/v1/reload`                               -- reads the configuration again
//! * `POST   /api/v1/upgrade`                              -- has another binary take over
//! * `GET    /api/v1/events`                               -- what happens to replicas, as it happens
//! * `GET    /api/v1/openapi.json`                         -- this list with all shapes, as an OpenAPI document
//! * `GET    /healthz`, `/readyz`, `/metrics`              -- for probes and Prometheus
//!
//! Invariants: no request reaches a handler but through the guard, whatever the door; a request that is at
//! fault is answered 4xx in the shape of the path it was sent to, never 500.

mod access;
mod audit;
mod browser;
mod classic;
mod document;
mod extract;
mod guard;
mod listener;
mod refusal;
#[cfg(test)]
mod tests;
mod v1;
mod wire;

#[cfg(any(fuzzing, test))]
pub(crate) use self::classic::fuzz_payload;
pub(crate) use self::{
    access::{Access, AccessError},
    extract::BODY_BYTES_MAX,
    guard::{Caller, Door},
    listener::{ListenerLimits, OpenConnections, serve},
    wire::rfc3339,
};
use self::{
    guard::guard,
    refusal::{Code, Dialect, Refusal},
};
use crate::{
    config::PoolConfig, events::Events, reload::Reloader, supervisor::handle::Handle,
    upgrade::Upgrader,
};
use arc_swap::ArcSwap;
use axum::{
    Json, Router,
    extract::State,
    http::{Method, StatusCode, Uri, header},
    middleware,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use ringmaster_fleet::PhaseName;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::Semaphore;
use utoipa_axum::{router::OpenApiRouter, routes};

/// What renders all metrics in the Prometheus text format.
pub(crate) type RenderMetrics = dyn Fn() -> String + Send + Sync;

/// What a configuration says of operators. Without `Debug`, as it holds secrets.
pub(crate) struct Rules {
    /// At least one.
    pub(crate) pools: BTreeMap<String, PoolConfig>,
    pub(crate) access: Access,
    /// Every key with its value.
    pub(crate) effective: serde_json::Value,
}

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct AdminState {
    handle: Handle,
    rules: Arc<ArcSwap<Rules>>,
    reloader: Arc<Reloader>,
    upgrader: Arc<Upgrader>,
    metrics: Arc<RenderMetrics>,
    events: Events,
    /// A permit for each further follower of the events.
    subscribers: Arc<Semaphore>,
    /// Turns true with the first look that finds every pool served, and stays so.
    ready: Arc<AtomicBool>,
}

impl AdminState {
    pub(crate) fn new(
        handle: Handle,
        rules: Arc<ArcSwap<Rules>>,
        reloader: Arc<Reloader>,
        upgrader: Arc<Upgrader>,
        metrics: Arc<RenderMetrics>,
        events: Events,
    ) -> Self {
        Self {
            handle,
            rules,
            reloader,
            upgrader,
            metrics,
            events,
            subscribers: Arc::new(Semaphore::new(v1::SUBSCRIBERS_MAX)),
            ready: Arc::default(),
        }
    }

    /// The pool that the classic endpoints mean, as they cannot name one: `default`, else the first.
    fn classic_pool(&self) -> String {
        let rules = self.rules.load();
        let default = rules.pools.get_key_value("default");
        let (name, _) = default
            .or_else(|| rules.pools.first_key_value())
            .expect("a configuration has at least one pool");
        name.clone()
    }
}

/// The API for both doors. Each request must carry a [`Caller`]; one without is refused.
pub(crate) fn router(state: AdminState) -> Router {
    Router::from(routes())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        // Outermost, so that what nobody may see is not even told apart from what does not exist.
        .layer(middleware::from_fn_with_state(state.clone(), guard))
        .with_state(state)
}

/// Every route with its description.
fn routes() -> OpenApiRouter<AdminState> {
    document::router()
        .merge(classic::routes())
        .merge(v1::routes())
        .routes(routes!(openapi))
        .routes(routes!(healthz))
        .routes(routes!(readyz))
        .routes(routes!(metrics))
}

/// This document.
#[utoipa::path(
    get,
    path = "/api/v1/openapi.json",
    tag = "v1",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)),
)]
async fn openapi() -> impl IntoResponse {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| document::render(routes()));
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.clone())
}

/// The process lives.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "watching",
    security(),
    responses((status = 200, description = "It does", body = wire::Health)),
)]
async fn healthz() -> Json<wire::Health> {
    Json(wire::Health { status: "ok" })
}

/// 200 from the moment on at which a replica of every pool serves. It stays 200 when they fail later: one
/// broken pool must not take the balancer away from the others.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "watching",
    security(),
    responses(
        (status = 200, description = "Every pool has been served", body = wire::Readiness),
        (status = 503, description = "Some have not", body = wire::Readiness),
    ),
)]
async fn readyz(State(state): State<AdminState>) -> Response {
    let mut waiting_for = Vec::new();
    if !state.ready.load(Ordering::Relaxed) {
        for pool in state.rules.load_full().pools.keys() {
            // A supervisor that is too busy to answer, or about to end, is not ready either.
            let serves = state.handle.view(pool).await.is_ok_and(|view| {
                view.replicas.iter().any(|replica| replica.phase == PhaseName::Serving)
            });
            if !serves {
                waiting_for.push(pool.clone());
            }
        }
    }
    let ready = waiting_for.is_empty();
    let status = if ready {
        state.ready.store(true, Ordering::Relaxed);
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(wire::Readiness { ready, waiting_for })).into_response()
}

/// All metrics, in the Prometheus text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "watching",
    responses(
        (
            status = 200,
            description = "One line for each series",
            body = String,
            content_type = "text/plain; version=0.0.4; charset=utf-8",
        ),
    ),
)]
async fn metrics(State(state): State<AdminState>) -> impl IntoResponse {
    const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, TEXT_FORMAT)], (state.metrics)())
}

async fn not_found(uri: Uri) -> Refusal {
    Refusal::new(Code::NotFound, format!("nothing is served at {}", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    let path = uri.path();
    let message = format!("{method} is not allowed on {path}: see the Allow header");
    Refusal::new(Code::MethodNotAllowed, message).render(Dialect::of(path))
}
