//! The JSON that goes out. Fields may be added, none renamed, reordered or removed: scripts rely on them.
//!
//! Durations are seconds with milliseconds where their name ends in `_s`, and whole milliseconds where it
//! ends in `_ms`. Shares are parts of the key space, from 0 to 1.

mod classic;
mod distribution;
mod event;
mod pool;
mod replica;
mod time;

pub(crate) use self::time::rfc3339;
pub(super) use self::{
    classic::{ClassicError, ClassicFleet},
    distribution::Distribution,
    event::{Event, Gap, Reload},
    pool::{Pool, Pools},
    replica::Replicas,
};
use super::refusal::Code;
use crate::supervisor::handle::Planned;
use ringmaster_fleet::{PhaseName, ReplicaName};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// The answer of `/healthz`.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`.
    pub(super) status: &'static str,
}

/// The answer of `/readyz`.
#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    /// Whether a replica of every pool has served.
    pub(super) ready: bool,
    /// The pools of which no replica serves.
    pub(super) waiting_for: Vec<String>,
}

/// What a reload has changed, or would.
#[derive(Serialize, ToSchema)]
pub(super) struct Reloaded {
    /// The keys with other values.
    pub(super) changed: Vec<String>,
    /// Those that only a new start reads.
    pub(super) needs_restart: Vec<String>,
}

/// Who has taken over.
#[derive(Serialize, ToSchema)]
pub(super) struct Upgraded {
    /// The process that serves from now on.
    pub(super) pid: u32,
    /// Of its binary.
    pub(super) version: String,
    /// The process that answers this. It ends with its last requests.
    pub(super) predecessor: u32,
}

/// A fault, as v1 tells it.
#[derive(Serialize, ToSchema)]
pub(super) struct Error<'a> {
    error: ErrorBody<'a>,
}

/// What kind of fault it is, for scripts, and its words, for people.
#[derive(Serialize, ToSchema)]
struct ErrorBody<'a> {
    code: Code,
    /// One line: what was wrong, and what would be right.
    message: &'a str,
    /// Everything that is wrong, where that is more than a line.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    faults: &'a [String],
}

impl<'a> Error<'a> {
    /// `faults` is everything that is wrong, where that is more than `message` says.
    pub(super) fn new(code: Code, message: &'a str, faults: &'a [String]) -> Self {
        Self { error: ErrorBody { code, message, faults } }
    }
}

/// Where a key goes, and why.
#[derive(Serialize, ToSchema)]
pub(super) struct Explain<'a> {
    pub(super) key: &'a str,
    /// 16 hexadecimal digits.
    pub(super) hash: String,
    pub(super) slot: u32,
    /// Who takes it; `null` when nobody can.
    #[schema(required)]
    pub(super) replica: Option<&'a str>,
    /// `hash`, `spill-bound`, `failover-down` or `none`.
    pub(super) reason: &'static str,
    /// In the order in which they are asked.
    pub(super) candidates: Vec<Candidate<'a>>,
    /// How many candidates the list lacks, as it is limited.
    pub(super) left_out: usize,
}

/// A replica that a key may go to.
#[derive(Serialize, ToSchema)]
pub(super) struct Candidate<'a> {
    pub(super) replica: &'a str,
    pub(super) verdict: Verdict,
    /// Empty if it is not asked.
    pub(super) why: String,
}

/// What becomes of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Taken,
    Skipped,
    /// Not asked, as one before it takes the request.
    Next,
}

/// Where a replica is in its life.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    Starting,
    Serving,
    Draining,
    Down,
}

impl From<PhaseName> for Phase {
    fn from(phase: PhaseName) -> Self {
        match phase {
            PhaseName::Starting => Self::Starting,
            PhaseName::Serving => Self::Serving,
            PhaseName::Draining => Self::Draining,
            PhaseName::Down => Self::Down,
        }
    }
}

/// What a change is answered with.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Outcome<'a> {
    Made(Replicas<'a>),
    /// For a dry run.
    Planned(Plan<'a>),
}

/// What a change would move.
#[derive(Serialize, ToSchema)]
pub(super) struct Plan<'a> {
    /// Of the pool, for `If-Match`.
    version: String,
    /// Each replica's part of the key space.
    #[schema(value_type = BTreeMap<String, f64>)]
    before: Shares<'a>,
    #[schema(value_type = BTreeMap<String, f64>)]
    after: Shares<'a>,
    /// The part of the key space that goes to another replica.
    moved: f64,
    /// The least that any even table would move.
    ideal: f64,
    /// The part that moves although both its replicas stay.
    between_survivors: f64,
    moves: Vec<Move<'a>>,
}

/// A part of the key space that goes from one replica to another.
#[derive(Serialize, ToSchema)]
struct Move<'a> {
    from: &'a str,
    to: &'a str,
    share: f64,
}

impl<'a> Plan<'a> {
    pub(super) fn of(planned: &'a Planned) -> Self {
        let plan = &planned.plan;
        let moves = plan.moves.iter().map(|step| Move {
            from: step.from.as_str(),
            to: step.to.as_str(),
            share: step.share,
        });
        Self {
            version: planned.version.to_string(),
            before: Shares(&plan.before),
            after: Shares(&plan.after),
            moved: plan.moved,
            ideal: plan.ideal,
            between_survivors: plan.between_survivors,
            moves: moves.collect(),
        }
    }
}

/// An object from name to share, in the order of the list.
struct Shares<'a>(&'a [(ReplicaName, f64)]);

impl Serialize for Shares<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, share)| (name.as_str(), share)))
    }
}

#[cfg(test)]
mod tests;
