//! What happened to replicas.

use super::{Phase, time::rfc3339};
use crate::events;
use serde::Serialize;
use utoipa::ToSchema;

/// A replica moved from one phase to another; `null` stands for not being there.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct Event<'a> {
    id: u64,
    #[schema(format = DateTime)]
    at: String,
    pool: &'a str,
    replica: &'a str,
    #[schema(required)]
    from: Option<Phase>,
    #[schema(required)]
    to: Option<Phase>,
    cause: String,
    /// Which start of the replica it was.
    incarnation: u64,
}

impl<'a> Event<'a> {
    pub(in crate::admin) fn of(event: &'a events::Event) -> Self {
        let change = &event.change;
        Self {
            id: event.id,
            at: rfc3339(event.at),
            pool: &event.pool,
            replica: change.name.as_str(),
            from: change.from.map(Phase::from),
            to: change.to.map(Phase::from),
            cause: change.cause.to_string(),
            incarnation: change.incarnation.get(),
        }
    }
}

/// What followed the event `after` is no longer known; `next` is the first that is.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct Gap {
    pub(in crate::admin) after: u64,
    pub(in crate::admin) next: u64,
}
