//! What holds for every table, whatever its members and keys.

use std::collections::BTreeSet;

use proptest::prelude::*;
use ringmaster_fleet::{Algorithm, Hashes, Member, Plan, Probing, ReplicaName, Table, TableError};

fn ring(slots: u32, hashes: Hashes, probing: Probing) -> Algorithm {
    Algorithm::Ring { slots, virtual_nodes: 9, hashes, probing }
}

/// Every algorithm, and every kind of ring; room for 400 members.
fn algorithms() -> Vec<Algorithm> {
    let mut algorithms = vec![
        Algorithm::Rendezvous { slots: 1_021 },
        Algorithm::Maglev { slots: 1_021 },
        Algorithm::RoundRobin,
        Algorithm::LeastRequests,
    ];
    for hashes in [Hashes::Classic, Hashes::Modular, Hashes::Xxh3] {
        algorithms.push(ring(4_096, hashes, Probing::Linear));
        algorithms.push(ring(3_601, hashes, Probing::Quadratic));
    }
    algorithms
}

fn member(number: u32) -> Member {
    Member { name: ReplicaName::generated(number), number }
}

fn table(algorithm: Algorithm, numbers: impl IntoIterator<Item = u32>) -> Table {
    Table::build(&algorithm, numbers.into_iter().map(member)).expect("the members fit")
}

fn any_algorithm() -> impl Strategy<Value = Algorithm> {
    prop::sample::select(algorithms())
}

/// One to 40 members, in no order.
fn numbers() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::hash_set(1_u32..100_000, 1..40).prop_map(Vec::from_iter)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_joining_never_matters(algorithm in any_algorithm(), numbers in numbers()) {
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        prop_assert_eq!(table(algorithm, numbers), table(algorithm, sorted));
    }

    #[test]
    fn a_change_equals_a_new_build(
        algorithm in any_algorithm(),
        numbers in numbers(),
        joins in prop::collection::vec(100_000_u32..100_004, 0..4),
        leaves in any::<prop::sample::Index>(),
    ) {
        let mut members: BTreeSet<u32> = numbers.iter().copied().collect();
        let mut changed = table(algorithm, numbers.iter().copied());
        for number in joins {
            if members.insert(number) {
                changed = changed.with(member(number)).unwrap();
            } else {
                let name = ReplicaName::generated(number);
                prop_assert_eq!(changed.with(member(number)), Err(TableError::Duplicate { name }));
            }
            prop_assert_eq!(&changed, &table(algorithm, members.iter().copied()));
        }
        let leaver = numbers[leaves.index(numbers.len())];
        members.remove(&leaver);
        changed = changed.without(&ReplicaName::generated(leaver));
        prop_assert_eq!(&changed, &table(algorithm, members));
        prop_assert_eq!(&changed, &changed.without(&ReplicaName::generated(leaver)));
    }

    #[test]
    fn candidates_are_a_permutation(
        algorithm in any_algorithm(),
        numbers in numbers(),
        ticket: u64,
        key: Vec<u8>,
    ) {
        let table = table(algorithm, numbers);
        for place in [table.locate(&key), table.locate_ticket(ticket)] {
            let mut candidates: Vec<usize> = table.candidates(place).collect();
            if algorithm.is_keyed() {
                prop_assert_eq!(candidates.first().copied(), table.slot_owner(place.slot as usize));
            }
            candidates.sort_unstable();
            prop_assert!(candidates.into_iter().eq(0..table.members().len()));
        }
    }

    #[test]
    fn first_is_the_first_accepted_candidate(
        algorithm in any_algorithm(),
        numbers in numbers(),
        ticket: u64,
        accepted: [bool; 40],
    ) {
        let table = table(algorithm, numbers);
        let place = table.locate_ticket(ticket);
        let candidates: Vec<usize> = table.candidates(place).collect();
        let mut asked = Vec::new();
        let first = table.first(place, |_| 0, |index| {
            asked.push(index);
            accepted[index]
        });
        prop_assert_eq!(first, candidates.iter().copied().find(|&index| accepted[index]));
        let asked_last = candidates.iter().position(|&index| accepted[index]).unwrap_or(candidates.len() - 1);
        prop_assert_eq!(&asked[..], &candidates[..=asked_last]);
    }

    /// So a failure sends each key where a removal would, and only keys of the removed one move.
    #[test]
    fn without_a_member_its_keys_go_to_their_next_candidates(
        numbers in numbers(),
        removed in any::<prop::sample::Index>(),
        key: Vec<u8>,
    ) {
        let before = table(Algorithm::Rendezvous { slots: 1_021 }, numbers);
        let removed = &before.members()[removed.index(before.members().len())].name;
        let after = before.without(removed);
        let names = |table: &Table| -> Vec<ReplicaName> {
            let candidates = table.candidates(table.locate(&key));
            candidates.map(|index| table.members()[index].name.clone()).collect()
        };
        let mut remaining = names(&before);
        remaining.retain(|name| name != removed);
        prop_assert_eq!(names(&after), remaining);
    }

    #[test]
    fn rendezvous_moves_nothing_between_survivors(before in numbers(), after in numbers()) {
        let algorithm = Algorithm::Rendezvous { slots: 1_021 };
        let plan = Plan::between(&table(algorithm, before), &table(algorithm, after));
        prop_assert_eq!(plan.between_survivors, 0.0);
    }

    #[test]
    fn shares_sum_to_one(algorithm in any_algorithm(), numbers in numbers()) {
        let table = table(algorithm, numbers);
        prop_assert!((table.shares().iter().sum::<f64>() - 1.0).abs() < 1e-9);
        prop_assert_eq!(table.slots_per_member().iter().sum::<usize>(), table.slots());
    }

    #[test]
    fn a_place_of_another_table_is_no_reason_to_panic(
        algorithm in any_algorithm(),
        numbers in numbers(),
        ticket: u64,
    ) {
        let other = table(Algorithm::Rendezvous { slots: 5_000 }, [1]);
        let table = table(algorithm, numbers);
        let offered = table.candidates(other.locate_ticket(ticket)).count();
        prop_assert_eq!(offered, table.members().len());
    }
}

#[test]
fn the_last_of_300_is_found_when_all_others_refuse() {
    for algorithm in algorithms() {
        let table = table(algorithm, 1..=300);
        for last in [0, 1, 150, 298, 299] {
            for key in ["alice", "132574", ""] {
                let mut asked = 0;
                let first = table.first(
                    table.locate(key.as_bytes()),
                    |_| 0,
                    |index| {
                        asked += 1;
                        index == last
                    },
                );
                assert_eq!(first, Some(last), "{algorithm:?}");
                assert!(asked <= 300, "{algorithm:?} asked {asked} times");
            }
        }
    }
}

#[test]
fn an_empty_table_has_nobody_to_offer() {
    for algorithm in algorithms() {
        let empty = table(algorithm, []);
        assert_eq!(empty.first(empty.locate(b"alice"), |_| 0, |_| true), None);
        assert_eq!(empty.candidates(empty.locate_ticket(7)).next(), None);
        assert_eq!((empty.slots(), empty.slot_owner(0), empty.shares()), (0, None, vec![]));
        assert_eq!(empty.with(member(1)), Ok(table(algorithm, [1])));
        assert_eq!(table(algorithm, [1]).without(&ReplicaName::generated(1)), empty);
    }
}

#[test]
fn rendezvous_is_even() {
    for members in 2..=10 {
        let owned = table(Algorithm::default(), 1..=members).slots_per_member();
        let mean = f64::from(Algorithm::RENDEZVOUS_SLOTS) / f64::from(members);
        let max = owned.into_iter().max().unwrap() as f64;
        assert!(max / mean <= 1.03, "{members} members: {}", max / mean);
    }
}

#[test]
fn the_classic_scheme_splits_as_skewed_as_it_is_known_to() {
    let classic = ring(Algorithm::RING_SLOTS, Hashes::Classic, Probing::Linear);
    let table = table(classic, [1, 2, 3]);
    let expected = [8_437.5, 468.75, 1_093.75];
    assert_eq!(
        table.shares().into_iter().map(|share| share * 10_000.0).collect::<Vec<_>>(),
        expected
    );

    let mut served = [0_u32; 3];
    let mut state = 1_u64;
    for _ in 0..10_000 {
        // Knuth's MMIX generator: the upper half of its state is uniform enough to draw ids from.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let id = 100_000 + (state >> 32) % 900_000;
        let place = table.locate(id.to_string().as_bytes());
        served[table.first(place, |_| 0, |_| true).unwrap()] += 1;
    }
    for (served, expected) in served.into_iter().zip(expected) {
        let sigma = (expected * (1.0 - expected / 10_000.0)).sqrt();
        assert!(
            (f64::from(served) - expected).abs() < 3.0 * sigma,
            "{served} is not about {expected}"
        );
    }
}

#[test]
fn members_with_numbers_are_sorted_by_number_and_others_by_name() {
    let names = |algorithm| -> Vec<String> {
        let table = table(algorithm, [10, 2, 1]);
        table.members().iter().map(|member| member.name.to_string()).collect()
    };
    assert_eq!(
        names(ring(512, Hashes::Classic, Probing::Linear)),
        ["Server1", "Server2", "Server10"]
    );
    assert_eq!(names(ring(512, Hashes::Xxh3, Probing::Linear)), ["Server1", "Server10", "Server2"]);
}

#[test]
fn numbers_play_no_part_where_names_do() {
    let names = ["a", "b", "c"].map(|name| ReplicaName::parse(name).unwrap());
    let owners = |algorithm: &Algorithm, numbers: [u32; 3]| -> Vec<Option<usize>> {
        let members =
            names.iter().cloned().zip(numbers).map(|(name, number)| Member { name, number });
        let table = Table::build(algorithm, members).unwrap();
        (0..table.slots()).map(|slot| table.slot_owner(slot)).collect()
    };
    for algorithm in [
        Algorithm::default(),
        Algorithm::Maglev { slots: 1_021 },
        ring(512, Hashes::Xxh3, Probing::Linear),
    ] {
        assert_eq!(owners(&algorithm, [1, 2, 3]), owners(&algorithm, [9, 9, 1]), "{algorithm:?}");
    }
}

/// Balancers of different versions may serve the same replicas, and must agree on them.
#[test]
fn tables_stay_what_they_are() {
    for (algorithm, expected) in [
        (Algorithm::default(), [1, 3, 3, 2, 4, 5, 5, 3]),
        (Algorithm::Maglev { slots: Algorithm::MAGLEV_SLOTS }, [3, 5, 3, 1, 1, 4, 5, 3]),
        (ring(512, Hashes::Classic, Probing::Linear), [1, 2, 1, 2, 3, 5, 3, 5]),
        (ring(512, Hashes::Modular, Probing::Linear), [1, 2, 1, 2, 1, 2, 1, 3]),
        (ring(512, Hashes::Xxh3, Probing::Linear), [3, 5, 4, 5, 1, 2, 5, 3]),
    ] {
        let table = table(algorithm, 1..=5);
        let preferred: Vec<u32> = ["alice", "bob", "132574", "7"]
            .iter()
            .flat_map(|key| table.candidates(table.locate(key.as_bytes())).take(2))
            .map(|index| table.members()[index].number)
            .collect();
        assert_eq!(preferred, expected, "{algorithm:?}");
    }
}

#[test]
fn round_robin_is_even_and_fails_over_to_the_next() {
    let table = table(Algorithm::RoundRobin, 1..=3);
    let mut served = [0; 3];
    for ticket in 0..300 {
        served[table.first(table.locate_ticket(ticket), |_| 0, |_| true).unwrap()] += 1;
    }
    assert_eq!(served, [100; 3]);
    assert!(table.candidates(table.locate_ticket(u64::MAX)).eq([0, 1, 2]));
    assert!(table.candidates(table.locate_ticket(2)).eq([2, 0, 1]));
}

#[test]
fn least_requests_takes_the_less_loaded_of_two() {
    let table = table(Algorithm::LeastRequests, 1..=4);
    // 4 × 3 tickets draw each ordered pair once. With loads 0, 1, 2, 3 the less loaded of a pair of four
    // is member 0 for 6 of the 12, 1 for 4 and 2 for 2; the most loaded is never chosen.
    let mut chosen = [0; 4];
    for ticket in 0..12 {
        let place = table.locate_ticket(ticket);
        chosen[table.first(place, |index| index as u32, |_| true).unwrap()] += 1;
    }
    assert_eq!(chosen, [6, 4, 2, 0]);
}

#[test]
fn least_requests_offers_the_other_of_the_two_second() {
    let table = table(Algorithm::LeastRequests, 1..=5);
    // Ticket 6 draws 6 mod 5 = 1, and then the one 1 + 6 / 5 mod 4 = 2 further: 3.
    let place = table.locate_ticket(6);
    let offered = |load: &dyn Fn(usize) -> u32| {
        let mut offered = Vec::new();
        table.first(place, load, |index| {
            offered.push(index);
            false
        });
        offered
    };
    assert_eq!(offered(&|_| 0), [1, 3, 2, 4, 0]);
    assert_eq!(offered(&|index| u32::from(index == 1)), [3, 1, 4, 0, 2]);
    assert!(table.candidates(place).eq([1, 3, 2, 4, 0]));
}

#[test]
fn a_walk_goes_on_beside_a_shared_table() {
    for algorithm in algorithms() {
        let table = std::sync::Arc::new(table(algorithm, 1..=20));
        let place = table.locate(b"alice");
        let mut walk = table.walk(place);
        let walked: Vec<usize> = std::iter::from_fn(|| walk.next(&table)).collect();
        assert!(table.candidates(place).eq(walked));
        assert_eq!(walk.next(&table), None);
    }
}
