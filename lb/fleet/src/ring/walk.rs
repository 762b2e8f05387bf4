//! The order in which members are offered for a place.
//!
//! There is one walk: [`Table::first`] and [`Table::candidates`] both take it. It allocates nothing and has
//! a few words of state, whatever the number of members.

use super::{Algorithm, Place, Table, rendezvous};

/// What decides who is offered after the owner of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The next lower weight; holds what the weights of each member are made from.
    Weight { seeds: Box<[u64]> },
    /// The owner of the next slot; holds how far back (1 to the number of slots) each slot's owner has
    /// another, so that a walk knows without a list whom it has met before.
    Clockwise { back: Box<[u32]> },
    /// The next member.
    Rotation,
}

impl Order {
    pub(super) fn clockwise(owners: &[u16], members: usize) -> Self {
        let slots = owners.len();
        let mut latest = vec![0; members];
        for (slot, &owner) in owners.iter().enumerate() {
            latest[usize::from(owner)] = slot;
        }
        let back = |(slot, &owner): (usize, &u16)| {
            let previous = std::mem::replace(&mut latest[usize::from(owner)], slot);
            let distance = if previous < slot { slot - previous } else { slot + slots - previous };
            distance as u32
        };
        Self::Clockwise { back: owners.iter().enumerate().map(back).collect() }
    }
}

/// A walk over the members of a table: each once, whom the key prefers first.
///
/// It does not hold the table, so that it can be kept beside an `Arc<Table>`. [`Walk::next`] must be given
/// the table that it began on.
#[derive(Clone, Debug)]
pub struct Walk {
    /// The slot, or in a rotation the member, at which it began.
    start: usize,
    /// How many members it has offered.
    offered: usize,
    /// By weight: the member offered last. Clockwise: how many slots were passed. In a rotation: how far
    /// from the start the member is that is offered second.
    mark: usize,
}

impl Walk {
    /// Begins at `place`; with `least_requests`, at the member with less `load` of the two that it draws.
    pub(super) fn begin(table: &Table, place: Place, load: impl Fn(usize) -> u32) -> Self {
        // A place may come from another table of a fleet that changes.
        let slot = place.slot as usize % table.places().max(1);
        let (start, mark) = match table.algorithm() {
            Algorithm::Rendezvous { .. } | Algorithm::Ring { .. } | Algorithm::Maglev { .. } => {
                (slot, 0)
            }
            Algorithm::RoundRobin => (slot, 1),
            Algorithm::LeastRequests => two_choices(slot, place.hash, table.members().len(), load),
        };
        Self { start, offered: 0, mark }
    }

    /// The next member, as an index into [`Table::members`].
    pub fn next(&mut self, table: &Table) -> Option<usize> {
        let members = table.members().len();
        if self.offered == members {
            return None;
        }
        let member = match table.order() {
            Order::Weight { seeds } => self.next_by_weight(seeds, table)?,
            Order::Clockwise { back } => self.next_clockwise(back, table)?,
            Order::Rotation => self.next_in_rotation(members),
        };
        self.offered += 1;
        Some(member)
    }

    fn next_by_weight(&mut self, seeds: &[u64], table: &Table) -> Option<usize> {
        let member = match self.offered {
            0 => table.slot_owner(self.start),
            _ => rendezvous::next_lighter(seeds, self.start as u32, self.mark),
        }?;
        self.mark = member;
        Some(member)
    }

    fn next_clockwise(&mut self, back: &[u32], table: &Table) -> Option<usize> {
        let slot_after = |passed| (self.start + passed) % back.len();
        // Who has another slot among those passed was met there.
        let is_first = |&passed: &usize| back[slot_after(passed)] as usize > passed;
        let passed = (self.mark..back.len()).find(is_first)?;
        let member = table.slot_owner(slot_after(passed));
        self.mark = passed + 1;
        member
    }

    fn next_in_rotation(&self, members: usize) -> usize {
        let second = self.mark;
        let distance = match self.offered {
            0 => 0,
            1 => second,
            step if step <= second => step - 1,
            step => step,
        };
        (self.start + distance) % members
    }
}

/// The less loaded of two members, `one` and another drawn by `hash`, with `one` before the other if they
/// are equal; and how far from it the one not taken is.
fn two_choices(
    one: usize,
    hash: u64,
    members: usize,
    load: impl Fn(usize) -> u32,
) -> (usize, usize) {
    if members < 2 {
        return (one, 0);
    }
    // `hash` modulo the members drew `one`; what is left of it draws from the others.
    let (count, others) = (members as u64, members as u64 - 1);
    let distance = 1 + (hash / count % others) as usize;
    let other = (one + distance) % members;
    if load(other) < load(one) { (other, members - distance) } else { (one, distance) }
}

/// The members in the order in which they are offered for a place: each once.
#[derive(Clone, Debug)]
pub struct Candidates<'a> {
    table: &'a Table,
    walk: Walk,
}

impl<'a> Candidates<'a> {
    pub(super) fn new(table: &'a Table, walk: Walk) -> Self {
        Self { table, walk }
    }
}

impl Iterator for Candidates<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.walk.next(self.table)
    }
}
