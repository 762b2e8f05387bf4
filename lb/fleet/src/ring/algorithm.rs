//! The ways to choose a replica, and the limits within which each can.

use super::{circle::Probing, hashes::Hashes};
use crate::name::ReplicaName;

/// How a replica is chosen for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Each slot belongs to the member with the highest hash(name, slot): even, and a change of the
    /// members moves only the slots it must.
    ///
    /// Source: Thaler and Ravishankar, "A name-based mapping scheme for rendezvous" (1996).
    Rendezvous {
        /// How many slots.
        slots: u32,
    },
    /// Each member has several virtual servers on a circle of slots; a key goes clockwise to the next.
    ///
    /// Source: Karger et al., "Consistent hashing and random trees" (STOC 1997).
    Ring {
        /// How many slots.
        slots: u32,
        /// How many of them each member occupies.
        virtual_nodes: u32,
        /// Where requests and virtual servers land.
        hashes: Hashes,
        /// Where a virtual server goes if its slot is taken.
        probing: Probing,
    },
    /// Members take turns in claiming slots, each after its own permutation of them.
    ///
    /// Source: Eisenbud et al., "Maglev" (NSDI 2016), §3.4.
    Maglev {
        /// How many slots: a prime.
        slots: u32,
    },
    /// Each member in turn, whatever the key.
    RoundRobin,
    /// The less loaded of two drawn at random, whatever the key.
    ///
    /// Source: Mitzenmacher, "The power of two choices in randomized load balancing" (2001).
    LeastRequests,
}

impl Algorithm {
    /// Slots of a rendezvous table unless configured.
    pub const RENDEZVOUS_SLOTS: u32 = 65_536;
    /// Slots of a ring unless configured.
    pub const RING_SLOTS: u32 = 512;
    /// Virtual servers of each member on a ring unless configured.
    pub const RING_VIRTUAL_NODES: u32 = 9;
    /// Slots of a Maglev table unless configured.
    pub const MAGLEV_SLOTS: u32 = 65_537;
    /// The most slots of any table: they take 100 MB, and are few enough that the polynomials of
    /// [`Hashes`] cannot overflow.
    pub const SLOTS_MAX: u32 = 1 << 24;
    /// The most members of any table: an owner is stored in 16 bits.
    pub const MEMBERS_MAX: usize = u16::MAX as usize;

    /// What the configuration calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Rendezvous { .. } => "rendezvous",
            Self::Ring { .. } => "ring",
            Self::Maglev { .. } => "maglev",
            Self::RoundRobin => "round_robin",
            Self::LeastRequests => "least_requests",
        }
    }

    /// Whether the key decides; otherwise a ticket does.
    pub fn is_keyed(&self) -> bool {
        match self {
            Self::Rendezvous { .. } | Self::Ring { .. } | Self::Maglev { .. } => true,
            Self::RoundRobin | Self::LeastRequests => false,
        }
    }

    /// Whether a table with this many members can be built.
    pub fn check(&self, members: usize) -> Result<(), TableError> {
        if members > Self::MEMBERS_MAX {
            return Err(TableError::TooManyMembers { members });
        }
        match *self {
            Self::Rendezvous { slots } => check_room(members, 1, slots),
            Self::Ring { slots, virtual_nodes, .. } => check_room(members, virtual_nodes, slots),
            Self::Maglev { slots } => {
                check_room(members, 1, slots)?;
                if !is_prime(slots) {
                    return Err(TableError::SlotsNotPrime { slots, prime: next_prime(slots) });
                }
                Ok(())
            }
            Self::RoundRobin | Self::LeastRequests => Ok(()),
        }
    }

    /// The hashes that say where a key lands.
    pub(super) fn hashes(&self) -> Hashes {
        match *self {
            Self::Ring { hashes, .. } => hashes,
            Self::Rendezvous { .. }
            | Self::Maglev { .. }
            | Self::RoundRobin
            | Self::LeastRequests => Hashes::Xxh3,
        }
    }
}

impl Default for Algorithm {
    fn default() -> Self {
        Self::Rendezvous { slots: Self::RENDEZVOUS_SLOTS }
    }
}

/// Why a table cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// No slots, or more than memory is set aside for.
    #[error("slots ({slots}) must be from 1 to {}", Algorithm::SLOTS_MAX)]
    Slots {
        /// As asked for.
        slots: u32,
    },
    /// No virtual servers, or more than there are slots.
    #[error("virtual_nodes ({virtual_nodes}) must be from 1 to slots ({slots})")]
    VirtualNodes {
        /// As asked for.
        virtual_nodes: u32,
        /// As asked for.
        slots: u32,
    },
    /// Maglev's permutations reach every slot only if their number is prime.
    #[error("slots ({slots}) must be prime for maglev: {prime} is the next")]
    SlotsNotPrime {
        /// As asked for.
        slots: u32,
        /// The next prime.
        prime: u32,
    },
    /// Not every member can have its slots.
    #[error(
        "replicas ({members}) must be at most {}: each needs {virtual_nodes} of the {slots} slots",
        .slots / .virtual_nodes
    )]
    Crowded {
        /// As asked for.
        members: usize,
        /// Slots that each member needs: 1 for all but the ring.
        virtual_nodes: u32,
        /// As asked for.
        slots: u32,
    },
    /// More than an owner's 16 bits can tell apart.
    #[error("replicas ({members}) must be at most {}", Algorithm::MEMBERS_MAX)]
    TooManyMembers {
        /// As asked for.
        members: usize,
    },
    /// Two members with one name.
    #[error("replica {name} is in the table already: names must be unique")]
    Duplicate {
        /// The name.
        name: ReplicaName,
    },
}

fn check_room(members: usize, virtual_nodes: u32, slots: u32) -> Result<(), TableError> {
    if !(1..=Algorithm::SLOTS_MAX).contains(&slots) {
        return Err(TableError::Slots { slots });
    }
    if !(1..=slots).contains(&virtual_nodes) {
        return Err(TableError::VirtualNodes { virtual_nodes, slots });
    }
    if members > (slots / virtual_nodes) as usize {
        return Err(TableError::Crowded { members, virtual_nodes, slots });
    }
    Ok(())
}

fn next_prime(number: u32) -> u32 {
    let mut candidates = number..;
    candidates
        .find(|&candidate| is_prime(candidate))
        .expect("slots are at most 2^24, and there are primes between that and 2^32")
}

fn is_prime(number: u32) -> bool {
    let mut divisors = (2..).take_while(|divisor| divisor * divisor <= number);
    number >= 2 && divisors.all(|divisor| !number.is_multiple_of(divisor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(slots: u32, virtual_nodes: u32) -> Algorithm {
        Algorithm::Ring { slots, virtual_nodes, hashes: Hashes::Xxh3, probing: Probing::Linear }
    }

    #[test]
    fn what_cannot_be_built_is_refused_with_its_numbers() {
        let maglev = |slots| Algorithm::Maglev { slots };
        let rendezvous = |slots| Algorithm::Rendezvous { slots };
        for (algorithm, members, error) in [
            (rendezvous(0), 0, "slots (0) must be from 1 to 16777216"),
            (rendezvous(16_777_217), 0, "slots (16777217) must be from 1 to 16777216"),
            (rendezvous(4), 5, "replicas (5) must be at most 4: each needs 1 of the 4 slots"),
            (ring(512, 0), 0, "virtual_nodes (0) must be from 1 to slots (512)"),
            (ring(8, 9), 0, "virtual_nodes (9) must be from 1 to slots (8)"),
            (ring(512, 9), 57, "replicas (57) must be at most 56: each needs 9 of the 512 slots"),
            (maglev(65_536), 0, "slots (65536) must be prime for maglev: 65537 is the next"),
            (maglev(1), 0, "slots (1) must be prime for maglev: 2 is the next"),
            (maglev(3), 4, "replicas (4) must be at most 3: each needs 1 of the 3 slots"),
            (Algorithm::RoundRobin, 65_536, "replicas (65536) must be at most 65535"),
        ] {
            let refused = algorithm.check(members).unwrap_err();
            assert_eq!(refused.to_string(), error, "{algorithm:?}");
        }
    }

    #[test]
    fn what_just_fits_is_accepted() {
        for (algorithm, members) in [
            (Algorithm::default(), Algorithm::MEMBERS_MAX),
            (Algorithm::Rendezvous { slots: 1 }, 1),
            (ring(512, 9), 56),
            (ring(9, 9), 1),
            (Algorithm::Maglev { slots: 2 }, 2),
            (Algorithm::Maglev { slots: Algorithm::MAGLEV_SLOTS }, 0),
            (Algorithm::LeastRequests, Algorithm::MEMBERS_MAX),
        ] {
            assert_eq!(algorithm.check(members), Ok(()), "{algorithm:?}");
        }
    }
}
