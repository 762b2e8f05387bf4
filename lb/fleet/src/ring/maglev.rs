//! Maglev's table: members in turn claim the first free slot of their own permutation of the slots.
//!
//! Source: Eisenbud et al., "Maglev: a fast and reliable software network load balancer" (NSDI 2016), §3.4.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Member;

const FREE: u16 = u16::MAX;

/// Who claims each of `slots` slots, a prime number of them; `members` must not be empty.
pub(super) fn owners(members: &[Member], slots: u32) -> Box<[u16]> {
    claim(members.iter().map(|member| Permutation::of(member, slots)).collect(), slots)
}

fn claim(mut permutations: Vec<Permutation>, slots: u32) -> Box<[u16]> {
    let mut owners: Box<[u16]> = vec![FREE; slots as usize].into();
    let turns = (0..permutations.len()).cycle();
    for index in turns.take(slots as usize) {
        let slot = permutations[index].find(|&slot| owners[slot] == FREE);
        owners[slot.expect("a permutation reaches every slot")] = index as u16;
    }
    owners
}

/// `offset`, `offset + skip`, `offset + 2 skip`, …: every slot once, as their number is prime.
struct Permutation {
    next: u64,
    skip: u64,
    slots: u64,
}

impl Permutation {
    fn of(member: &Member, slots: u32) -> Self {
        let hash = |seed| xxh3_64_with_seed(member.name.as_str().as_bytes(), seed);
        let slots = u64::from(slots);
        Self { next: hash(0) % slots, skip: hash(1) % (slots - 1) + 1, slots }
    }
}

impl Iterator for Permutation {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let slot = self.next;
        self.next = (slot + self.skip) % self.slots;
        Some(slot as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::ReplicaName;

    fn members(count: u32) -> Vec<Member> {
        let named = |number| Member { name: ReplicaName::generated(number), number };
        (1..=count).map(named).collect()
    }

    #[test]
    fn members_own_as_many_slots_as_each_other_give_or_take_one() {
        for (count, slots) in [(1, 2), (2, 2), (3, 7), (10, 1_009), (7, 65_537)] {
            let owners = owners(&members(count), slots);
            for index in 0..count as u16 {
                let owned = owners.iter().filter(|&&owner| owner == index).count() as u32;
                assert!((slots / count..=slots.div_ceil(count)).contains(&owned));
            }
        }
    }

    #[test]
    fn a_permutation_visits_every_slot_once() {
        for member in members(20) {
            let mut visited: Vec<usize> = Permutation::of(&member, 31).take(31).collect();
            visited.sort_unstable();
            assert!(visited.into_iter().eq(0..31), "{}", member.name);
        }
    }

    #[test]
    fn the_example_of_the_paper() {
        // Table 1: three backends, seven slots; then the second backend is gone.
        let [b0, b1, b2] = [(3, 4), (0, 2), (3, 1)];
        let claimed = |preferences: &[(u64, u64)]| {
            let permutation = |&(next, skip)| Permutation { next, skip, slots: 7 };
            claim(preferences.iter().map(permutation).collect(), 7)
        };
        assert_eq!(*claimed(&[b0, b1, b2]), [1, 0, 1, 0, 2, 2, 0]);
        assert_eq!(*claimed(&[b0, b2]), [0, 0, 0, 0, 1, 1, 1]);
    }
}
