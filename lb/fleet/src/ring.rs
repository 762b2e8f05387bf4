//! Which replica a key prefers, and in which order the others follow.
//!
//! ```text
//!   key ──hash──▶ Place { hash, slot } ──owner of the slot──▶ first candidate
//!                                      ──walk─────────────▶ second, third, … each member once
//! ```
//!
//! A [`Table`] is immutable and a pure function of the *set* of its members: neither addresses nor the
//! order of joining enter it. So a respawned replica finds its keys again, and two balancers with the same
//! members agree without talking.

mod algorithm;
mod circle;
mod hashes;
mod maglev;
mod rendezvous;
mod table;
mod walk;

use crate::name::ReplicaName;

pub use self::{
    algorithm::{Algorithm, TableError},
    circle::Probing,
    hashes::Hashes,
    table::Table,
    walk::{Candidates, Walk},
};

/// A replica as the table sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What it is called; unique in a table.
    pub name: ReplicaName,
    /// Its number i, from 1: the classic and modular hashes use it in place of the name.
    pub number: u32,
}

/// Where a key lands: valid for tables of the algorithm that computed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The hash of the key, or the ticket.
    pub hash: u64,
    /// `hash` modulo the number of slots; where nothing is keyed, modulo the number of members.
    pub slot: u32,
}
