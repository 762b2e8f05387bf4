//! The moves of a replica from phase to phase, each with its announcement and its command.
//!
//! | phase | event | next phase | command |
//! |---|---|---|---|
//! | – | Add, Join, Adopt of one that has ended | Starting | Spawn |
//! | – | Adopt of one that runs | Starting | |
//! | – | Inherit | the phase it was in | |
//! | Starting | Answered | Serving | |
//! | Starting | SpawnFailed, `deadline` | Down | Kill |
//! | Starting, Serving | Exited | Down | Kill |
//! | Serving | the last Missed | Down | Kill |
//! | Down, stopped | `retry_at`, Restart | Starting | Spawn |
//! | Serving | Remove, Restart | Draining | |
//! | Starting, Down | Remove | Draining, stopping | Kill |
//! | Starting, Down but not stopped | Restart | Draining, stopping | Kill |
//! | Draining | Drained, `until` | Draining, stopping | Stop |
//! | Draining | Exited | Draining, stopping | Kill |
//! | Draining to remove | Stopped | gone | |
//! | Draining to restart | Stopped | Starting | Spawn |
//!
//! With [`RespawnName::Fresh`] a replica that fails while Serving goes to Draining, stopping, in place of Down,
//! and then leaves; a new one that begins as Down stands in for it, and starts once the failed one is gone. One that
//! fails while Starting keeps its name: it had no keys to lose, and the operator who asked for it waits for that very name.
//!
//! A failure that heartbeats noticed is put down to an exit if the provider tells of one before the replica has
//! stopped: a killed replica misses heartbeats, too. So the cause of a failure is final when the next run starts.

use super::{Command, chance::Chance, choice::Namer, step::Step};
use crate::{
    AfterDrain, Cause, Change, Host, Incarnation, Phase, PhaseName, Replica, ReplicaName,
    RespawnName,
};
use std::{
    collections::HashSet,
    mem,
    net::SocketAddr,
    time::{Duration, Instant},
};

impl Step<'_> {
    /// – → Starting, and spawned. It has `number` if one is given and that is free.
    pub(super) fn begin(
        &mut self,
        host: Host,
        number: Option<u32>,
        incarnation: Incarnation,
        cause: Cause,
    ) {
        let replica = self.newcomer(host, number, incarnation, self.starting(None));
        let at = self.insert(replica, cause);
        self.spawn(at, None);
    }

    /// – → Starting, while it runs already: its next answer makes it serve.
    pub(super) fn take_over(
        &mut self,
        host: Host,
        number: u32,
        incarnation: Incarnation,
        addr: SocketAddr,
    ) {
        let phase = self.starting(Some(addr));
        let replica = self.newcomer(host, Some(number), incarnation, phase);
        self.insert(replica, Cause::Adopted);
    }

    /// – → the phase that it was in elsewhere.
    pub(super) fn go_on(&mut self, replica: Replica) {
        let missed_most = self.fleet.limits.heartbeat_missed_max.saturating_sub(1);
        let phase = match replica.phase {
            Phase::Starting { .. } => replica.phase,
            // The limit may have been another one there.
            Phase::Serving { addr, since, missed } => {
                Phase::Serving { addr, since, missed: missed.min(missed_most) }
            }
            Phase::Down { retry_at, .. } => Phase::Down { retry_at, stopped: true },
            Phase::Draining { .. } => return,
        };
        let number = self.free_number(Some(replica.number));
        self.insert(Replica { number, phase, ..replica }, Cause::Inherited);
        // What is wanted is what was wanted there.
        self.wanted_changed = false;
    }

    /// Down or Draining → Starting.
    pub(super) fn start(&mut self, at: usize, cause: Cause) {
        let replica = self.replica_mut(at);
        replica.incarnation = replica.incarnation.next();
        let asked = (cause == Cause::RestartAsked).then_some(Cause::RestartAsked);
        let after = replica.failure.take().or(asked);
        self.enter(at, self.starting(None), cause);
        self.spawn(at, after);
    }

    /// Starting → Serving.
    pub(super) fn serve(&mut self, at: usize, addr: SocketAddr) {
        let phase = Phase::Serving { addr, since: self.now, missed: 0 };
        self.enter(at, phase, Cause::Answered);
    }

    /// Starting or Serving → Down; or, with fresh names, Serving → Draining while a replacement begins as Down.
    pub(super) fn fail(&mut self, at: usize, cause: Cause) {
        let jitter = self.fleet.chance.part();
        let attempts = self.replica(at).attempts;
        let (attempts, wait) = match self.is_healthy(at) {
            true => (0, Duration::ZERO),
            false => (attempts.saturating_add(1), self.fleet.limits.backoff(attempts, jitter)),
        };
        let retry_at = self.now + wait;
        let replica = self.replica_mut(at);
        replica.attempts = attempts;
        replica.failure = Some(cause.clone());
        let served = matches!(self.replica(at).phase, Phase::Serving { .. });
        match (self.fleet.limits.respawn_name, served) {
            (RespawnName::Keep, _) | (RespawnName::Fresh, false) => {
                let stopped = false;
                self.enter(at, Phase::Down { retry_at, stopped }, cause);
                self.command_kill(at);
            }
            (RespawnName::Fresh, true) => {
                // Chosen while the failed replica holds its name and number, so both differ.
                let replacement = self.replacement(at, retry_at);
                let replaces = Cause::Replaces(self.replica(at).name().clone());
                self.kill(at, AfterDrain::Remove, cause);
                self.insert(replacement, replaces);
            }
        }
    }

    /// Puts a failure down to the exit that the provider tells of only now.
    pub(super) fn settle(&mut self, at: usize, exited: Cause) {
        let replica = self.replica_mut(at);
        let noticed = match replica.failure {
            Some(Cause::MissedHeartbeats(_) | Cause::StartTimeout(_) | Cause::Stopped) => true,
            // The provider told of it in the first place.
            Some(_) | None => false,
        };
        if noticed {
            replica.failure = Some(exited.clone());
            let phase = Some(replica.phase.name());
            self.announce(at, phase, phase, exited);
        }
    }

    /// Ends what runs of a replica because somebody asked for it; `then` says to what purpose.
    pub(super) fn end(&mut self, at: usize, then: AfterDrain, cause: Cause) {
        self.wanted_changed |= then == AfterDrain::Remove && self.replica(at).is_wanted();
        let purpose = then;
        match self.replica(at).phase {
            Phase::Serving { .. } => {
                let until = self.now + self.fleet.limits.drain_timeout;
                self.drain(at, until, purpose, false, cause);
            }
            Phase::Starting { .. } | Phase::Down { stopped: false, .. } => {
                self.kill(at, purpose, cause);
            }
            Phase::Down { stopped: true, .. } => match purpose {
                AfterDrain::Restart => self.start(at, cause),
                // Nothing of it runs, but something of it may be left.
                AfterDrain::Remove => self.kill(at, purpose, cause),
            },
            Phase::Draining { until, then, stopping, .. } => match (then, purpose) {
                (AfterDrain::Restart, AfterDrain::Remove) => {
                    self.drain(at, until, purpose, stopping, cause);
                }
                // A removal is not taken back.
                (AfterDrain::Restart | AfterDrain::Remove, AfterDrain::Restart)
                | (AfterDrain::Remove, AfterDrain::Remove) => {}
            },
        }
    }

    /// Any phase → Draining, stopping, at once.
    pub(super) fn kill(&mut self, at: usize, then: AfterDrain, cause: Cause) {
        self.drain(at, self.now, then, true, cause);
        self.command_kill(at);
    }

    /// Draining → Draining, stopping: nothing is in flight, or it has had its time.
    pub(super) fn stop(&mut self, at: usize, then: AfterDrain, cause: Cause) {
        self.drain(at, self.now, then, true, cause);
        let (name, incarnation) = self.identity(at);
        self.commands.push(Command::Stop { name, incarnation });
    }

    /// Draining, and stopped → Starting or gone.
    pub(super) fn after_drain(&mut self, at: usize, then: AfterDrain, cause: Cause) {
        match then {
            AfterDrain::Restart => self.start(at, cause),
            AfterDrain::Remove => {
                self.announce(at, Some(self.replica(at).phase.name()), None, cause);
                let gone = self.fleet.replicas.remove(at);
                self.fleet.floor = self.fleet.floor.max(gone.incarnation);
                self.make_way(gone);
            }
        }
    }

    /// What stands in for `gone` learns how that ended, and may start.
    fn make_way(&mut self, gone: Replica) {
        let is_replaced = |it: &&mut Replica| it.replaces.as_ref() == Some(gone.name());
        let Some(replacement) = self.fleet.replicas.iter_mut().find(is_replaced) else { return };
        replacement.replaces = None;
        // It may have been asked to leave or to restart meanwhile.
        if let Phase::Down { stopped, .. } = &mut replacement.phase {
            *stopped = true;
            replacement.failure = gone.failure;
            replacement.last_exit = gone.last_exit;
        }
    }

    /// Whether it has served for long enough that a failure is no part of a crash loop.
    pub(super) fn is_healthy(&self, at: usize) -> bool {
        match self.replica(at).phase {
            Phase::Serving { since, .. } => {
                self.now.duration_since(since) >= self.fleet.limits.healthy_after
            }
            Phase::Starting { .. } | Phase::Draining { .. } | Phase::Down { .. } => false,
        }
    }

    // === Parts of moves ===

    fn insert(&mut self, replica: Replica, cause: Cause) -> usize {
        self.wanted_changed = true;
        let at = self.fleet.replicas.len();
        let to = replica.phase.name();
        self.fleet.replicas.push(replica);
        self.announce(at, None, Some(to), cause);
        at
    }

    fn drain(&mut self, at: usize, until: Instant, then: AfterDrain, stopping: bool, cause: Cause) {
        let phase = Phase::Draining { addr: self.replica(at).phase.addr(), until, then, stopping };
        self.enter(at, phase, cause);
    }

    fn enter(&mut self, at: usize, phase: Phase, cause: Cause) {
        let from = mem::replace(&mut self.replica_mut(at).phase, phase).name();
        self.announce(at, Some(from), Some(phase.name()), cause);
    }

    fn announce(
        &mut self,
        at: usize,
        from: Option<PhaseName>,
        to: Option<PhaseName>,
        cause: Cause,
    ) {
        let (name, incarnation) = self.identity(at);
        self.commands.push(Command::Announce(Change { name, incarnation, from, to, cause }));
    }

    fn identity(&self, at: usize) -> (ReplicaName, Incarnation) {
        let replica = self.replica(at);
        (replica.name().clone(), replica.incarnation)
    }

    fn spawn(&mut self, at: usize, after: Option<Cause>) {
        let replica = self.replica(at);
        let command = Command::Spawn {
            host: replica.host.clone(),
            number: replica.number,
            incarnation: replica.incarnation,
            after,
        };
        self.commands.push(command);
    }

    fn command_kill(&mut self, at: usize) {
        let (name, incarnation) = self.identity(at);
        self.commands.push(Command::Kill { name, incarnation });
    }

    /// What stands in for a failed replica: another name, but the same history.
    fn replacement(&mut self, failed: usize, retry_at: Instant) -> Replica {
        let chance = Chance::new(self.fleet.chance.draw());
        let failed = self.replica(failed);
        let host = Namer::new(self.fleet, chance).generate().into();
        let phase = Phase::Down { retry_at, stopped: false };
        Replica {
            attempts: failed.attempts,
            failure: failed.failure.clone(),
            replaces: Some(failed.name().clone()),
            last_exit: failed.last_exit.clone(),
            ..self.newcomer(host, None, self.fleet.floor.next(), phase)
        }
    }

    /// A replica without a history.
    fn newcomer(
        &self,
        host: Host,
        number: Option<u32>,
        incarnation: Incarnation,
        phase: Phase,
    ) -> Replica {
        let number = self.free_number(number);
        Replica {
            host,
            number,
            incarnation,
            phase,
            attempts: 0,
            failure: None,
            replaces: None,
            last_exit: None,
        }
    }

    fn starting(&self, addr: Option<SocketAddr>) -> Phase {
        Phase::Starting { addr, deadline: self.now + self.fleet.limits.start_timeout }
    }

    /// The number asked for if it is free, else the lowest that is.
    fn free_number(&self, asked: Option<u32>) -> u32 {
        let replicas = self.fleet.replicas.iter();
        let used: HashSet<_> = replicas.map(|replica| replica.number).chain([0]).collect();
        let free = asked.into_iter().chain(1..).find(|number| !used.contains(number));
        free.expect("there are fewer replicas than numbers")
    }
}
