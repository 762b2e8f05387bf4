//! Why some hash functions are uneven on the ring, by counting: every request id there is, not a sample.

use std::{collections::BTreeSet, fmt};

use ringmaster_fleet::{Algorithm, Hashes, Member, Probing, ReplicaName, Table};
use serde::{Deserialize, Serialize};

use crate::request_id::REQUEST_IDS;

/// What one pair of hash functions does with three replicas on the ring of the default size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Skew {
    pub(super) hashes: String,
    pub(super) slots: u32,
    /// Slots that any request can reach.
    pub(super) reached: usize,
    /// Requests out of 10,000 that each replica can expect.
    pub(super) expected: Vec<f64>,
}

const REPLICAS: u32 = 3;

impl Skew {
    pub(super) fn of_all() -> anyhow::Result<Vec<Self>> {
        [("classic", Hashes::Classic), ("modular", Hashes::Modular), ("xxh3", Hashes::Xxh3)]
            .into_iter()
            .map(|(name, hashes)| Self::of(name, hashes))
            .collect()
    }

    fn of(name: &str, hashes: Hashes) -> anyhow::Result<Self> {
        let slots = Algorithm::RING_SLOTS;
        let algorithm = Algorithm::Ring {
            slots,
            virtual_nodes: Algorithm::RING_VIRTUAL_NODES,
            hashes,
            probing: Probing::Linear,
        };
        let members =
            (1..=REPLICAS).map(|number| Member { name: ReplicaName::generated(number), number });
        let table = Table::build(&algorithm, members)?;
        let mut reached = BTreeSet::new();
        let mut requests = vec![0_u64; REPLICAS as usize];
        for id in REQUEST_IDS {
            let place = table.locate(id.to_string().as_bytes());
            reached.insert(place.slot);
            if let Some(owner) = table.candidates(place).next() {
                requests[owner] += 1;
            }
        }
        let all = REQUEST_IDS.count() as f64;
        let expected = requests.into_iter().map(|it| it as f64 * 10_000.0 / all).collect();
        Ok(Self { hashes: name.into(), slots, reached: reached.len(), expected })
    }
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hashes, slots, reached, expected } = self;
        let expected: Vec<String> = expected.iter().map(|it| format!("{it:.1}")).collect();
        write!(
            f,
            "{hashes}: requests reach {reached} of {slots} slots; of 10,000 the replicas can expect {}",
            expected.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classic_pair_reaches_few_slots() {
        let classic = Skew::of("classic", Hashes::Classic).unwrap();
        assert_eq!((classic.slots, classic.reached), (512, 87));
        for (found, expected) in classic.expected.iter().zip([8437.5, 468.7, 1093.8]) {
            assert!((found - expected).abs() < 1.0, "{classic}");
        }
        assert_eq!(Skew::of("modular", Hashes::Modular).unwrap().reached, 512);
    }
}
