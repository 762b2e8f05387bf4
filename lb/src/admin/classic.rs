//! The classic endpoints: a contract that clients outside this project speak, shapes and texts exact.
//!
//! A change is checked in this order, and the first fault is the answer; nothing has changed then.
//!
//! | what | by | answer |
//! |---|---|---|
//! | caller, origin, content type | guard | 401, 403, 400 |
//! | length of the body | here | 413 |
//! | JSON or form, known fields, right types | `payload` | 400 `Invalid payload format: …` |
//! | `n` at least 1 | `payload` | 400 `Invalid number of servers to be …: 0` |
//! | form of each name | `payload` | 400 with the rule |
//! | not more names than `n` | fleet | 400 `Length of hostname list is more than …` |
//! | no name twice | fleet | 400 `Duplicate hostnames in payload` |
//! | `n` within `replicas_max`, or the wanted set | fleet | 400 |
//! | names to remove exist | fleet | 400 `Hostname mentioned is not present in the server list: …` |
//! | new replicas start | supervisor | 500 with the reason |

#[cfg(any(fuzzing, test))]
mod fuzz;
mod payload;

#[cfg(any(fuzzing, test))]
pub(crate) use self::fuzz::fuzz_payload;
use self::payload::{Form, Payload, RawPayload, Verb};
use super::{
    AdminState,
    audit::Note,
    document,
    extract::read,
    refusal::{Dialect, Refusal},
    wire,
};
use crate::supervisor::handle::{AskError, Change};
use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use ringmaster_fleet::{AddError, RemoveError};
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn routes() -> OpenApiRouter<AdminState> {
    document::router().routes(routes!(rep)).routes(routes!(add)).routes(routes!(rm, rm_by_post))
}

/// The serving replicas, in the order they were added.
#[utoipa::path(
    get,
    path = "/rep",
    tag = "classic",
    responses(
        (
            status = 200,
            description = "The replicas that serve, and their number, in the order in which they were added. Those of \
                provider fixed are in alphabetical order, after those that `names` lists. One that is starting, down or \
                draining is not among them.",
            body = wire::ClassicFleet,
        ),
        document::OfClassicView,
    ),
)]
async fn rep(State(state): State<AdminState>) -> Result<Json<wire::ClassicFleet>, Failure> {
    let view = state.handle.view(&state.classic_pool()).await?;
    Ok(Json(wire::ClassicFleet::of(&view)))
}

/// Adds replicas, and answers when they serve.
#[utoipa::path(
    post,
    path = "/add",
    tag = "classic",
    request_body(content(
        (RawPayload = "application/json"),
        (Form = "application/x-www-form-urlencoded"),
    )),
    responses(
        (status = 200, description = "Who serves then", body = wire::ClassicFleet),
        document::OfClassicChange,
    ),
)]
async fn add(
    State(state): State<AdminState>,
    note: Note,
    body: Body,
) -> Result<Json<wire::ClassicFleet>, Failure> {
    let Payload { n, hosts } = Payload::parse(Verb::Add, &read(body).await?)?;
    change(&state, &note, Change::Add { n, hosts }).await
}

/// Drains replicas, then removes them; those that are not named are picked.
#[utoipa::path(
    delete,
    path = "/rm",
    tag = "classic",
    request_body(content(
        (RawPayload = "application/json"),
        (Form = "application/x-www-form-urlencoded"),
    )),
    responses(
        (status = 200, description = "Who serves then", body = wire::ClassicFleet),
        document::OfClassicChange,
    ),
)]
async fn rm(
    State(state): State<AdminState>,
    note: Note,
    body: Body,
) -> Result<Json<wire::ClassicFleet>, Failure> {
    let Payload { n, hosts } = Payload::parse(Verb::Remove, &read(body).await?)?;
    change(&state, &note, Change::Remove { n, hosts }).await
}

/// As `DELETE`, for clients that send no body with it.
#[utoipa::path(
    post,
    path = "/rm",
    tag = "classic",
    request_body(content(
        (RawPayload = "application/json"),
        (Form = "application/x-www-form-urlencoded"),
    )),
    responses(
        (status = 200, description = "Who serves then", body = wire::ClassicFleet),
        document::OfClassicChange,
    ),
)]
async fn rm_by_post(
    state: State<AdminState>,
    note: Note,
    body: Body,
) -> Result<Json<wire::ClassicFleet>, Failure> {
    rm(state, note, body).await
}

async fn change(
    state: &AdminState,
    note: &Note,
    change: Change,
) -> Result<Json<wire::ClassicFleet>, Failure> {
    let pool = &state.classic_pool();
    note.write(pool, &change);
    let view = state.handle.apply(pool, change, None).await?;
    Ok(Json(wire::ClassicFleet::of(&view)))
}

/// A refusal in the classic shape.
struct Failure(Refusal);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        self.0.render(Dialect::Classic)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

/// Faults for which the contract has words get these; the others keep their own.
impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        let words = match &error {
            AskError::Add(AddError::TooManyNames { .. }) => {
                "Length of hostname list is more than newly added instances".to_owned()
            }
            AskError::Remove(RemoveError::TooManyNames { .. }) => {
                "Length of hostname list is more than removable instances".to_owned()
            }
            AskError::Add(AddError::Duplicate(_)) | AskError::Remove(RemoveError::Duplicate(_)) => {
                "Duplicate hostnames in payload".to_owned()
            }
            AskError::Remove(RemoveError::MoreThanExist { .. }) => {
                "No of servers to be removed is more than actual count of servers".to_owned()
            }
            AskError::Remove(RemoveError::Unknown(name)) => {
                format!("Hostname mentioned is not present in the server list: {name}")
            }
            AskError::Add(AddError::AboveMax { .. })
            | AskError::Table(_)
            | AskError::Refused(_)
            | AskError::UnknownPool(_)
            | AskError::UnknownReplica(_)
            | AskError::VersionChanged { .. }
            | AskError::NotStarted(_)
            | AskError::Busy
            | AskError::Emptying(_)
            | AskError::NotBegun(_)
            | AskError::NotAgreed(_)
            | AskError::TakenOver(_)
            | AskError::Unsettled(_)
            | AskError::Upgrading
            | AskError::Stopped => return Self(error.into()),
        };
        Self(Refusal::bad_request(words))
    }
}
