//! Keeps every pool as wanted: one loop, the only writer of fleets and routes.
//!
//! ```text
//!   heartbeats, exits ──News──▶ ┌────────────┐ ──publish──▶ routes (before any command)
//!   admin ──────────────Ask───▶ │ supervisor │ ──Spawn, Stop, Kill──▶ provider (each in a task)
//!   timer ────────────────────▶ └────────────┘ ──answers──▶ admin
//! ```
//!
//! The loop never waits for an effect: what takes time is a task that reports by [`News`].

pub(crate) mod handle;
mod handover;
mod keeper;
mod legacy;
mod memory;
mod pending;
mod reconfigure;
mod run;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ringmaster_fleet::Event;
use tokio::sync::{mpsc, watch};

use self::handle::{Ask, Freeze, Question, Reconfigure};
pub(crate) use self::{
    handle::{AskError, Frozen, Handle, PoolView, ReplicaView},
    keeper::{Keeper, KeeperParts},
    legacy::{Legacy, PoolLegacy},
    memory::{Memory, MemoryError, Recollection, Scribe},
    run::{News, What},
};
use crate::{config::PoolConfig, events::Publisher};

/// How often a shutdown looks whether the last client is gone.
const CLOSING_PAUSE: Duration = Duration::from_millis(10);

/// How long the first replica to serve waits for the others before the start is called a success.
const READY_PATIENCE: Duration = Duration::from_secs(1);

/// A keeper of a pool, known by a number that no other has.
pub(crate) type MakeKeeper =
    Box<dyn Fn(usize, &str, &PoolConfig) -> anyhow::Result<Keeper> + Send + Sync>;

/// Told what runs where.
pub(crate) type OnReady = Box<dyn FnOnce(&[PoolView]) + Send + Sync>;

/// Told that the pools are kept.
pub(crate) type OnBegun = Box<dyn FnOnce() + Send + Sync>;

/// What the loop is made of.
pub(crate) struct Supervisor {
    pub(crate) keepers: Vec<Keeper>,
    /// Makes the keeper of a pool that a reload brings.
    pub(crate) make_keeper: MakeKeeper,
    pub(crate) events: Publisher,
    pub(crate) asks: mpsc::Receiver<Ask>,
    pub(crate) news: mpsc::Receiver<News>,
    /// Connections of clients: each may still bring a request, or have one in progress.
    pub(crate) connections_open: Box<dyn Fn() -> usize + Send + Sync>,
    /// Set when they shall not be waited for any longer.
    pub(crate) forced: Arc<AtomicBool>,
    /// How long they may take once the balancer closes.
    pub(crate) grace: Duration,
    /// Connections of operators, on their own listener.
    pub(crate) operators_open: Box<dyn Fn() -> usize + Send + Sync>,
    /// How long clients may take once another process has taken over.
    pub(crate) leaving_grace: Duration,
    /// Called once, when it is known what an earlier balancer left, and routes lead to what of it serves.
    pub(crate) on_begun: Option<OnBegun>,
    /// Called once, when the balancer is ready.
    pub(crate) on_ready: Option<OnReady>,
    /// Whoever waits for it to stand still.
    pub(crate) freezing: Option<Freeze>,
    /// Whether it stands still.
    pub(crate) is_frozen: bool,
}

impl Supervisor {
    /// Runs until `shutdown`, then until the last client and the last replica are gone; or until another process takes
    /// over, then until the last client is gone.
    pub(crate) async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        self.keepers.iter().for_each(Keeper::begin);
        let mut ready_since = None;
        loop {
            let wakeup = self.next_wakeup(ready_since);
            tokio::select! {
                biased;
                _ = shutdown.wait_for(|&down| down) => break,
                () = sleep_until(wakeup) => self.tick(),
                Some(news) = self.news.recv() => self.hear(news),
                Some(ask) = self.asks.recv() => self.answer(ask),
            }
            self.drop_empty();
            self.report_begun();
            self.report_ready(&mut ready_since);
            if self.stand_still().await {
                return self.leave().await;
            }
        }
        self.close().await;
    }

    fn next_wakeup(&self, ready_since: Option<Instant>) -> Option<Instant> {
        let patience =
            ready_since.filter(|_| self.on_ready.is_some()).map(|it| it + READY_PATIENCE);
        let settled = self.freezing.as_ref().map(|it| it.until);
        let of_keepers = self.keepers.iter().filter_map(Keeper::next_wakeup);
        of_keepers.chain(patience).chain(settled).min()
    }

    fn tick(&mut self) {
        let now = Instant::now();
        self.keepers.iter_mut().for_each(|keeper| keeper.tick(now));
    }

    fn hear(&mut self, news: News) {
        // A pool that was let go may still be spoken of.
        if let Some(keeper) = self.keepers.iter_mut().find(|it| it.index() == news.pool) {
            keeper.hear(Instant::now(), news.what);
        }
    }

    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Pool { question: question @ Question::Apply { .. }, .. }
                if self.is_upgrading() =>
            {
                question.refuse(AskError::Upgrading);
            }
            Ask::Reconfigure(Reconfigure { answer, .. }) if self.is_upgrading() => {
                drop(answer.send(Err(AskError::Upgrading)));
            }
            Ask::Freeze(freeze) => self.freeze(freeze),
            Ask::Pool { pool, question } => match self.keeper_of(&pool) {
                Some(keeper) => keeper.answer(Instant::now(), question),
                None => question.refuse(AskError::UnknownPool(pool)),
            },
            Ask::Reconfigure(Reconfigure { pools, reloaded, publish, answer }) => {
                // Whoever asked may have gone away.
                let _ = answer.send(self.reconfigure(&pools, reloaded, publish));
            }
        }
    }

    fn keeper_of(&mut self, pool: &str) -> Option<&mut Keeper> {
        self.keepers.iter_mut().find(|it| it.name() == pool && !it.is_retired())
    }

    fn report_begun(&mut self) {
        if self.keepers.iter().all(Keeper::has_begun)
            && let Some(on_begun) = self.on_begun.take()
        {
            on_begun();
        }
    }

    /// Ready is: a replica of every pool serves, and the others do too or were given a moment.
    fn report_ready(&mut self, ready_since: &mut Option<Instant>) {
        if self.on_ready.is_none() {
            return;
        }
        if !self.keepers.iter().all(Keeper::is_served) {
            // The moment that the others have begins anew, or its end would be due for ever.
            *ready_since = None;
            return;
        }
        let since = *ready_since.get_or_insert_with(Instant::now);
        if self.keepers.iter().all(Keeper::is_whole) || since.elapsed() >= READY_PATIENCE {
            let views: Vec<_> = self.keepers.iter().map(|it| it.view(Instant::now())).collect();
            if let Some(on_ready) = self.on_ready.take() {
                on_ready(&views);
            }
        }
    }

    /// Heals on while clients are connected, then ends every replica.
    async fn close(mut self) {
        self.asks.close();
        let mut due = Instant::now();
        let deadline = due + self.grace;
        while self.is_waiting_for_clients() && Instant::now() < deadline {
            self.turn(&mut due).await;
        }
        let hurry = (self.connections_open)() > 0;
        let now = Instant::now();
        self.keepers.iter_mut().for_each(|keeper| keeper.shut_down(now, hurry));
        while !self.keepers.iter().all(Keeper::is_empty) {
            self.turn(&mut due).await;
        }
    }

    fn is_waiting_for_clients(&self) -> bool {
        (self.connections_open)() > 0 && !self.forced.load(Ordering::Acquire)
    }

    /// Hears news, or does what is due: at `due`, however many news there are.
    async fn turn(&mut self, due: &mut Instant) {
        tokio::select! {
            biased;
            () = sleep_until(Some(*due)) => {
                self.tick();
                *due = Instant::now() + CLOSING_PAUSE;
            }
            Some(news) = self.news.recv() => self.hear(news),
        }
    }
}

async fn sleep_until(wakeup: Option<Instant>) {
    match wakeup {
        Some(wakeup) => tokio::time::sleep_until(wakeup.into()).await,
        None => std::future::pending().await,
    }
}

/// An event of the fleet, as news.
impl From<Event> for What {
    fn from(event: Event) -> Self {
        Self::Event(event)
    }
}
