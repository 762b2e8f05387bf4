//! `GET /api/v1/events`: what happens to replicas and to the configuration, as Server-Sent Events.
//!
//! Whoever comes back says what it saw last, by `Last-Event-ID` or `?last_event_id=`, and misses nothing that the
//! history still has; `0` asks for all of it. What it no longer has is an event called `gap`.

use super::super::{
    AdminState, document,
    extract::Params,
    refusal::{Code, Refusal},
    wire,
};
use crate::events::{self, Fact, Follower, Notice};
use axum::{
    extract::State,
    http::HeaderMap,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::IntoParams;

/// As many may follow at the same time.
pub(in crate::admin) const SUBSCRIBERS_MAX: usize = 64;

/// A silence of this length is broken by a comment, so that both ends learn of a dead connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

const LAST_EVENT_ID: &str = "last-event-id";

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventParams {
    /// As the header `Last-Event-ID`, which comes first.
    #[param(value_type = Option<u64>)]
    last_event_id: Option<String>,
}

/// What happens to replicas and to the configuration, as it happens.
///
/// The data of an event without a name is an `Event`, that of `reload` a `Reload`, that of `gap` a `Gap`. The stream
/// does not end.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    operation_id = "events",
    tag = "v1",
    params(
        EventParams,
        ("Last-Event-ID" = Option<u64>, Header, description = "Go on behind this event; 0 for all that is known"),
    ),
    responses(
        (
            status = 200,
            description = "Server-Sent Events",
            body = String,
            content_type = "text/event-stream",
        ),
        document::OfEvents,
    ),
)]
pub(in crate::admin) async fn events(
    State(state): State<AdminState>,
    Params(params): Params<EventParams>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    // A browser that reconnects repeats the query of its first request; the header is the newer.
    let asked = match headers.get(LAST_EVENT_ID) {
        Some(value) => Some(parse_id(value.to_str().unwrap_or_default())?),
        None => params.last_event_id.as_deref().map(parse_id).transpose()?,
    };
    let permit = state.subscribers.clone().try_acquire_owned().map_err(|_| {
        let message =
            format!("{SUBSCRIBERS_MAX} others follow the events, which is the most; try again");
        Refusal::new(Code::Busy, message)
    })?;
    let follower = state.events.follow(asked);
    // An id without an event: whoever is cut off before the first event can resume all the same.
    let place = Ok(Event::default().id(follower.seen().to_string()));
    let notices = stream::unfold((follower, permit), notice);
    Ok(Sse::new(stream::iter([place]).chain(notices))
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response())
}

fn parse_id(text: &str) -> Result<u64, Refusal> {
    text.parse().map_err(|_| {
        Refusal::bad_request(format!("Last-Event-ID must be the id of an event, not {text:?}"))
    })
}

type Subscription = (Follower, OwnedSemaphorePermit);

async fn notice(
    (mut follower, permit): Subscription,
) -> Option<(Result<Event, axum::Error>, Subscription)> {
    let event = match follower.next().await? {
        Notice::Event(event) => told(&event),
        // Its id is that of the last event missed, so that whoever resumes from it misses nothing else.
        Notice::Gap { after, next } => Event::default()
            .event("gap")
            .id((next - 1).to_string())
            .json_data(wire::Gap { after, next }),
    };
    Some((event, (follower, permit)))
}

fn told(event: &events::Event) -> Result<Event, axum::Error> {
    let events::Event { id, at, ref fact } = *event;
    let told = Event::default().id(id.to_string());
    match fact {
        Fact::Moved { pool, change } => told.json_data(wire::Event::of(id, at, pool, change)),
        Fact::Reloaded(reloaded) => {
            told.event("reload").json_data(wire::Reload::of(id, at, reloaded))
        }
    }
}
