//! What operators ask for: changes of the wanted set, tried on a copy of the fleet before they are made.

use std::time::Instant;

use ringmaster_fleet::{Event, Fleet, Host, Member, Plan, ReplicaName, Table, TableError};

use super::{Keeper, PENDING_MAX};
use crate::supervisor::{
    handle::{AskError, Change, Planned},
    pending::Wish,
};

/// From so many changed members on, a table is built anew rather than changed member by member.
const REBUILD_FROM: usize = 4;

impl Keeper {
    /// Begins a change, and says what must become of it.
    pub(super) fn apply(
        &mut self,
        now: Instant,
        change: Change,
        expected: Option<u64>,
    ) -> Result<Wish, AskError> {
        self.takes_changes()?;
        let (event, wish) = self.prepare(now, change, expected)?;
        self.step(now, event);
        Ok(wish)
    }

    /// Or why it takes none.
    pub(super) fn takes_changes(&self) -> Result<(), AskError> {
        if let Some(reason) = self.provider.lost() {
            return Err(AskError::TakenOver(reason));
        }
        if !self.begun {
            return Err(AskError::NotBegun(self.provider.trouble()));
        }
        if self.pending.len() + self.proposed() >= PENDING_MAX {
            return Err(AskError::Busy);
        }
        Ok(())
    }

    /// What `change` means for the fleet as it is, if it can be made.
    pub(super) fn prepare(
        &self,
        now: Instant,
        change: Change,
        expected: Option<u64>,
    ) -> Result<(Event, Wish), AskError> {
        let have = self.fleet.version();
        if let Some(expected) = expected.filter(|&it| it != have) {
            return Err(AskError::VersionChanged { expected, have });
        }
        let (event, wish) = self.event_of(change)?;
        self.table_after(now, &event)?;
        Ok((event, wish))
    }

    /// What a change would move.
    pub(super) fn plan(&self, now: Instant, change: Change) -> Result<Planned, AskError> {
        let (event, _) = self.event_of(change)?;
        let after = self.table_after(now, &event)?;
        Ok(Planned { version: self.fleet.version(), plan: Plan::between(&self.table, &after) })
    }

    /// The table as it would be: the change is made to a copy of the fleet.
    fn table_after(&self, now: Instant, event: &Event) -> Result<Table, TableError> {
        let mut fleet = self.fleet.clone();
        fleet.step(now, event.clone());
        table_of(&self.table, &fleet)
    }

    fn event_of(&self, change: Change) -> Result<(Event, Wish), AskError> {
        match change {
            Change::Add { n, hosts } => {
                let hosts = self.admit(n, hosts)?;
                let names = hosts.iter().map(|host| host.name.clone()).collect();
                Ok((Event::Add { hosts }, Wish::Serve(names)))
            }
            Change::Remove { n, hosts } => {
                let load =
                    |name: &ReplicaName| self.upstreams.get(name).map_or(0, |it| it.in_flight());
                let names = self.fleet.victims(n, &hosts, load)?;
                Ok((Event::Remove { names: names.clone() }, Wish::Gone(names)))
            }
            Change::Restart { name } => match self.fleet.get(&name) {
                Some(replica) if replica.is_wanted() => {
                    let since = replica.incarnation;
                    Ok((Event::Restart { name: name.clone() }, Wish::Restart { name, since }))
                }
                Some(_) | None => Err(AskError::UnknownReplica(name)),
            },
        }
    }

    /// Answers every pending question that has become true, or never will.
    pub(super) fn settle(&mut self, now: Instant) {
        let mut left = Vec::new();
        let mut failed = Vec::new();
        for pending in std::mem::take(&mut self.pending) {
            match pending.wish.judge(&self.fleet, now, pending.deadline) {
                None => left.push(pending),
                Some(Ok(())) => drop(pending.answer.send(Ok(self.view(now)))),
                Some(Err(error)) => failed.push((pending, error)),
            }
        }
        self.pending.extend(left);
        for (pending, error) in failed {
            match pending.wish {
                Wish::Serve(names) if self.provider.is_shared() => self.take_back(now, names),
                Wish::Serve(names) => self.step(now, Event::Remove { names }),
                Wish::Gone(_) | Wish::Restart { .. } => {}
            }
            drop(pending.answer.send(Err(error)));
        }
    }

    /// Names for an addition, from among those that the provider can run.
    pub(super) fn admit(&self, n: usize, mut hosts: Vec<Host>) -> Result<Vec<Host>, AskError> {
        if let Some(runnable) = self.provider.names() {
            if let Some(host) = hosts.iter().find(|host| !runnable.contains(&host.name)) {
                return Err(AskError::Refused(format!(
                    "{} is not among the fixed replicas of pool {}",
                    host.name, self.name
                )));
            }
            let idle = |name: &ReplicaName| {
                self.fleet.get(name).is_none() && hosts.iter().all(|host| host.name != *name)
            };
            let idle: Vec<Host> = runnable.into_iter().filter(idle).map(Host::from).collect();
            let missing = n.saturating_sub(hosts.len());
            if idle.len() < missing {
                return Err(AskError::Refused(format!(
                    "pool {} has fixed replicas: {missing} more were asked for, {} are idle",
                    self.name,
                    idle.len()
                )));
            }
            hosts.extend(idle.into_iter().take(missing));
        }
        let admitted = self.fleet.admit(n, &hosts)?;
        let admitted_names = admitted.iter().map(|host| host.name.clone());
        let there = self.fleet.replicas().map(|replica| replica.name().clone());
        let names: Vec<ReplicaName> = admitted_names.chain(there).collect();
        for host in &admitted {
            self.provider.check_name(&host.name, &names).map_err(AskError::Refused)?;
        }
        Ok(admitted)
    }
}

/// The table of the fleet's wanted set, from `table` by as little work as the difference asks for.
pub(super) fn table_of(table: &Table, fleet: &Fleet) -> Result<Table, TableError> {
    let wanted: Vec<Member> = fleet
        .wanted()
        .map(|replica| Member { name: replica.name().clone(), number: replica.number })
        .collect();
    let is_member = |member: &Member| table.members().contains(member);
    let joined: Vec<&Member> = wanted.iter().filter(|it| !is_member(it)).collect();
    let left: Vec<&Member> = table.members().iter().filter(|it| !wanted.contains(it)).collect();
    if joined.len() + left.len() >= REBUILD_FROM {
        return Table::build(table.algorithm(), wanted.iter().cloned());
    }
    let mut table = table.clone();
    for member in left {
        table = table.without(&member.name);
    }
    for member in joined {
        table = table.with(member.clone())?;
    }
    Ok(table)
}
