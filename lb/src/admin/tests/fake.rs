//! A supervisor that owns real fleets and tables, and whose replicas obey at once.

use crate::supervisor::handle::{
    Ask, AskError, Change, Freeze, Handle, Planned, PoolView, Question, Reconfigure, ReplicaView,
};
use ringmaster_fleet::{
    Algorithm, Command, Event, Fleet, Limits, Member, Phase, PhaseName, Plan, ReplicaName, Table,
};
use std::{
    collections::{BTreeMap, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};

/// A replica of this name does not start.
pub(super) const BROKEN: &str = "Broken";

/// So many replicas a pool may have.
pub(super) const REPLICAS_MAX: usize = 12;

/// Starts a supervisor of these pools, each with so many replicas. It ends with the last handle.
pub(super) fn start<const N: usize>(pools: [(&str, Algorithm, usize); N]) -> Handle {
    let (handle, mut inbox) = Handle::new(16);
    let mut pools: BTreeMap<String, Pool> = pools
        .into_iter()
        .map(|(name, algorithm, n)| (name.to_owned(), Pool::new(name, algorithm, REPLICAS_MAX, n)))
        .collect();
    tokio::spawn(async move {
        while let Some(ask) = inbox.recv().await {
            match ask {
                Ask::Pool { pool, question } => match pools.get_mut(&pool) {
                    Some(pool) => pool.answer(question),
                    None => refuse(question, pool),
                },
                Ask::Reconfigure(Reconfigure { answer, .. }) => drop(answer.send(Ok(()))),
                Ask::Freeze(Freeze { answer, .. }) => drop(answer.send(Err(AskError::Stopped))),
            }
        }
    });
    handle
}

/// A pool of `n` serving replicas, at version 17.
pub(in crate::admin) fn view(algorithm: Algorithm, n: usize) -> PoolView {
    PoolView { version: 17, ..Pool::new("default", algorithm, n, n).view() }
}

// A caller that has gone away needs no answer, hence the ignored results of `send`.

fn refuse(question: Question, pool: String) {
    let error = AskError::UnknownPool(pool);
    match question {
        Question::View(answer) => drop(answer.send(Err(error))),
        Question::Plan(_, answer) => drop(answer.send(Err(error))),
        Question::Apply { answer, .. } => drop(answer.send(Err(error))),
    }
}

struct Pool {
    name: Arc<str>,
    algorithm: Algorithm,
    fleet: Fleet,
}

impl Pool {
    fn new(name: &str, algorithm: Algorithm, replicas_max: usize, n: usize) -> Self {
        let limits = Limits { replicas_max, ..Limits::default() };
        let mut pool = Self { name: name.into(), algorithm, fleet: Fleet::new(limits, 0) };
        let hosts = pool.fleet.admit(n, &[]).unwrap();
        pool.settle(Event::Add { hosts });
        pool
    }

    fn answer(&mut self, question: Question) {
        match question {
            Question::View(answer) => drop(answer.send(Ok(self.view()))),
            Question::Plan(change, answer) => drop(answer.send(self.plan(&change))),
            Question::Apply { change, expected, answer } => {
                drop(answer.send(self.apply(&change, expected)))
            }
        }
    }

    fn apply(&mut self, change: &Change, expected: Option<u64>) -> Result<PoolView, AskError> {
        let have = self.fleet.version();
        if let Some(expected) = expected.filter(|&expected| expected != have) {
            return Err(AskError::VersionChanged { expected, have });
        }
        let event = self.event(change)?;
        if let Event::Add { hosts } = &event
            && let Some(host) = hosts.iter().find(|host| host.name.as_str() == BROKEN)
        {
            let reason = format!("{host} did not start: exit 1: no such file");
            return Err(AskError::NotStarted(reason));
        }
        self.settle(event);
        Ok(self.view())
    }

    fn plan(&self, change: &Change) -> Result<Planned, AskError> {
        let mut names = self.wanted();
        match change {
            Change::Add { n, hosts } => {
                let hosts = self.fleet.admit(*n, hosts)?;
                names.extend(hosts.into_iter().map(|host| host.name));
            }
            Change::Remove { n, hosts } => {
                let gone = self.fleet.victims(*n, hosts, |_| 0)?;
                names.retain(|name| !gone.contains(name));
            }
            Change::Restart { .. } => drop(self.event(change)?),
        }
        Ok(Planned {
            version: self.fleet.version(),
            plan: Plan::between(&self.table(self.wanted()), &self.table(names)),
        })
    }

    fn event(&self, change: &Change) -> Result<Event, AskError> {
        Ok(match change {
            Change::Add { n, hosts } => Event::Add { hosts: self.fleet.admit(*n, hosts)? },
            Change::Remove { n, hosts } => {
                Event::Remove { names: self.fleet.victims(*n, hosts, |_| 0)? }
            }
            Change::Restart { name } => match self.fleet.get(name) {
                Some(_) => Event::Restart { name: name.clone() },
                None => return Err(AskError::UnknownReplica(name.clone())),
            },
        })
    }

    /// Does what the fleet commands until it has nothing more to say.
    fn settle(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for command in self.fleet.step(Instant::now(), event) {
                match command {
                    Command::Spawn { host, number, incarnation, .. } => {
                        let name = host.name;
                        let port = 9_000 + u16::try_from(number).unwrap();
                        events.push_back(Event::Spawned {
                            name: name.clone(),
                            incarnation,
                            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                        });
                        events.push_back(Event::Answered { name, incarnation });
                    }
                    Command::Stop { name, incarnation } | Command::Kill { name, incarnation } => {
                        events.push_back(Event::Stopped { name, incarnation, exit: None });
                    }
                    Command::Announce(change) if change.to == Some(PhaseName::Draining) => {
                        events.push_back(Event::Drained {
                            name: change.name,
                            incarnation: change.incarnation,
                        });
                    }
                    Command::Announce(_) => {}
                }
            }
        }
    }

    fn wanted(&self) -> Vec<ReplicaName> {
        let wanted = self.fleet.wanted();
        wanted.map(|replica| replica.name().clone()).collect()
    }

    fn table(&self, names: Vec<ReplicaName>) -> Table {
        let members = (1..).zip(names);
        let members = members.map(|(number, name)| Member { name, number });
        Table::build(&self.algorithm, members).unwrap()
    }

    fn view(&self) -> PoolView {
        let replica = |replica: &ringmaster_fleet::Replica| ReplicaView {
            host: replica.host.clone(),
            number: replica.number,
            phase: replica.phase.name(),
            incarnation: replica.incarnation,
            addr: replica.phase.addr(),
            pid: None,
            in_flight: 0,
            in_flight_max: None,
            ejected_for: None,
            requests: 0,
            missed: 0,
            uptime: match replica.phase {
                Phase::Serving { since, .. } => Some(since.elapsed()),
                Phase::Starting { .. } | Phase::Draining { .. } | Phase::Down { .. } => None,
            },
            attempts: replica.attempts,
            retry_in: None,
            last_exit: replica.last_exit.clone(),
        };
        PoolView {
            name: self.name.clone(),
            version: self.fleet.version(),
            provider: "process",
            trouble: None,
            replicas: self.fleet.replicas().map(replica).collect(),
            table: Arc::new(self.table(self.wanted())),
        }
    }
}
