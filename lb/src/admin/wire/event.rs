//! What happened to replicas, and to the configuration.

use super::{Phase, time::rfc3339};
use crate::events::Reloaded;
use ringmaster_fleet::Change;
use serde::Serialize;
use std::time::SystemTime;
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
    pub(in crate::admin) fn of(id: u64, at: SystemTime, pool: &'a str, change: &'a Change) -> Self {
        Self {
            id,
            at: rfc3339(at),
            pool,
            replica: change.name.as_str(),
            from: change.from.map(Phase::from),
            to: change.to.map(Phase::from),
            cause: change.cause.to_string(),
            incarnation: change.incarnation.get(),
        }
    }
}

/// Another configuration is in force. The moves that it brings about follow.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct Reload<'a> {
    id: u64,
    #[schema(format = DateTime)]
    at: String,
    /// The keys with other values.
    changed: &'a [String],
    /// Those that only a new start reads.
    needs_restart: &'a [String],
}

impl<'a> Reload<'a> {
    pub(in crate::admin) fn of(id: u64, at: SystemTime, reloaded: &'a Reloaded) -> Self {
        let Reloaded { changed, needs_restart } = reloaded;
        Self { id, at: rfc3339(at), changed, needs_restart }
    }
}

/// What followed the event `after` is no longer known; `next` is the first that is.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct Gap {
    pub(in crate::admin) after: u64,
    pub(in crate::admin) next: u64,
}
