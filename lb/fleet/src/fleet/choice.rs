//! Who comes and who goes: [`Fleet::admit`] names new replicas, [`Fleet::victims`] picks those to remove.

use super::{Fleet, chance::Chance};
use crate::{Host, Naming, Phase, ReplicaName};
use std::collections::HashSet;

/// Why replicas cannot be added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// More names than replicas.
    #[error("{names} names for {n} new replicas: at most one name for each")]
    TooManyNames {
        /// How many names.
        names: usize,
        /// For how many replicas.
        n: usize,
    },
    /// A name is given twice.
    #[error("the name {0} is given more than once: names must differ")]
    Duplicate(ReplicaName),
    /// There would be too many replicas.
    #[error("{n} more than the {have} that exist is above replicas_max ({max}): at most {} can be added", max.saturating_sub(*have))]
    AboveMax {
        /// How many to add.
        n: usize,
        /// How many are wanted already.
        have: usize,
        /// How many may be.
        max: usize,
    },
}

/// Why replicas cannot be removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoveError {
    /// More names than replicas.
    #[error("{names} names for {n} replicas to remove: at most one name for each")]
    TooManyNames {
        /// How many names.
        names: usize,
        /// For how many replicas.
        n: usize,
    },
    /// A name is given twice.
    #[error("the name {0} is given more than once: names must differ")]
    Duplicate(ReplicaName),
    /// There are not so many.
    #[error("{n} replicas cannot be removed: only {have} exist")]
    MoreThanExist {
        /// How many to remove.
        n: usize,
        /// How many there are.
        have: usize,
    },
    /// No replica has this name, or the one that has it is being removed.
    #[error("there is no replica {0}")]
    Unknown(ReplicaName),
}

impl Fleet {
    /// The hosts for an addition of `n` replicas: first `hosts`, each whose name is in use replaced by a
    /// generated one, then generated ones. Changes nothing; [`Event::Add`](super::Event::Add) does.
    pub fn admit(&self, n: usize, hosts: &[Host]) -> Result<Vec<Host>, AddError> {
        if hosts.len() > n {
            return Err(AddError::TooManyNames { names: hosts.len(), n });
        }
        if let Some(name) = duplicate(hosts) {
            return Err(AddError::Duplicate(name.clone()));
        }
        let (have, max) = (self.wanted().count(), self.limits.replicas_max);
        if n > max.saturating_sub(have) {
            return Err(AddError::AboveMax { n, have, max });
        }

        // The version makes the names of the next addition others; asking twice makes no difference.
        let mut namer = Namer::new(self, Chance::new(self.seed ^ self.version));
        // All given names are taken before one is generated, so that none is generated.
        let mut admitted: Vec<_> =
            hosts.iter().map(|host| namer.take(&host.name).then(|| host.clone())).collect();
        admitted.resize(n, None);
        let named = |host: Option<Host>| host.unwrap_or_else(|| namer.generate().into());
        Ok(admitted.into_iter().map(named).collect())
    }

    /// The names for a removal of `n` wanted replicas: first those of `hosts`, whatever their ports, then
    /// those that cost least: not serving before serving, fewer requests in flight before more, newer before
    /// older.
    pub fn victims(
        &self,
        n: usize,
        hosts: &[Host],
        in_flight: impl Fn(&ReplicaName) -> u32,
    ) -> Result<Vec<ReplicaName>, RemoveError> {
        if hosts.len() > n {
            return Err(RemoveError::TooManyNames { names: hosts.len(), n });
        }
        if let Some(name) = duplicate(hosts) {
            return Err(RemoveError::Duplicate(name.clone()));
        }
        // In the order they were added.
        let mut candidates: Vec<_> = self.wanted().collect();
        if n > candidates.len() {
            return Err(RemoveError::MoreThanExist { n, have: candidates.len() });
        }
        let mut victims = Vec::with_capacity(n);
        for Host { name, .. } in hosts {
            let at = candidates.iter().position(|replica| replica.name() == name);
            candidates.remove(at.ok_or_else(|| RemoveError::Unknown(name.clone()))?);
            victims.push(name.clone());
        }
        // The sort is stable, so of equals the newer stays ahead.
        candidates.reverse();
        candidates.sort_by_cached_key(|replica| {
            let serving = matches!(replica.phase, Phase::Serving { .. });
            (serving, in_flight(replica.name()))
        });
        victims
            .extend(candidates.iter().take(n - hosts.len()).map(|replica| replica.name().clone()));
        Ok(victims)
    }
}

fn duplicate(hosts: &[Host]) -> Option<&ReplicaName> {
    let mut seen = HashSet::new();
    hosts.iter().map(|host| &host.name).find(|name| !seen.insert(*name))
}

/// Generates names that are not in use.
pub(super) struct Namer {
    naming: Naming,
    chance: Chance,
    used: HashSet<ReplicaName>,
    /// All lower numbers were tried already.
    lowest: u32,
}

impl Namer {
    pub(super) fn new(fleet: &Fleet, chance: Chance) -> Self {
        let used = fleet.replicas.iter().map(|replica| replica.name().clone()).collect();
        Self { naming: fleet.limits.naming, chance, used, lowest: 1 }
    }

    /// Whether `name` was free; it is in use from here on.
    fn take(&mut self, name: &ReplicaName) -> bool {
        self.used.insert(name.clone())
    }

    pub(super) fn generate(&mut self) -> ReplicaName {
        match self.naming {
            Naming::Sequential => self.counting_from(self.lowest),
            Naming::Random => {
                let number = 100_000 + (self.chance.draw() % 900_000) as u32;
                self.counting_from(number)
            }
            Naming::Uuid => loop {
                let (high, low) = (self.chance.draw(), self.chance.draw());
                let name = ReplicaName::uuid((u128::from(high) << 64) | u128::from(low));
                if self.take(&name) {
                    return name;
                }
            },
        }
    }

    /// The first free name that is generated from `number` or a higher one.
    fn counting_from(&mut self, mut number: u32) -> ReplicaName {
        // Counting upwards finds a free name however many are in use.
        while !self.take(&ReplicaName::generated(number)) {
            number += 1;
        }
        self.lowest = number + 1;
        ReplicaName::generated(number)
    }
}
