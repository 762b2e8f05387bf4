//! What is configured, and the way to change it.

use super::super::{AdminState, document, extract::Params, refusal::Refusal, wire};
use crate::events::Reloaded;
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::IntoParams;

/// The configuration in force: every key with its value, secrets left out.
#[utoipa::path(
    get,
    path = "/api/v1/config",
    tag = "v1",
    responses((status = 200, description = "As in the file, with the defaults", body = Object)),
)]
pub(in crate::admin) async fn config(State(state): State<AdminState>) -> Response {
    Json(&state.rules.load().effective).into_response()
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::admin) struct ReloadParams {
    /// Answers what would change, and changes nothing.
    #[serde(default)]
    dry_run: bool,
}

/// Reads the configuration again, and puts it in the place of the one before; if anything is wrong, nothing changes.
#[utoipa::path(
    post,
    path = "/api/v1/reload",
    tag = "v1",
    params(ReloadParams),
    responses(
        (status = 200, description = "What has changed", body = wire::Reloaded),
        document::OfReload,
    ),
)]
pub(in crate::admin) async fn reload(
    State(state): State<AdminState>,
    Params(ReloadParams { dry_run }): Params<ReloadParams>,
) -> Result<Response, Refusal> {
    let Reloaded { changed, needs_restart } = state.reloader.reload(dry_run).await?;
    Ok(Json(wire::Reloaded { changed, needs_restart }).into_response())
}
