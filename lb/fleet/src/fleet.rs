//! [`Fleet`]: keeps the replicas as wanted.
//!
//! ```text
//!  start-up ───Adopt, Inherit────────────▶ ┌───────┐
//!  admin ──────Add, Remove, Restart──────▶ │       │ ──Spawn, Stop, Kill──▶ provider
//!  provider ───Spawned, Exited, Stopped──▶ │ Fleet │ ──Announce───────────▶ whoever watches
//!  heartbeats ─Answered, Missed──────────▶ └───────┘
//!  timer ──────Tick───────────────────────▶    └─ serving() ─▶ routes, wanted() ─▶ ring
//! ```
//!
//! The shell turns what happens into events, publishes the routes anew after each step, and only then
//! executes the step's commands: a replica gets no new request once its end is asked for.
//!
//! Invariants: names and numbers are unique; a replica that serves has missed fewer heartbeats than the limit;
//! a name has at most one live incarnation; incarnations only grow; what is gone has stopped.

mod chance;
mod choice;
mod moves;
mod step;

pub use self::choice::{AddError, RemoveError};
use self::{chance::Chance, step::Step};
use crate::{Cause, Change, Exit, Host, Incarnation, Limits, Phase, Replica, ReplicaName};
use std::{collections::HashSet, net::SocketAddr, time::Instant};

/// What happened. Every event is legal at any time; one that is about an unknown name, or about an incarnation
/// that is not the latest of its name, changes nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Replicas are wanted, as [`Fleet::admit`] named them. Ignored: a name in use, what exceeds
    /// `replicas_max`, and everything after [`Event::Shutdown`].
    Add {
        /// Their names.
        hosts: Vec<Host>,
    },
    /// A replica known from an earlier balancer is wanted still. Ignored like [`Event::Add`].
    ///
    /// Before the first one, the shell ends what an earlier balancer left and none of them adopts as running, as
    /// the next incarnation may be spawned at once. It sends heartbeats to what runs as if it had spawned it.
    Adopt {
        /// Its name, and its port if one was given.
        host: Host,
        /// Its number; where that is not free, it gets one that is.
        number: u32,
        /// The latest start of it; the default, if there was none.
        incarnation: Incarnation,
        /// Where that incarnation runs; `None`: it does not run, and the next one starts at once.
        addr: Option<SocketAddr>,
    },
    /// A replica that another process of the same balancer kept until now goes on as it is: its phase, its failures
    /// and its age are what they were. Ignored like [`Event::Add`], but for `replicas_max`, which it was within; and
    /// if it drains, as who drains it must also end it.
    ///
    /// What the shell does beforehand is what it does for [`Event::Adopt`]. One that is down has stopped.
    Inherit {
        /// As that process knew it. Where its number is not free, it gets one that is.
        replica: Box<Replica>,
    },
    /// A replica is wanted of which others keep this number, too. Ignored like [`Event::Add`].
    Join {
        /// Its name, and its port if one was given.
        host: Host,
        /// Its number; where that is not free, it gets one that is.
        number: u32,
    },
    /// Replicas are no longer wanted: each is drained, stopped and forgotten.
    Remove {
        /// Their names.
        names: Vec<ReplicaName>,
    },
    /// A replica shall drain, stop and start anew.
    Restart {
        /// Its name.
        name: ReplicaName,
    },
    /// The provider has started a replica.
    Spawned {
        /// Its name.
        name: ReplicaName,
        /// Which start.
        incarnation: Incarnation,
        /// Where it will listen.
        addr: SocketAddr,
    },
    /// The provider could not start a replica.
    SpawnFailed {
        /// Its name.
        name: ReplicaName,
        /// Which start.
        incarnation: Incarnation,
        /// Why.
        exit: Exit,
    },
    /// A replica answered a heartbeat.
    Answered {
        /// Its name.
        name: ReplicaName,
        /// Which incarnation.
        incarnation: Incarnation,
    },
    /// A replica did not answer a heartbeat in time.
    Missed {
        /// Its name.
        name: ReplicaName,
        /// Which incarnation.
        incarnation: Incarnation,
    },
    /// A replica has ended, and no command of the fleet made it.
    Exited {
        /// Its name.
        name: ReplicaName,
        /// Which incarnation.
        incarnation: Incarnation,
        /// How.
        exit: Exit,
    },
    /// A draining replica has no request in flight.
    Drained {
        /// Its name.
        name: ReplicaName,
        /// Which incarnation.
        incarnation: Incarnation,
    },
    /// A [`Command::Stop`] or [`Command::Kill`] has been carried out: nothing of this incarnation runs, and
    /// nothing of it will. If it had ended before the command reached it, [`Event::Exited`] comes first.
    Stopped {
        /// Its name.
        name: ReplicaName,
        /// Which incarnation.
        incarnation: Incarnation,
        /// How the command made it end, where that is known.
        exit: Option<Exit>,
    },
    /// Time has passed; due at [`Fleet::next_wakeup`].
    Tick,
    /// All replicas shall drain and stop, and none shall start any more.
    Shutdown,
}

/// What the shell must do. For each replica that a step moves, its announcement comes before the command that
/// follows from it.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Start a replica; answer with [`Event::Spawned`] or [`Event::SpawnFailed`], and send heartbeats to it
    /// until it has stopped.
    Spawn {
        /// Its name, and its port if one was given.
        host: Host,
        /// Its number.
        number: u32,
        /// Which start this is.
        incarnation: Incarnation,
        /// What ended the run before, or that of the replica which it replaces; its label is one of
        /// [`Cause::RESPAWN_LABELS`]. `None`: this fleet knows of no earlier run.
        after: Option<Cause>,
    },
    /// Ask a replica to end, and make it end after a grace; answer with [`Event::Stopped`].
    Stop {
        /// Its name.
        name: ReplicaName,
        /// Which incarnation.
        incarnation: Incarnation,
    },
    /// Make a replica end at once and remove what is left of it, also of a start that is under way or has
    /// failed; answer with [`Event::Stopped`], even if there was nothing to do.
    Kill {
        /// Its name.
        name: ReplicaName,
        /// Which incarnation.
        incarnation: Incarnation,
    },
    /// Tell whoever watches.
    Announce(Change),
}

/// The replicas of one pool.
#[derive(Clone, Debug)]
pub struct Fleet {
    limits: Limits,
    seed: u64,
    chance: Chance,
    /// In the order they were added. A list, as a thousand names are searched faster than a heartbeat takes.
    replicas: Vec<Replica>,
    /// The highest incarnation that has left or was to be adopted; a new replica begins above it.
    floor: Incarnation,
    version: u64,
    shutting_down: bool,
}

impl Fleet {
    /// A fleet without replicas. Names and back-offs that are left to chance follow from `seed`.
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            seed,
            chance: Chance::new(seed),
            replicas: Vec::new(),
            floor: Incarnation::default(),
            version: 0,
            shutting_down: false,
        }
    }

    /// Applies one event and returns what the shell must do, in this order.
    pub fn step(&mut self, now: Instant, event: Event) -> Vec<Command> {
        let commands = Step::new(self, now).apply(event);
        debug_assert!(self.invariants_hold(), "{self:?}");
        commands
    }

    /// Goes on under other limits. Deadlines that were set stay; where more replicas are wanted already than there
    /// may be from now on, they stay, too, and none is added.
    pub fn reconfigure(&mut self, limits: Limits) {
        let replicas_max = limits.replicas_max.max(self.wanted().count());
        self.limits = Limits { replicas_max, ..limits };
        let missed_most = self.limits.heartbeat_missed_max.saturating_sub(1);
        for replica in &mut self.replicas {
            // The next silence is the last one; a limit that is lowered is no failure by itself.
            if let Phase::Serving { missed, .. } = &mut replica.phase {
                *missed = (*missed).min(missed_most);
            }
        }
        debug_assert!(self.invariants_hold(), "{self:?}");
    }

    /// All replicas in the order they were added, also those that drain or are down.
    pub fn replicas(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.iter()
    }

    /// The replica of this name.
    pub fn get(&self, name: &ReplicaName) -> Option<&Replica> {
        self.replicas.iter().find(|replica| replica.name() == name)
    }

    /// The replicas that may be given requests, and where they listen.
    pub fn serving(&self) -> impl Iterator<Item = (&Replica, SocketAddr)> {
        self.replicas.iter().filter_map(|replica| match replica.phase {
            Phase::Serving { addr, .. } => Some((replica, addr)),
            Phase::Starting { .. } | Phase::Draining { .. } | Phase::Down { .. } => None,
        })
    }

    /// The members of the ring: all replicas but those that drain in order to be removed.
    pub fn wanted(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.iter().filter(|replica| replica.is_wanted())
    }

    /// Grows by one with every step that changes the wanted set; neither health nor [`Event::Inherit`] changes it.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The incarnation above which a new replica begins.
    pub fn floor(&self) -> Incarnation {
        self.floor
    }

    /// Counts on from where another process of the same balancer ended: neither versions nor incarnations come again.
    pub fn count_on(&mut self, version: u64, floor: Incarnation) {
        self.version = self.version.max(version);
        self.floor = self.floor.max(floor);
    }

    /// The earliest time at which [`Event::Tick`] has an effect.
    pub fn next_wakeup(&self) -> Option<Instant> {
        self.replicas.iter().filter_map(|replica| replica.phase.due()).min()
    }

    fn invariants_hold(&self) -> bool {
        let names: HashSet<_> = self.replicas.iter().map(Replica::name).collect();
        let numbers: HashSet<_> = self.replicas.iter().map(|replica| replica.number).collect();
        let well = self.replicas.iter().all(|replica| match replica.phase {
            Phase::Serving { missed, .. } => missed < self.limits.heartbeat_missed_max,
            Phase::Starting { .. } | Phase::Draining { .. } | Phase::Down { .. } => true,
        });
        let wanted = self.wanted().count();
        names.len() == self.replicas.len()
            && numbers.len() == self.replicas.len()
            && !numbers.contains(&0)
            && well
            && wanted <= self.limits.replicas_max
            && !(self.shutting_down && wanted > 0)
    }
}
