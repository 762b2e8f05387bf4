//! Rendezvous hashing: each slot belongs to the member with the highest weight there.
//!
//! The weights of a member depend on its own name only. So who joins takes slots, who leaves gives slots,
//! and nothing moves between the others; and the next candidate is the next lower weight.

use std::cmp::{Ordering, Reverse};

use xxhash_rust::xxh3::xxh3_64;

use crate::name::ReplicaName;

/// What the weights of one name are made from.
pub(super) fn seed(name: &ReplicaName) -> u64 {
    xxh3_64(name.as_str().as_bytes())
}

/// The heaviest member of each of `slots` slots; `seeds` must not be empty.
pub(super) fn owners(seeds: &[u64], slots: u32) -> Box<[u16]> {
    (0..slots).map(|slot| heaviest(seeds, slot) as u16).collect()
}

/// The owners once a member joined at index `at`; `seeds` are those with it.
pub(super) fn owners_with(owners: &[u16], seeds: &[u64], at: usize) -> Box<[u16]> {
    let owner_with = |(slot, &owner): (u32, &u16)| {
        let owner = usize::from(owner);
        let owner = if owner < at { owner } else { owner + 1 };
        rank(seeds, slot, at).max(rank(seeds, slot, owner)).1.0 as u16
    };
    (0..).zip(owners).map(owner_with).collect()
}

/// The owners once the member at index `at` left; `seeds` are those without it, and not empty.
pub(super) fn owners_without(owners: &[u16], seeds: &[u64], at: usize) -> Box<[u16]> {
    let owner_without = |(slot, &owner): (u32, &u16)| match usize::from(owner).cmp(&at) {
        Ordering::Less => owner,
        Ordering::Equal => heaviest(seeds, slot) as u16,
        Ordering::Greater => owner - 1,
    };
    (0..).zip(owners).map(owner_without).collect()
}

/// The heaviest member of `slot` among those lighter than member `last`.
pub(super) fn next_lighter(seeds: &[u64], slot: u32, last: usize) -> Option<usize> {
    let limit = rank(seeds, slot, last);
    let ranks = (0..seeds.len()).map(|index| rank(seeds, slot, index));
    ranks.filter(|rank| *rank < limit).max().map(|(_, Reverse(index))| index)
}

fn heaviest(seeds: &[u64], slot: u32) -> usize {
    // Of equally heavy members `max_by_key` takes the last it meets, so they come in reverse.
    let by_weight = seeds.iter().enumerate().rev().max_by_key(|&(_, &seed)| weight(seed, slot));
    by_weight.expect("owners are asked for only where members are").0
}

/// Orders the members of a slot: by weight, then the earlier name first.
fn rank(seeds: &[u64], slot: u32, index: usize) -> (u64, Reverse<usize>) {
    (weight(seeds[index], slot), Reverse(index))
}

/// Number `slot` of the SplitMix64 sequence that starts at `seed`.
///
/// Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014).
fn weight(seed: u64, slot: u32) -> u64 {
    const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut mixed = seed.wrapping_add((u64::from(slot) + 1).wrapping_mul(GOLDEN_GAMMA));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_those_of_splitmix64() {
        // The first outputs for the seed 1234567 of the reference implementation (Vigna, splitmix64.c).
        let expected =
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([0, 1, 2].map(|slot| weight(1_234_567, slot)), expected);
    }

    #[test]
    fn equal_weights_are_ordered_by_index() {
        let seeds = [7; 3];
        assert_eq!(heaviest(&seeds, 0), 0);
        assert_eq!(next_lighter(&seeds, 0, 0), Some(1));
        assert_eq!(next_lighter(&seeds, 0, 1), Some(2));
        assert_eq!(next_lighter(&seeds, 0, 2), None);
        assert_eq!(*owners_with(&[0, 1], &seeds, 0), [0, 0]);
    }
}
