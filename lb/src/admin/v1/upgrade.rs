//! Another binary in the place of this one.

use super::super::{AdminState, audit::Note, document, extract::read, refusal::Refusal, wire};
use crate::upgrade::Upgraded;
use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use std::{num::NonZeroU32, path::PathBuf, process, time::Duration};
use utoipa::ToSchema;

/// The most that a new process is given to take over, in seconds.
const TIMEOUT_S_MAX: u32 = 3_600;
const TIMEOUT_S_DEFAULT: u32 = 30;

/// What to start, and how long to wait for it; no body stands for the defaults.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpgradeRequest {
    /// An absolute path; without one, that which the balancer was started from.
    #[schema(value_type = Option<String>)]
    binary: Option<PathBuf>,
    /// How long it may take until it has taken over: 30 s, if nothing is said.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 3600)]
    timeout_s: Option<NonZeroU32>,
}

impl UpgradeRequest {
    async fn read(body: Body) -> Result<Self, Refusal> {
        let body = read(body).await?;
        match body.trim_ascii() {
            b"" => Ok(Self::default()),
            // Refused here, as serde would take a list for the fields in their order.
            [b'{', ..] => serde_json::from_slice(&body)
                .map_err(|error| Refusal::bad_request(error.to_string())),
            _ => Err(Refusal::bad_request("the body must be a JSON object")),
        }
    }
}

/// Has another binary take over the sockets and the replicas, and answers once it serves. Whatever goes wrong, the
/// balancer goes on as it was.
#[utoipa::path(
    post,
    path = "/api/v1/upgrade",
    tag = "v1",
    request_body(content = UpgradeRequest, description = "Which binary, and how long it may take"),
    responses(
        (status = 200, description = "The process that has taken over", body = wire::Upgraded),
        document::OfUpgrade,
    ),
)]
pub(in crate::admin) async fn upgrade(
    State(state): State<AdminState>,
    note: Note,
    body: Body,
) -> Result<Response, Refusal> {
    let UpgradeRequest { binary, timeout_s } = UpgradeRequest::read(body).await?;
    let timeout_s = timeout_s.map_or(TIMEOUT_S_DEFAULT, NonZeroU32::get);
    if timeout_s > TIMEOUT_S_MAX {
        let message = format!("timeout_s: {timeout_s} is more than {TIMEOUT_S_MAX}, one hour");
        return Err(Refusal::bad_request(message));
    }
    note.say(match &binary {
        Some(path) => format!("upgrade to {}", path.display()),
        None => "upgrade".to_owned(),
    });
    let patience = Duration::from_secs(timeout_s.into());
    let Upgraded { pid, version } = state.upgrader.upgrade(binary, patience).await?;
    Ok(Json(wire::Upgraded { pid, version, predecessor: process::id() }).into_response())
}
