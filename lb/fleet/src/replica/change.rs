//! [`Change`]: a move of a replica that others are told of, and its [`Cause`].

use super::{Incarnation, PhaseName};
use crate::ReplicaName;
use std::{fmt, time::Duration};

/// A replica moved from one phase to another. For one replica, each change begins where the one before ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whose.
    pub name: ReplicaName,
    /// Its incarnation after the move.
    pub incarnation: Incarnation,
    /// The phase before; `None`: it did not exist.
    pub from: Option<PhaseName>,
    /// The phase after; `None`: it is gone. The phase stays the same when only the purpose or the stage of a drain
    /// changed, and when it became known that a replica which was given up as hung had exited.
    pub to: Option<PhaseName>,
    /// Why.
    pub cause: Cause,
}

/// Why a replica moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It was asked for.
    Added,
    /// An earlier balancer started it, and it still runs.
    Adopted,
    /// Another process of this balancer kept it until now.
    Inherited,
    /// An earlier balancer kept it, but it does not run.
    Restored,
    /// It stands in for a failed replica, this one.
    Replaces(ReplicaName),
    /// It answered its first heartbeat.
    Answered,
    /// Its back-off is over.
    Retry,
    /// It missed so many heartbeats in a row.
    MissedHeartbeats(u32),
    /// It ended by itself, with this reason.
    Exited(String),
    /// It could not be started, for this reason.
    SpawnFailed(String),
    /// It did not answer a heartbeat within this time.
    StartTimeout(Duration),
    /// Somebody asked for its removal.
    RemoveAsked,
    /// Somebody asked for its restart.
    RestartAsked,
    /// Its last request in flight has ended.
    Drained,
    /// It still had requests in flight after this time.
    DrainTimeout(Duration),
    /// It was stopped.
    Stopped,
    /// The whole fleet ends.
    Shutdown,
}

impl Change {
    /// Whether the replica moved because it failed: it exited, hung, or did not start.
    pub fn is_failure(&self) -> bool {
        match self.cause {
            Cause::MissedHeartbeats(_)
            | Cause::Exited(_)
            | Cause::SpawnFailed(_)
            | Cause::StartTimeout(_) => true,
            // From the other phases the fleet itself had it stopped.
            Cause::Stopped => {
                matches!(self.from, Some(PhaseName::Starting | PhaseName::Serving))
            }
            Cause::Added
            | Cause::Adopted
            | Cause::Inherited
            | Cause::Restored
            | Cause::Replaces(_)
            | Cause::Answered
            | Cause::Retry
            | Cause::RemoveAsked
            | Cause::RestartAsked
            | Cause::Drained
            | Cause::DrainTimeout(_)
            | Cause::Shutdown => false,
        }
    }
}

impl Cause {
    /// The labels of the causes after which a replica starts again.
    pub const RESPAWN_LABELS: [&'static str; 6] =
        ["exit", "missed", "spawn_failed", "start_timeout", "stopped", "restart"];

    /// One of a bounded set of words, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Adopted => "adopted",
            Self::Inherited => "inherited",
            Self::Restored => "restored",
            Self::Replaces(_) => "replaces",
            Self::Answered => "answered",
            Self::Retry => "retry",
            Self::MissedHeartbeats(_) => "missed",
            Self::Exited(_) => "exit",
            Self::SpawnFailed(_) => "spawn_failed",
            Self::StartTimeout(_) => "start_timeout",
            Self::RemoveAsked => "remove",
            Self::RestartAsked => "restart",
            Self::Drained => "drained",
            Self::DrainTimeout(_) => "drain_timeout",
            Self::Stopped => "stopped",
            Self::Shutdown => "shutdown",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added => f.write_str("added"),
            Self::Adopted => f.write_str("adopted"),
            Self::Inherited => f.write_str("goes on after an upgrade"),
            Self::Restored => f.write_str("known from before, started anew"),
            Self::Replaces(failed) => write!(f, "replaces {failed}"),
            Self::Answered => f.write_str("heartbeat answered"),
            Self::Retry => f.write_str("back-off over"),
            Self::MissedHeartbeats(1) => f.write_str("1 heartbeat missed"),
            Self::MissedHeartbeats(missed) => write!(f, "{missed} heartbeats missed"),
            Self::Exited(reason) => f.write_str(reason),
            Self::SpawnFailed(reason) => write!(f, "start failed: {reason}"),
            Self::StartTimeout(limit) => write!(f, "no heartbeat answered within {limit:?}"),
            Self::RemoveAsked => f.write_str("removal asked for"),
            Self::RestartAsked => f.write_str("restart asked for"),
            Self::Drained => f.write_str("drained"),
            Self::DrainTimeout(limit) => write!(f, "requests still in flight after {limit:?}"),
            Self::Stopped => f.write_str("stopped"),
            Self::Shutdown => f.write_str("shutdown"),
        }
    }
}
