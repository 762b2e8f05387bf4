//! Where requests and virtual servers land: H(i) and Φ(i, j).
//!
//! All arithmetic is exact. A request's number has at most nine digits, so H(i) fits in 64 bits; Φ is a
//! polynomial, so a member's number may be reduced modulo the slots before it is squared.

use std::ops::Range;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::Member;

/// Which functions say where requests and virtual servers land on the ring.
///
/// The request's number i is the key, if it is a decimal number of at most nine digits; other keys are
/// hashed to a number of six digits. The server's i is [`Member::number`], j counts its virtual servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hashes {
    /// H(i) = i² + 2i + 17, Φ(i, j) = i² + j² + 2j + 25. Skewed: H(i) = (i + 1)² + 16, and few slots are
    /// 16 above a square (87 of 512).
    Classic,
    /// H(i) = 3i, Φ(i, j) = i² + 4j. H reaches every slot unless 3 divides their number.
    Modular,
    /// XXH3 of the key; XXH3 of the server's name, seeded with j. Numbers play no part.
    Xxh3,
}

const SIX_DIGITS: Range<u64> = 100_000..1_000_000;

impl Hashes {
    /// The hash of a request's key.
    pub(super) fn key(self, key: &[u8]) -> u64 {
        self.request(match self {
            Self::Classic | Self::Modular => number(key),
            Self::Xxh3 => xxh3_64(key),
        })
    }

    /// H(i). With XXH3, i is a hash already.
    pub(super) fn request(self, i: u64) -> u64 {
        match self {
            Self::Classic => i * i + 2 * i + 17,
            Self::Modular => 3 * i,
            Self::Xxh3 => i,
        }
    }

    /// The slot of Φ(i, j): of virtual server `j` of `member`, among `slots`.
    pub(super) fn virtual_server(self, member: &Member, j: u32, slots: u32) -> u32 {
        let (i, slots, j) = (u64::from(member.number), u64::from(slots), u64::from(j));
        let i = i % slots;
        let hash = match self {
            Self::Classic => i * i + j * j + 2 * j + 25,
            Self::Modular => i * i + 4 * j,
            Self::Xxh3 => xxh3_64_with_seed(member.name.as_str().as_bytes(), j),
        };
        (hash % slots) as u32
    }

    /// Whether servers are told apart by number rather than by name.
    pub(super) fn use_numbers(self) -> bool {
        match self {
            Self::Classic | Self::Modular => true,
            Self::Xxh3 => false,
        }
    }
}

/// The request's number: the key itself, if it is one.
fn number(key: &[u8]) -> u64 {
    const DIGITS_MAX: usize = 9;
    if (1..=DIGITS_MAX).contains(&key.len()) && key.iter().all(u8::is_ascii_digit) {
        key.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
    } else {
        SIX_DIGITS.start + xxh3_64(key) % (SIX_DIGITS.end - SIX_DIGITS.start)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::name::ReplicaName;

    const SLOTS: u32 = 512;

    fn phi(hashes: Hashes, number: u32, j: u32) -> u32 {
        let name = ReplicaName::generated(number);
        hashes.virtual_server(&Member { name, number }, j, SLOTS)
    }

    #[test]
    fn requests_land_where_the_classic_scheme_says() {
        for (key, hash, slot) in [("132574", 132_575 * 132_575 + 16, 81), ("12", 185, 185)] {
            assert_eq!(Hashes::Classic.key(key.as_bytes()), hash);
            assert_eq!(hash % u64::from(SLOTS), slot);
        }
        assert_eq!(Hashes::Modular.key(b"132574"), 397_722);
    }

    #[test]
    fn virtual_servers_land_where_the_classic_scheme_says() {
        assert_eq!(phi(Hashes::Classic, 1, 0), 1 + 25);
        assert_eq!(phi(Hashes::Classic, 1, 8), 106);
        assert_eq!(phi(Hashes::Classic, 3, 8), 114);
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 6, 7, 8].map(|j| phi(Hashes::Classic, 4321, j)),
            [474, 477, 482, 489, 498, 509, 10, 25, 42]
        );
        assert_eq!(phi(Hashes::Modular, 3, 8), 9 + 32);
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let slots = (1 << 24) - 1;
        let member = Member { name: ReplicaName::generated(1), number: u32::MAX };
        // 2^32 - 1 is 255 modulo 2^24 - 1, and j = slots - 1 is -1.
        let phi = |hashes: Hashes| hashes.virtual_server(&member, slots - 1, slots);
        assert_eq!(phi(Hashes::Classic), 255 * 255 + 1 - 2 + 25);
        assert_eq!(phi(Hashes::Modular), 255 * 255 - 4);
        assert_eq!(Hashes::Classic.key(b"999999999"), 1_000_000_000_000_000_016);
    }

    #[test]
    fn a_key_is_a_number_or_is_hashed_to_six_digits() {
        assert_eq!(number(b"007"), 7);
        for key in ["", "+7", "7.0", "alice", "1234567890", "٣"] {
            assert!(SIX_DIGITS.contains(&number(key.as_bytes())), "{key:?}");
        }
    }

    #[test]
    fn the_classic_hash_reaches_87_of_512_slots() {
        let reached: BTreeSet<u64> = (0..512).map(|i| Hashes::Classic.request(i) % 512).collect();
        assert_eq!(reached.len(), 87);
    }
}
