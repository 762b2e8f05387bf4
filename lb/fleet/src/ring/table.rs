//! The table: who owns each slot, and who comes after.
//!
//! Invariants: members are sorted and their names unique; every slot has an owner, so there are no slots
//! without members; on the ring and with Maglev every member owns a slot, so a walk over them meets all.

use super::{
    Algorithm, Candidates, Member, Place, TableError, Walk, circle, maglev, rendezvous, walk::Order,
};
use crate::name::ReplicaName;

/// Which member a key prefers, and in which order the others follow. Immutable.
///
/// Members are spoken of by their index into [`Table::members`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    algorithm: Algorithm,
    members: Vec<Member>,
    /// By slot.
    owners: Box<[u16]>,
    order: Order,
}

/// Without members.
impl Default for Table {
    fn default() -> Self {
        Self::of(Algorithm::default(), Vec::new())
    }
}

impl Table {
    /// The table of these members, in whatever order they come.
    ///
    /// Rendezvous weighs each member for each slot: 16 ms for 100 of them and 65,536 slots on a core of
    /// 2.5 GHz.
    pub fn build(
        algorithm: &Algorithm,
        members: impl IntoIterator<Item = Member>,
    ) -> Result<Self, TableError> {
        Ok(Self::of(*algorithm, sorted(algorithm, members)?))
    }

    /// The table with one more member; equal to one built of them all, but cheaper for rendezvous.
    pub fn with(&self, member: Member) -> Result<Self, TableError> {
        let name = member.name.clone();
        let members = sorted(&self.algorithm, self.members.iter().cloned().chain([member]))?;
        match &self.order {
            Order::Weight { .. } => {
                let seeds = seeds(&members);
                let at = index_of(&members, &name).expect("the member was added a moment ago");
                let owners = rendezvous::owners_with(&self.owners, &seeds, at);
                Ok(Self {
                    algorithm: self.algorithm,
                    members,
                    owners,
                    order: Order::Weight { seeds },
                })
            }
            Order::Clockwise { .. } | Order::Rotation => Ok(Self::of(self.algorithm, members)),
        }
    }

    /// The table without one of its members; equal to one built of the others, but cheaper for rendezvous.
    /// The same table if the name is not in it.
    pub fn without(&self, name: &ReplicaName) -> Self {
        let mut members = self.members.clone();
        let Some(at) = index_of(&members, name) else { return self.clone() };
        members.remove(at);
        match &self.order {
            Order::Weight { .. } if !members.is_empty() => {
                let seeds = seeds(&members);
                let owners = rendezvous::owners_without(&self.owners, &seeds, at);
                Self { algorithm: self.algorithm, members, owners, order: Order::Weight { seeds } }
            }
            Order::Weight { .. } | Order::Clockwise { .. } | Order::Rotation => {
                Self::of(self.algorithm, members)
            }
        }
    }

    /// How replicas are chosen.
    pub fn algorithm(&self) -> &Algorithm {
        &self.algorithm
    }

    /// The members by name; with hashes that use numbers, by number and then by name.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Where `key` lands. Allocates nothing.
    pub fn locate(&self, key: &[u8]) -> Place {
        self.locate_ticket(self.algorithm.hashes().key(key))
    }

    /// Where a request without a key lands: for `round_robin` the ticket is the caller's counter, for
    /// `least_requests` a random number.
    pub fn locate_ticket(&self, ticket: u64) -> Place {
        Place { hash: ticket, slot: (ticket % self.places().max(1) as u64) as u32 }
    }

    /// The first candidate for `place` that is accepted.
    ///
    /// Allocates nothing and takes no lock. `accept` is called in the order of [`Table::candidates`], at
    /// most once for each member and not again after it has said yes, so it may reserve what it accepts.
    /// `load` is asked by `least_requests` only: of the two members it draws, the less loaded comes first.
    ///
    /// The owner of the slot costs one look-up. Each refusal costs a pass over the members for rendezvous,
    /// and a step over slots for the ring and Maglev.
    pub fn first(
        &self,
        place: Place,
        load: impl Fn(usize) -> u32,
        mut accept: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        let walk = Walk::begin(self, place, load);
        Candidates::new(self, walk).find(|&member| accept(member))
    }

    /// Every member once, in the order of preference for `place`, all loads taken as equal.
    pub fn candidates(&self, place: Place) -> Candidates<'_> {
        Candidates::new(self, self.walk(place))
    }

    /// What [`Table::candidates`] yields, for who keeps the table elsewhere.
    pub fn walk(&self, place: Place) -> Walk {
        Walk::begin(self, place, |_| 0)
    }

    /// How many slots there are: 0 without members, or if nothing is keyed.
    pub fn slots(&self) -> usize {
        self.owners.len()
    }

    /// Who is the first candidate for keys that land in `slot`.
    pub fn slot_owner(&self, slot: usize) -> Option<usize> {
        self.owners.get(slot).copied().map(usize::from)
    }

    /// How many slots each member owns.
    pub fn slots_per_member(&self) -> Vec<usize> {
        self.count(self.owners.iter().copied().map(usize::from))
    }

    /// Each member's part of the key space, from 0 to 1; together 1. Where nothing is keyed, 1/N each.
    pub fn shares(&self) -> Vec<f64> {
        if !self.algorithm.is_keyed() {
            return vec![1.0 / self.members.len() as f64; self.members.len()];
        }
        let slots = self.slots() as f64;
        self.count(self.key_space()).into_iter().map(|owned| owned as f64 / slots).collect()
    }

    /// Who owns each of as many equal parts of the key space as there are slots.
    ///
    /// H of the ring is a polynomial modulo the slots, so the keys i, i + slots, i + 2 slots, … share a
    /// slot and make up such a part; the classic H takes some slots for several parts and most for none.
    pub(crate) fn key_space(&self) -> impl Iterator<Item = usize> {
        let hashes = self.algorithm.hashes();
        let place = move |i| self.locate_ticket(hashes.request(i));
        (0..self.slots() as u64).filter_map(move |i| self.slot_owner(place(i).slot as usize))
    }

    /// How many places there are for keys or tickets to land: slots, or where nothing is keyed members.
    pub(super) fn places(&self) -> usize {
        if self.algorithm.is_keyed() { self.owners.len() } else { self.members.len() }
    }

    pub(super) fn order(&self) -> &Order {
        &self.order
    }

    /// `members` must be sorted and pass [`Algorithm::check`].
    fn of(algorithm: Algorithm, members: Vec<Member>) -> Self {
        let (owners, order) = match algorithm {
            _ if members.is_empty() => (Box::default(), Order::Rotation),
            Algorithm::Rendezvous { slots } => {
                let seeds = seeds(&members);
                (rendezvous::owners(&seeds, slots), Order::Weight { seeds })
            }
            Algorithm::Ring { slots, virtual_nodes, hashes, probing } => {
                clockwise(circle::owners(&members, slots, virtual_nodes, hashes, probing), &members)
            }
            Algorithm::Maglev { slots } => clockwise(maglev::owners(&members, slots), &members),
            Algorithm::RoundRobin | Algorithm::LeastRequests => (Box::default(), Order::Rotation),
        };
        Self { algorithm, members, owners, order }
    }

    fn count(&self, owners: impl Iterator<Item = usize>) -> Vec<usize> {
        let mut owned = vec![0; self.members.len()];
        owners.for_each(|owner| owned[owner] += 1);
        owned
    }
}

/// The members as a table lists them, if it can be built of them.
fn sorted(
    algorithm: &Algorithm,
    members: impl IntoIterator<Item = Member>,
) -> Result<Vec<Member>, TableError> {
    let mut members: Vec<Member> = members.into_iter().collect();
    algorithm.check(members.len())?;
    members.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(pair) = members.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err(TableError::Duplicate { name: pair[0].name.clone() });
    }
    if algorithm.hashes().use_numbers() {
        members.sort_by_key(|member| member.number);
    }
    Ok(members)
}

fn index_of(members: &[Member], name: &ReplicaName) -> Option<usize> {
    members.iter().position(|member| member.name == *name)
}

fn seeds(members: &[Member]) -> Box<[u64]> {
    members.iter().map(|member| rendezvous::seed(&member.name)).collect()
}

fn clockwise(owners: Box<[u16]>, members: &[Member]) -> (Box<[u16]>, Order) {
    let order = Order::clockwise(&owners, members.len());
    (owners, order)
}
