//! A pool whose replicas other balancers keep, too: its wanted set is what all have agreed on.
//!
//! An addition or a removal is made to a copy of the fleet, and the wanted set that comes of it is proposed in place of
//! the one that was known. If others were faster it is made to their set, and proposed again. The fleet follows what
//! was agreed on, whoever has proposed it.
//!
//! Invariant: from the begin to the shutdown, only [`Keeper::follow`] changes what the fleet wants.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use ringmaster_fleet::{Event, Host, ReplicaName};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::Keeper;
use crate::{
    provider::{AgreeError, Found, Wanted},
    supervisor::{
        handle::{AskError, Change, PoolView},
        pending::{Pending, Wish},
    },
};

/// Where the agreement stands; unused in pools that are not shared.
#[derive(Default)]
pub(super) struct Agreement {
    /// The latest set that was agreed on; `None` before the first is known, and in a shutdown.
    known: Option<Wanted>,
    /// What is to be proposed, one after the other.
    proposals: VecDeque<Proposal>,
    /// The one that others are asked about.
    out: Option<(Proposal, Wish)>,
    /// Whether the fleet may want something else than `known`.
    pub(super) is_behind: bool,
}

/// A change on its way to be agreed on.
struct Proposal {
    change: Change,
    from: Proposer,
}

enum Proposer {
    /// Somebody who waits for it, and may insist on a version of the fleet.
    Operator { expected: Option<u64>, answer: oneshot::Sender<Result<PoolView, AskError>> },
    /// The configuration, where nothing was agreed on before.
    Configuration,
    /// An addition that has failed and is taken back.
    Failure,
}

impl Keeper {
    /// Begins a change of the wanted set, whose asker hears of it when it is true.
    pub(super) fn propose(
        &mut self,
        now: Instant,
        change: Change,
        expected: Option<u64>,
        answer: oneshot::Sender<Result<PoolView, AskError>>,
    ) {
        let from = Proposer::Operator { expected, answer };
        if let Err(error) = self.takes_changes() {
            return self.refuse(from, error);
        }
        self.agreement.proposals.push_back(Proposal { change, from });
        self.propose_next(now);
    }

    /// Takes back what did not start.
    pub(super) fn take_back(&mut self, now: Instant, names: Vec<ReplicaName>) {
        for name in names {
            let change = Change::Remove { n: 1, hosts: vec![name.into()] };
            self.agreement.proposals.push_back(Proposal { change, from: Proposer::Failure });
        }
        self.propose_next(now);
    }

    /// Takes in a set that was agreed on; at the begin with what runs of it.
    pub(super) fn learn(&mut self, now: Instant, wanted: Wanted, running: Vec<Found>) {
        if !self.begun {
            self.begun = true;
            info!(pool = %self.name, replicas = wanted.replicas.len(), running = running.len(), "Joined the others");
            for found in running {
                let agreed = wanted.replicas.get(&found.spec.number);
                if agreed.is_some_and(|host| host.name == found.spec.host.name) {
                    self.adopt(now, found);
                }
            }
            if wanted.version == 0 && self.config.replicas > 0 {
                let (n, hosts) = (self.config.replicas, self.config.names.clone());
                let from = Proposer::Configuration;
                self.agreement
                    .proposals
                    .push_back(Proposal { change: Change::Add { n, hosts }, from });
            }
        }
        if self.agreement.known.as_ref().is_none_or(|it| it.version <= wanted.version) {
            self.agreement.known = Some(wanted);
            self.agreement.is_behind = true;
        }
        self.follow(now);
    }

    /// Takes in what has become of the proposal.
    pub(super) fn conclude(&mut self, now: Instant, result: Result<Wanted, AgreeError>) {
        let Some((proposal, wish)) = self.agreement.out.take() else { return };
        match (result, proposal.from) {
            (Ok(wanted), from) => {
                self.learn(now, wanted, Vec::new());
                if let Proposer::Operator { answer, .. } = from {
                    let deadline = wish.patience(&self.config).map(|it| now + it);
                    self.pending.push(Pending { wish, deadline, answer });
                    self.settle(now);
                }
            }
            (Err(AgreeError::Overtaken(wanted)), from) => {
                // Others have given the pool its first replicas.
                if !matches!(from, Proposer::Configuration) {
                    let proposal = Proposal { change: proposal.change, from };
                    self.agreement.proposals.push_front(proposal);
                }
                self.learn(now, wanted, Vec::new());
            }
            (Err(AgreeError::Failed(error)), from) => {
                self.refuse(from, AskError::NotAgreed(error));
            }
        }
        self.propose_next(now);
    }

    /// Makes the fleet want what was agreed on, as far as it does not.
    pub(super) fn follow(&mut self, now: Instant) {
        if !self.agreement.is_behind {
            return;
        }
        let Some(known) = self.agreement.known.take() else { return };
        let strangers = self.fleet.wanted().filter(|replica| {
            let agreed = known.replicas.get(&replica.number);
            agreed.is_none_or(|host| host.name != *replica.name())
        });
        let names: Vec<_> = strangers.map(|it| it.name().clone()).collect();
        if !names.is_empty() {
            self.step(now, Event::Remove { names });
        }
        let mut is_behind = false;
        for (&number, host) in &known.replicas {
            let namesake = self.fleet.get(&host.name);
            if namesake.is_some_and(|it| it.is_wanted()) {
                continue;
            }
            // What leaves has its name and its number until it is gone.
            if namesake.is_some() || self.fleet.replicas().any(|it| it.number == number) {
                is_behind = true;
                continue;
            }
            self.step(now, Event::Join { host: host.clone(), number });
        }
        self.agreement.known = Some(known);
        self.agreement.is_behind = is_behind;
        self.propose_next(now);
    }

    /// How many changes wait to be agreed on.
    pub(super) fn proposed(&self) -> usize {
        self.agreement.proposals.len() + usize::from(self.agreement.out.is_some())
    }

    /// Ends following and proposing.
    pub(super) fn part(&mut self) {
        self.agreement.known = None;
        let proposals = std::mem::take(&mut self.agreement.proposals);
        let out = self.agreement.out.take().map(|(proposal, _)| proposal);
        for Proposal { from, .. } in proposals.into_iter().chain(out) {
            self.refuse(from, AskError::Stopped);
        }
    }

    /// Proposes the next change, unless one is out already or the fleet has yet to follow.
    fn propose_next(&mut self, now: Instant) {
        while self.agreement.out.is_none() && !self.agreement.is_behind {
            let Some(known) = self.agreement.known.clone() else { return };
            let Some(Proposal { change, from }) = self.agreement.proposals.pop_front() else {
                return;
            };
            let (expected, nobody_waits) = match &from {
                Proposer::Operator { expected, .. } => (*expected, false),
                Proposer::Configuration | Proposer::Failure => (None, true),
            };
            match self.prepare(now, change.clone(), expected) {
                Ok((event, wish)) => {
                    let replicas = self.wanted_after(now, event, &known);
                    self.agreement.out = Some((Proposal { change, from }, wish));
                    let provider = self.provider.clone();
                    let reporter = self.reporter.clone();
                    reporter.agree(provider, known.version, replicas, nobody_waits);
                }
                Err(error) => self.refuse(from, error),
            }
        }
    }

    /// What is known, with the difference that `event` makes to the fleet.
    fn wanted_after(&self, now: Instant, event: Event, known: &Wanted) -> BTreeMap<u32, Host> {
        let mut after = self.fleet.clone();
        after.step(now, event);
        let mut replicas = known.replicas.clone();
        for replica in self.fleet.wanted() {
            if !after.get(replica.name()).is_some_and(|it| it.is_wanted()) {
                replicas.remove(&replica.number);
            }
        }
        replicas.extend(after.wanted().map(|it| (it.number, it.host.clone())));
        replicas
    }

    fn refuse(&self, from: Proposer, error: AskError) {
        match from {
            // Whoever asked may have gone away.
            Proposer::Operator { answer, .. } => drop(answer.send(Err(error))),
            Proposer::Configuration => {
                warn!(pool = %self.name, %error, "The configured replicas were refused");
            }
            // It was removed in the meantime.
            Proposer::Failure if matches!(error, AskError::Remove(_)) => {}
            Proposer::Failure => {
                warn!(pool = %self.name, %error, "What did not start is wanted still");
            }
        }
    }
}
