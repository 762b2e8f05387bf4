//! Which replicas exist, which may serve, and which one a key prefers.
//!
//! Pure: no IO, no clock, no randomness, no async. Time and chance come in as arguments, effects go out as
//! commands, so every behaviour can be told as a story in a test.
//!
//! * [`Table`] says which replica a key prefers, and in which order the others follow.
//! * [`Plan`] says what a change of the membership would move, before it is made.
//! * [`Fleet`] says which replicas exist and what must be done to keep them as wanted.

mod bound;
mod fleet;
mod limits;
mod name;
mod plan;
mod replica;
mod ring;

pub use self::{
    bound::{Bound, ramp},
    fleet::{AddError, Command, Event, Fleet, RemoveError},
    limits::{Limits, Naming, RespawnName},
    name::{Host, NAME_BYTES_MAX, NameError, ReplicaName},
    plan::{Move, Plan},
    replica::{AfterDrain, Cause, Change, Exit, Incarnation, Phase, PhaseName, Replica},
    ring::{Algorithm, Candidates, Hashes, Member, Place, Probing, Table, TableError, Walk},
};
