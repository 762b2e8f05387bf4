//! The classic ring: several virtual servers for each member on a circle of slots.
//!
//! Members place their virtual servers one after the other, in the order of the table. Where two want the
//! same slot the later one gives way, and so the removal of one member can move slots of others:
//! `tests/ring_costs.rs` measures how many.

use super::{Hashes, Member};

/// Where a virtual server goes if its slot is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probing {
    /// To the next free slot.
    Linear,
    /// 1, 3, 6, 10, … slots onward: the triangular numbers reach every slot if their number is a power of
    /// two. If it isn't and as many tries as slots were in vain, to the next free slot.
    Quadratic,
}

impl Probing {
    fn free_slot(self, home: u32, taken: &[Option<u16>]) -> usize {
        let slots = taken.len() as u64;
        let onward = |steps: u64| ((u64::from(home) + steps) % slots) as usize;
        let mut linear = (0..slots).map(onward);
        let mut quadratic = (0..slots).map(|step| onward(step * (step + 1) / 2));
        let is_free = |&slot: &usize| taken[slot].is_none();
        match self {
            Self::Linear => linear.find(is_free),
            Self::Quadratic => quadratic.find(is_free).or_else(|| linear.find(is_free)),
        }
        .expect("Algorithm::check leaves a slot for each virtual server")
    }
}

/// Who serves a key that lands in each of the slots: the next virtual server clockwise, the slot's own
/// included. `members` must not be empty.
pub(super) fn owners(
    members: &[Member],
    slots: u32,
    virtual_nodes: u32,
    hashes: Hashes,
    probing: Probing,
) -> Box<[u16]> {
    let mut taken = vec![None; slots as usize];
    for (index, member) in (0..).zip(members) {
        for j in 0..virtual_nodes {
            let home = hashes.virtual_server(member, j, slots);
            let slot = probing.free_slot(home, &taken);
            taken[slot] = Some(index);
        }
    }
    let mut next = *taken.iter().flatten().next().expect("each member has a virtual server");
    let mut owners: Box<[u16]> = vec![next; taken.len()].into();
    for (owner, own) in owners.iter_mut().zip(taken).rev() {
        next = own.unwrap_or(next);
        *owner = next;
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::ReplicaName;

    fn members(numbers: impl IntoIterator<Item = u32>) -> Vec<Member> {
        let named = |number| Member { name: ReplicaName::generated(number), number };
        numbers.into_iter().map(named).collect()
    }

    #[test]
    fn a_key_goes_clockwise_to_the_next_virtual_server() {
        // Φ(1, 0) = 26 = 6 and Φ(2, 0) = 29 = 9 modulo 10; past 9 the circle begins again.
        let owners = owners(&members([1, 2]), 10, 1, Hashes::Classic, Probing::Linear);
        assert_eq!(*owners, [0, 0, 0, 0, 0, 0, 0, 1, 1, 1]);
    }

    #[test]
    fn probing_goes_on_from_the_home_slot() {
        let mut taken = [None; 8];
        taken[6] = Some(0);
        taken[7] = Some(0);
        assert_eq!(Probing::Linear.free_slot(6, &taken), 0);
        assert_eq!(Probing::Quadratic.free_slot(6, &taken), 1);
        assert_eq!(Probing::Quadratic.free_slot(5, &taken), 5);
    }

    #[test]
    fn probing_finds_the_only_free_slot() {
        for slots in 1..40 {
            for free in 0..slots {
                let mut taken = vec![Some(0); slots];
                taken[free] = None;
                for probing in [Probing::Linear, Probing::Quadratic] {
                    for home in 0..slots as u32 {
                        assert_eq!(probing.free_slot(home, &taken), free, "{probing:?} of {slots}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_full_circle_has_room_for_everyone() {
        for probing in [Probing::Linear, Probing::Quadratic] {
            let owners = owners(&members(1..=10), 30, 3, Hashes::Modular, probing);
            for index in 0..10 {
                assert_eq!(owners.iter().filter(|&&owner| owner == index).count(), 3);
            }
        }
    }
}
