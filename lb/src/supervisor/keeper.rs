//! One pool under the supervisor's care: its fleet, and what follows from the fleet.
//!
//! Invariant: after every step the published routes are what the fleet says, and they are published before any
//! command of the step is carried out: no request goes to a replica whose end was asked for.

mod change;
mod handover;
mod publish;
mod reconfigure;
mod recovery;
mod runs;
mod shared;
mod takeover;
#[cfg(test)]
mod tests;
mod view;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use ringmaster_fleet::{
    Command, Event, Fleet, Incarnation, Limits, Phase, Replica, ReplicaName, Table,
};
use tokio::sync::{mpsc, watch};

use self::{handover::Received, recovery::Failure, shared::Agreement};
use super::{
    handle::{Change, Question},
    legacy::PoolLegacy,
    memory::Scribe,
    pending::Pending,
    run::{News, Reporter, Run, What},
};
use crate::{
    config::{HeartbeatConfig, PoolConfig},
    events::Publisher,
    heartbeat::Beat,
    metrics::{Metrics, ReplicaMetrics},
    provider::{Ending, Provider, Remembered, Spec},
    routes::{PoolWriter, Upstream},
};

/// How often a draining replica's requests are counted.
const DRAIN_PAUSE: Duration = Duration::from_millis(20);

/// How often the share of a slowly starting replica grows.
const RAMP_PAUSE: Duration = Duration::from_millis(100);

/// More changes than this that wait to come true are refused.
const PENDING_MAX: usize = 64;

/// What a [`Keeper`] is made of.
pub(crate) struct KeeperParts {
    /// The pool's number; no other has it, now or later.
    pub(crate) index: usize,
    pub(crate) config: PoolConfig,
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) writer: PoolWriter,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) events: Publisher,
    pub(crate) news: mpsc::Sender<News>,
    /// `None` where nothing is written down.
    pub(crate) scribe: Option<Scribe>,
    /// What an earlier balancer wrote down of this pool.
    pub(crate) remembered: Option<Vec<Remembered>>,
    /// The pool as another process of this balancer hands it over; it knows better than what was written down.
    pub(crate) legacy: Option<PoolLegacy>,
    /// What chance in the fleet follows from.
    pub(crate) seed: u64,
}

/// Keeps one pool.
pub(crate) struct Keeper {
    name: Arc<str>,
    config: PoolConfig,
    fleet: Fleet,
    table: Arc<Table>,
    writer: PoolWriter,
    provider: Arc<dyn Provider>,
    /// Those that serve or drain.
    upstreams: HashMap<ReplicaName, Arc<Upstream>>,
    runs: HashMap<ReplicaName, Run>,
    /// Those of every replica, dropped when it is gone.
    replica_metrics: HashMap<ReplicaName, Arc<ReplicaMetrics>>,
    failures: HashMap<ReplicaName, Failure>,
    pending: Vec<Pending>,
    reporter: Reporter,
    metrics: Arc<Metrics>,
    events: Publisher,
    scribe: Option<Scribe>,
    /// What an earlier balancer wrote down; `None` if there is no such thing.
    remembered: Option<Vec<Remembered>>,
    /// Replicas that were handed over, until it is known that they run.
    inherited: HashMap<ReplicaName, Replica>,
    /// What was written down last.
    written: Option<Vec<Remembered>>,
    /// Whether it is known what an earlier balancer left.
    begun: bool,
    /// Adopted replicas that were started with settings of another time; replaced one by one.
    outdated: VecDeque<ReplicaName>,
    /// Of a pool that others keep, too.
    agreement: Agreement,
    /// Whether the balancer ends.
    closing: bool,
    hurry: bool,
    /// Whether the pool is configured no more.
    retired: bool,
    /// When what is due was done last.
    ticked: Instant,
    /// Tells every run how to probe.
    heartbeat: watch::Sender<HeartbeatConfig>,
}

impl Keeper {
    pub(crate) fn new(parts: KeeperParts) -> anyhow::Result<Self> {
        let KeeperParts {
            index,
            config,
            provider,
            writer,
            metrics,
            events,
            news,
            scribe,
            remembered,
            legacy,
            seed,
        } = parts;
        // What is configured address by address needs no memory.
        let remembered = remembered.filter(|_| provider.names().is_none() && !provider.is_shared());
        let mut limits = config.limits.clone();
        let (mut version, mut floor) = (0, Incarnation::default());
        let (remembered, inherited) = match legacy {
            None => (remembered, HashMap::new()),
            Some(legacy) => {
                (version, floor) = (legacy.version, legacy.floor());
                let Received { remembered, replicas } =
                    Received::new(legacy).map_err(anyhow::Error::msg)?;
                // As after a reload: where fewer are allowed now, those that are there stay.
                let replicas_max = limits.replicas_max.max(replicas.len());
                limits = Limits { replicas_max, ..limits };
                (Some(remembered), replicas)
            }
        };
        let mut fleet = Fleet::new(limits, seed);
        fleet.count_on(version, floor);
        Ok(Self {
            name: writer.pool().name.clone(),
            fleet,
            table: Arc::new(Table::build(&config.algorithm, [])?),
            upstreams: HashMap::new(),
            runs: HashMap::new(),
            replica_metrics: HashMap::new(),
            failures: HashMap::new(),
            pending: Vec::new(),
            reporter: Reporter { pool: index, news },
            // What several balancers keep is remembered where all can read it.
            scribe: scribe.filter(|_| !provider.is_shared()),
            remembered,
            inherited,
            written: None,
            begun: false,
            outdated: VecDeque::new(),
            agreement: Agreement::default(),
            closing: false,
            hurry: false,
            retired: false,
            ticked: Instant::now(),
            heartbeat: watch::Sender::new(config.heartbeat.clone()),
            config,
            provider,
            writer,
            metrics,
            events,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What news of the pool's replicas carry.
    pub(crate) fn index(&self) -> usize {
        self.reporter.pool
    }

    /// Whether a replica serves.
    pub(crate) fn is_served(&self) -> bool {
        self.fleet.serving().next().is_some()
    }

    /// Whether every wanted replica serves.
    pub(crate) fn is_whole(&self) -> bool {
        self.begun && self.fleet.serving().count() == self.fleet.wanted().count()
    }

    /// Whether no replica is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.fleet.replicas().next().is_none()
    }

    /// Looks for what an earlier balancer left; nothing is started before that is known.
    pub(crate) fn begin(&self) {
        let (reporter, provider) = (self.reporter.clone(), self.provider.clone());
        if provider.is_shared() {
            reporter.follow(provider);
        } else {
            reporter.look(provider, self.remembered.clone().unwrap_or_default());
        }
    }

    /// When [`Self::tick`] has something to do. News that come in between do not put it off.
    pub(crate) fn next_wakeup(&self) -> Option<Instant> {
        let draining = self.draining().next().map(|_| self.ticked + DRAIN_PAUSE);
        let ramping = self.is_ramping().then(|| self.ticked + RAMP_PAUSE);
        let pending = self.pending.iter().filter_map(|it| it.deadline).min();
        [self.fleet.next_wakeup(), draining, ramping, pending].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.ticked = now;
        let drained: Vec<_> = self
            .draining()
            .filter(|(name, _)| self.upstreams.get(name).is_none_or(|it| it.seal()))
            .collect();
        for (name, incarnation) in drained {
            self.step(now, Event::Drained { name, incarnation });
        }
        self.step(now, Event::Tick);
        self.ramp(now);
        self.follow(now);
    }

    /// Takes in what a task reports.
    pub(crate) fn hear(&mut self, now: Instant, what: What) {
        match what {
            What::Beat { name, incarnation, beat } => {
                self.note_beat(now, (&name, incarnation), beat);
                match beat {
                    Beat::Answered { suspicion } => {
                        self.step(now, Event::Answered { name: name.clone(), incarnation });
                        self.settle_suspicions((&name, incarnation), suspicion);
                    }
                    Beat::Missed => self.step(now, Event::Missed { name, incarnation }),
                }
            }
            What::Event(event) => self.step(now, event),
            What::Started { name, incarnation, started } => {
                if let Some(run) =
                    self.runs.get_mut(&name).filter(|it| it.incarnation == incarnation)
                {
                    run.started = Some(started);
                    self.outdated.retain(|it| *it != name);
                    self.note_start(now, &name);
                }
                self.step(now, Event::Spawned { name, incarnation, addr: started.addr });
                self.write_down();
            }
            What::Ended { name, incarnation, exit, removed } => {
                self.note_end(now, (name, incarnation), exit, removed);
            }
            What::Found(found) => self.take_over(now, found),
            What::Wanted(wanted, running) => self.learn(now, wanted, running),
            What::Agreed(result) => self.conclude(now, result),
        }
        self.follow(now);
    }

    /// Answers a question, or begins the change that it asks for.
    pub(crate) fn answer(&mut self, now: Instant, question: Question) {
        // Whoever asked may have gone away; an answer that nobody awaits is no error.
        match question {
            Question::View(answer) => drop(answer.send(Ok(self.view(now)))),
            Question::Plan(change, answer) => drop(answer.send(self.plan(now, change))),
            // The wanted set of a shared pool is not this balancer's alone to change.
            Question::Apply {
                change: change @ (Change::Add { .. } | Change::Remove { .. }),
                expected,
                answer,
            } if self.provider.is_shared() => self.propose(now, change, expected, answer),
            Question::Apply { change, expected, answer } => {
                match self.apply(now, change, expected) {
                    Ok(wish) => {
                        let deadline = wish.patience(&self.config).map(|it| now + it);
                        self.pending.push(Pending { wish, deadline, answer });
                        self.settle(now);
                    }
                    Err(error) => drop(answer.send(Err(error))),
                }
            }
        }
    }

    /// Ends every replica; with `hurry` at once.
    pub(crate) fn shut_down(&mut self, now: Instant, hurry: bool) {
        self.hurry = hurry;
        self.closing = true;
        self.part();
        // What was wanted until now is what the next balancer shall start with.
        self.scribe = None;
        self.step(now, Event::Shutdown);
        // The requests in flight were waited for already.
        for (name, incarnation) in self.draining().collect::<Vec<_>>() {
            self.step(now, Event::Drained { name, incarnation });
        }
    }

    fn step(&mut self, now: Instant, event: Event) {
        let commands = self.fleet.step(now, event);
        let moved = commands.iter().any(|it| matches!(it, Command::Announce(_)));
        if moved {
            self.refresh();
            self.ramp(now);
        }
        for command in commands {
            self.execute(now, command);
        }
        if moved {
            self.agreement.is_behind |= self.provider.is_shared();
            self.write_down();
            self.replace_outdated(now);
        }
        self.settle(now);
    }

    fn execute(&mut self, now: Instant, command: Command) {
        match command {
            Command::Spawn { host, number, incarnation, after } => {
                if let Some(cause) = after {
                    self.note_respawn(&host.name, &cause);
                }
                let spec = Spec { host, number, incarnation };
                self.run(spec, None);
            }
            Command::Stop { name, incarnation } if !self.hurry => {
                self.end(name, incarnation, Ending::Graceful(self.config.stop_grace));
            }
            Command::Stop { name, incarnation } | Command::Kill { name, incarnation } => {
                self.end(name, incarnation, Ending::Now);
            }
            Command::Announce(change) => self.announce(now, change),
        }
    }

    fn draining(&self) -> impl Iterator<Item = (ReplicaName, Incarnation)> {
        self.fleet.replicas().filter_map(|replica| match replica.phase {
            Phase::Draining { stopping: false, .. } => {
                Some((replica.name().clone(), replica.incarnation))
            }
            Phase::Draining { stopping: true, .. }
            | Phase::Starting { .. }
            | Phase::Serving { .. }
            | Phase::Down { .. } => None,
        })
    }
}
