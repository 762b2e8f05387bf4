//! What a change of the members moves, counted before it is made.

use std::collections::{BTreeMap, BTreeSet};

use crate::{name::ReplicaName, ring::Table};

/// The difference between two tables of the same algorithm. Parts of the key space go from 0 to 1.
///
/// Where nothing is keyed, or on one side nobody is, no key has a home to move from or to: nothing moves.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Each member's part before the change, in the order of the table.
    pub before: Vec<(ReplicaName, f64)>,
    /// Each member's part after it.
    pub after: Vec<(ReplicaName, f64)>,
    /// The part whose first candidate is another one after the change.
    pub moved: f64,
    /// The least that any even table would move: k/(N+k) if k join N, k/N if k of N leave. If some join
    /// and others leave, the greater of (joining / members after) and (leaving / members before).
    pub ideal: f64,
    /// The part that moves although both its members are there before and after: 0 in an ideal table.
    pub between_survivors: f64,
    /// The moved parts, the greatest first.
    pub moves: Vec<Move>,
}

/// A part of the key space that moves.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    /// Who is its first candidate before the change.
    pub from: ReplicaName,
    /// Who is after it.
    pub to: ReplicaName,
    /// How great it is.
    pub share: f64,
}

impl Plan {
    /// What replacing the table `before` by the table `after` would move.
    pub fn between(before: &Table, after: &Table) -> Self {
        debug_assert_eq!(before.algorithm(), after.algorithm(), "slots must mean the same in both");
        let (was, will_be) = (names(before), names(after));
        let moves = moves(before, after);
        let among_survivors =
            moves.iter().filter(|step| will_be.contains(&step.from) && was.contains(&step.to));
        Self {
            before: named_shares(before),
            after: named_shares(after),
            moved: sum(moves.iter()),
            ideal: if before.slots().min(after.slots()) > 0 { ideal(&was, &will_be) } else { 0.0 },
            between_survivors: sum(among_survivors),
            moves,
        }
    }
}

/// Adds up from 0.0: `Iterator::sum` of nothing is -0.0, which people would get to see.
fn sum<'a>(moves: impl Iterator<Item = &'a Move>) -> f64 {
    moves.fold(0.0, |sum, step| sum + step.share)
}

fn names(table: &Table) -> BTreeSet<&ReplicaName> {
    table.members().iter().map(|member| &member.name).collect()
}

fn named_shares(table: &Table) -> Vec<(ReplicaName, f64)> {
    let names = table.members().iter().map(|member| member.name.clone());
    names.zip(table.shares()).collect()
}

/// How far it is from 1/N for each of the one to 1/N for each of the other (in total variation).
fn ideal(was: &BTreeSet<&ReplicaName>, will_be: &BTreeSet<&ReplicaName>) -> f64 {
    let joining = will_be.difference(was).count() as f64 / will_be.len() as f64;
    let leaving = was.difference(will_be).count() as f64 / was.len() as f64;
    joining.max(leaving)
}

fn moves(before: &Table, after: &Table) -> Vec<Move> {
    let mut parts: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for step in before.key_space().zip(after.key_space()) {
        *parts.entry(step).or_default() += 1;
    }
    let name = |table: &Table, index: usize| table.members()[index].name.clone();
    let mut moves: Vec<Move> = parts
        .into_iter()
        .map(|((from, to), parts)| Move {
            from: name(before, from),
            to: name(after, to),
            share: parts as f64 / before.slots() as f64,
        })
        .filter(|step| step.from != step.to)
        .collect();
    moves.sort_by(|a, b| {
        b.share.total_cmp(&a.share).then_with(|| (&a.from, &a.to).cmp(&(&b.from, &b.to)))
    });
    moves
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Algorithm, Hashes, Member, Probing};

    fn name(number: u32) -> ReplicaName {
        ReplicaName::generated(number)
    }

    fn table(algorithm: Algorithm, numbers: impl IntoIterator<Item = u32>) -> Table {
        let member = |number| Member { name: name(number), number };
        Table::build(&algorithm, numbers.into_iter().map(member)).unwrap()
    }

    fn plan(
        algorithm: Algorithm,
        before: impl IntoIterator<Item = u32>,
        after: impl IntoIterator<Item = u32>,
    ) -> Plan {
        Plan::between(&table(algorithm, before), &table(algorithm, after))
    }

    #[test]
    fn adding_a_fourth_moves_a_quarter_to_it() {
        let plan = plan(Algorithm::default(), 1..=3, 1..=4);
        assert_eq!(plan.ideal, 0.25);
        assert!((plan.moved - 0.25).abs() < 0.01, "{}", plan.moved);
        assert_eq!(plan.between_survivors, 0.0);
        assert_eq!(plan.moved, plan.after[3].1);
        assert!(plan.moves.iter().all(|step| step.to == name(4)));
        assert!(plan.moves.is_sorted_by(|a, b| a.share >= b.share));
        assert_eq!(plan.moves.len(), 3);
    }

    #[test]
    fn removing_moves_what_the_removed_had() {
        let plan = plan(Algorithm::default(), 1..=5, [1, 3, 5]);
        assert_eq!(plan.ideal, 0.4);
        assert_eq!(plan.moved, plan.before[1].1 + plan.before[3].1);
        assert_eq!(plan.between_survivors, 0.0);
        assert_eq!(
            plan.after.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(),
            [1, 3, 5].map(name)
        );
    }

    #[test]
    fn a_mix_moves_at_least_the_greater_side() {
        assert_eq!(plan(Algorithm::default(), [1, 2, 3], [1, 2, 4]).ideal, 1.0 / 3.0);
        assert_eq!(plan(Algorithm::default(), [1, 2], [2, 3, 4, 5]).ideal, 0.75);
        assert_eq!(plan(Algorithm::default(), [1, 2, 3, 4], [4, 5]).ideal, 0.75);
    }

    #[test]
    fn the_key_space_is_weighed_as_the_classic_hash_fills_it() {
        let classic = Algorithm::Ring {
            slots: 512,
            virtual_nodes: 9,
            hashes: Hashes::Classic,
            probing: Probing::Linear,
        };
        let plan = plan(classic, [1, 2, 3], [2, 3]);
        let part = |count: u32| f64::from(count) / 512.0;
        assert_eq!(plan.before, [(name(1), part(432)), (name(2), part(24)), (name(3), part(56))]);
        assert!(plan.moved >= part(432));
    }

    #[test]
    fn nothing_moves_where_no_key_has_a_home() {
        for plan in [
            plan(Algorithm::default(), [], 1..=3),
            plan(Algorithm::default(), 1..=3, []),
            plan(Algorithm::default(), [], []),
            plan(Algorithm::RoundRobin, 1..=3, 1..=4),
            plan(Algorithm::LeastRequests, 1..=3, [2]),
        ] {
            let figures = [plan.moved, plan.ideal, plan.between_survivors];
            assert_eq!(figures.map(|figure| figure.to_string()), ["0", "0", "0"]);
            assert_eq!(plan.moves, []);
        }
        assert_eq!(plan(Algorithm::RoundRobin, [], 1..=2).after, [(name(1), 0.5), (name(2), 0.5)]);
    }

    #[test]
    fn the_same_members_move_nothing() {
        let plan = plan(Algorithm::default(), 1..=3, (1..=3).rev());
        assert_eq!((plan.moved, plan.ideal, plan.moves.len()), (0.0, 0.0, 0));
    }
}
