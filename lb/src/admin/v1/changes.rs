//! What changes a pool: adding, removing and restarting replicas, or a plan of it.

use super::super::{
    AdminState, document,
    extract::{HostText, Segments, Terms, read},
    refusal::Refusal,
    wire,
};
use super::{PoolPath, ReplicaPath, parse_host, parse_hosts, versioned};
use crate::supervisor::handle::{AskError, Change};
use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use ringmaster_fleet::Host;
use serde::Deserialize;
use std::num::NonZeroUsize;
use utoipa::ToSchema;

/// How many replicas, and which. A missing `n` counts the names, and is at least 1; so no body means one replica.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields)]
struct Selection {
    #[schema(value_type = Option<usize>, minimum = 1)]
    n: Option<NonZeroUsize>,
    #[serde(default)]
    names: Vec<HostText>,
}

impl Selection {
    async fn read(body: Body) -> Result<(usize, Vec<Host>), Refusal> {
        let body = read(body).await?;
        let Self { n, names } = match body.trim_ascii() {
            b"" => Self::default(),
            // Refused here, as serde would take a list for the fields in their order.
            [b'{', ..] => serde_json::from_slice(&body)
                .map_err(|error| Refusal::bad_request(error.to_string()))?,
            _ => return Err(Refusal::bad_request("the body must be a JSON object")),
        };
        let hosts = parse_hosts(names.iter().map(HostText::as_str))?;
        Ok((n.map_or(hosts.len().max(1), NonZeroUsize::get), hosts))
    }
}

/// Adds replicas, and answers when they serve.
#[utoipa::path(
    post,
    path = "/api/v1/pools/{pool}/replicas",
    operation_id = "add_replicas",
    tag = "v1",
    params(PoolPath, Terms),
    request_body(content = Selection, description = "How many, and under which names"),
    responses(
        (
            status = 200,
            description = "The replicas as they are then; with `dry_run`, the plan",
            body = wire::Outcome,
            headers(("ETag" = Option<String>, description = "The pool's version, unless planned")),
        ),
        document::OfChange,
    ),
)]
pub(in crate::admin) async fn add(
    State(state): State<AdminState>,
    Segments(PoolPath { pool }): Segments<PoolPath>,
    terms: Terms,
    body: Body,
) -> Result<Response, Refusal> {
    let (n, hosts) = Selection::read(body).await?;
    change(&state, &pool, Change::Add { n, hosts }, terms).await
}

/// Drains replicas, then removes them; those that are not named are picked.
#[utoipa::path(
    delete,
    path = "/api/v1/pools/{pool}/replicas",
    operation_id = "remove_replicas",
    tag = "v1",
    params(PoolPath, Terms),
    request_body(content = Selection, description = "How many, and which"),
    responses(
        (
            status = 200,
            description = "The replicas as they are then; with `dry_run`, the plan",
            body = wire::Outcome,
            headers(("ETag" = Option<String>, description = "The pool's version, unless planned")),
        ),
        document::OfChange,
    ),
)]
pub(in crate::admin) async fn remove(
    State(state): State<AdminState>,
    Segments(PoolPath { pool }): Segments<PoolPath>,
    terms: Terms,
    body: Body,
) -> Result<Response, Refusal> {
    let (n, hosts) = Selection::read(body).await?;
    change(&state, &pool, Change::Remove { n, hosts }, terms).await
}

/// Drains a replica, then removes it.
#[utoipa::path(
    delete,
    path = "/api/v1/pools/{pool}/replicas/{name}",
    operation_id = "remove_replica",
    tag = "v1",
    params(ReplicaPath, Terms),
    responses(
        (
            status = 200,
            description = "The replicas as they are then; with `dry_run`, the plan",
            body = wire::Outcome,
            headers(("ETag" = Option<String>, description = "The pool's version, unless planned")),
        ),
        document::OfChange,
    ),
)]
pub(in crate::admin) async fn remove_one(
    State(state): State<AdminState>,
    Segments(ReplicaPath { pool, name }): Segments<ReplicaPath>,
    terms: Terms,
) -> Result<Response, Refusal> {
    let hosts = parse_hosts([name.as_str()])?;
    change(&state, &pool, Change::Remove { n: 1, hosts }, terms).await
}

/// Unroutes a replica, drains it, and starts it anew under its name.
#[utoipa::path(
    post,
    path = "/api/v1/pools/{pool}/replicas/{name}/restart",
    operation_id = "restart_replica",
    tag = "v1",
    params(ReplicaPath, Terms),
    responses(
        (
            status = 200,
            description = "The replicas as they are then; with `dry_run`, the plan",
            body = wire::Outcome,
            headers(("ETag" = Option<String>, description = "The pool's version, unless planned")),
        ),
        document::OfChange,
    ),
)]
pub(in crate::admin) async fn restart(
    State(state): State<AdminState>,
    Segments(ReplicaPath { pool, name }): Segments<ReplicaPath>,
    terms: Terms,
) -> Result<Response, Refusal> {
    let name = parse_host(&name)?.name;
    change(&state, &pool, Change::Restart { name }, terms).await
}

async fn change(
    state: &AdminState,
    pool: &str,
    change: Change,
    terms: Terms,
) -> Result<Response, Refusal> {
    let Terms { dry_run, expected, note } = terms;
    if !dry_run {
        note.write(pool, &change);
        let view = state.handle.apply(pool, change, expected).await?;
        return Ok(versioned(&view, wire::Outcome::Made(wire::Replicas::of(&view))));
    }
    let planned = state.handle.plan(pool, change).await?;
    let have = planned.version;
    match expected {
        Some(expected) if expected != have => {
            Err(AskError::VersionChanged { expected, have }.into())
        }
        _ => Ok(Json(wire::Outcome::Planned(wire::Plan::of(&planned))).into_response()),
    }
}
