//! `/api/v1`: pools and replicas, changes with their plans, why a key goes where it goes, and what happens.
//!
//! Changes take `?dry_run=true`, which answers the plan instead, and `If-Match: "VERSION"`, which refuses
//! them once the wanted set is another than the caller saw.

mod changes;
mod events;
mod explain;
mod settings;
mod upgrade;

pub(super) use self::events::SUBSCRIBERS_MAX;
use self::explain::explain;
use super::{
    AdminState, document,
    extract::{Params, Segments},
    refusal::Refusal,
    wire,
};
use crate::supervisor::handle::{AskError, Change, PoolView};
use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use ringmaster_fleet::{Host, NameError};
use serde::Deserialize;
use std::num::NonZeroUsize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

/// In every path of one pool.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
struct PoolPath {
    /// The pool's name.
    pool: String,
}

/// In every path of one replica.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
struct ReplicaPath {
    /// The pool's name.
    pool: String,
    /// The replica's name.
    #[param(pattern = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}(:[1-9][0-9]{0,4})?$")]
    name: String,
}

pub(super) fn routes() -> OpenApiRouter<AdminState> {
    document::router()
        .routes(routes!(pools))
        .routes(routes!(pool))
        .routes(routes!(replicas, changes::add, changes::remove))
        .routes(routes!(changes::remove_one))
        .routes(routes!(changes::restart))
        .routes(routes!(explain_key))
        .routes(routes!(plan))
        .routes(routes!(distribution))
        .routes(routes!(events::events))
        .routes(routes!(settings::config))
        .routes(routes!(settings::reload))
        .routes(routes!(upgrade::upgrade))
}

/// Every pool.
#[utoipa::path(
    get,
    path = "/api/v1/pools",
    operation_id = "list_pools",
    tag = "v1",
    responses((status = 200, description = "The pools", body = wire::Pools), document::OfPools),
)]
async fn pools(State(state): State<AdminState>) -> Result<Response, Refusal> {
    let rules = state.rules.load_full();
    let mut views = Vec::with_capacity(rules.pools.len());
    for (name, config) in &rules.pools {
        views.push((state.handle.view(name).await?, config));
    }
    let pools = views.iter().map(|(view, config)| wire::Pool::of(view, config)).collect();
    Ok(Json(wire::Pools { pools }).into_response())
}

/// One pool: what is wanted, what there is, and its settings.
#[utoipa::path(
    get,
    path = "/api/v1/pools/{pool}",
    operation_id = "show_pool",
    tag = "v1",
    params(PoolPath),
    responses(
        (
            status = 200,
            description = "The pool",
            body = wire::Pool,
            headers(("ETag" = String, description = "The pool's version, for `If-Match`")),
        ),
        document::OfPool,
    ),
)]
async fn pool(
    State(state): State<AdminState>,
    Segments(PoolPath { pool }): Segments<PoolPath>,
) -> Result<Response, Refusal> {
    let rules = state.rules.load_full();
    let config = rules.pools.get(&pool).ok_or_else(|| AskError::UnknownPool(pool.clone()))?;
    let view = state.handle.view(&pool).await?;
    Ok(versioned(&view, wire::Pool::of(&view, config)))
}

/// Every replica of a pool with its phase.
#[utoipa::path(
    get,
    path = "/api/v1/pools/{pool}/replicas",
    operation_id = "list_replicas",
    tag = "v1",
    params(PoolPath),
    responses(
        (
            status = 200,
            description = "The replicas",
            body = wire::Replicas,
            headers(("ETag" = String, description = "The pool's version, for `If-Match`")),
        ),
        document::OfPool,
    ),
)]
async fn replicas(
    State(state): State<AdminState>,
    Segments(PoolPath { pool }): Segments<PoolPath>,
) -> Result<Response, Refusal> {
    let view = state.handle.view(&pool).await?;
    Ok(versioned(&view, wire::Replicas::of(&view)))
}

/// The pool's key source takes the key from a request's header, path, …; here the key itself is given,
/// under whichever of the three names suits the reader.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ExplainParams {
    /// The key; exactly one of the three names must be given.
    key: Option<String>,
    /// The key.
    path: Option<String>,
    /// The key.
    header: Option<String>,
}

/// Why a key goes where it goes.
#[utoipa::path(
    get,
    path = "/api/v1/pools/{pool}/explain",
    operation_id = "explain",
    tag = "v1",
    params(PoolPath, ExplainParams),
    responses(
        (status = 200, description = "The candidates in their order", body = wire::Explain),
        document::OfExplain,
    ),
)]
async fn explain_key(
    State(state): State<AdminState>,
    Segments(PoolPath { pool }): Segments<PoolPath>,
    Params(params): Params<ExplainParams>,
) -> Result<Response, Refusal> {
    let keys: Vec<_> = [params.key, params.path, params.header].into_iter().flatten().collect();
    let [key] = keys.as_slice() else {
        return Err(Refusal::bad_request(
            "exactly one of ?key=, ?path= and ?header= must give the key",
        ));
    };
    let rules = state.rules.load_full();
    let config = rules.pools.get(&pool).ok_or_else(|| AskError::UnknownPool(pool.clone()))?;
    let view = state.handle.view(&pool).await?;
    Ok(Json(explain(&view, config, key)?).into_response())
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PlanParams {
    /// How many replicas to add; either this or `remove` must be given.
    #[param(value_type = Option<usize>, minimum = 1)]
    add: Option<NonZeroUsize>,
    /// Which replicas to remove, as `NAME,NAME`.
    #[param(min_length = 1)]
    remove: Option<String>,
}

/// What a change would move.
#[utoipa::path(
    get,
    path = "/api/v1/pools/{pool}/plan",
    operation_id = "plan",
    tag = "v1",
    params(PoolPath, PlanParams),
    responses(
        (status = 200, description = "Shares before and after", body = wire::Plan),
        document::OfPlan,
    ),
)]
async fn plan(
    State(state): State<AdminState>,
    Segments(PoolPath { pool }): Segments<PoolPath>,
    Params(params): Params<PlanParams>,
) -> Result<Response, Refusal> {
    let change = match (params.add, &params.remove) {
        (Some(n), None) => Change::Add { n: n.get(), hosts: Vec::new() },
        (None, Some(names)) => {
            let hosts = parse_hosts(names.split(','))?;
            Change::Remove { n: hosts.len(), hosts }
        }
        (None, None) | (Some(_), Some(_)) => {
            return Err(Refusal::bad_request(
                "exactly one of ?add=N and ?remove=NAME,NAME must be given",
            ));
        }
    };
    let planned = state.handle.plan(&pool, change).await?;
    Ok(Json(wire::Plan::of(&planned)).into_response())
}

/// How even the slots and the requests are.
#[utoipa::path(
    get,
    path = "/api/v1/pools/{pool}/distribution",
    operation_id = "distribution",
    tag = "v1",
    params(PoolPath),
    responses(
        (status = 200, description = "Slots and requests of each replica", body = wire::Distribution),
        document::OfPool,
    ),
)]
async fn distribution(
    State(state): State<AdminState>,
    Segments(PoolPath { pool }): Segments<PoolPath>,
) -> Result<Response, Refusal> {
    let view = state.handle.view(&pool).await?;
    Ok(Json(wire::Distribution::of(&view)).into_response())
}

/// `body` with the version that `If-Match` takes.
fn versioned(view: &PoolView, body: impl serde::Serialize) -> Response {
    let etag = format!("\"{}\"", view.version);
    ([(header::ETAG, etag)], Json(body)).into_response()
}

fn parse_hosts<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Vec<Host>, Refusal> {
    names.into_iter().map(parse_host).collect()
}

fn parse_host(name: &str) -> Result<Host, Refusal> {
    name.parse().map_err(|error: NameError| Refusal::bad_request(error.to_string()))
}
