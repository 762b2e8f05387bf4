//! Handing over to another process of this balancer: no more changes, then standing still, then leaving; or going on
//! as before.
//!
//! ```text
//!   running ─Freeze─▶ settling ─nothing is under way─▶ frozen ─leave─▶ waiting for the last clients ─▶ end
//!      ▲                  │ too late                      │
//!      └──────────────────┴───────────────────────────────┘ Frozen was dropped
//! ```
//!
//! Invariant: from the moment on at which a [`Frozen`] exists, this process starts and ends no replica until that is
//! dropped; so at most one process does.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use tracing::info;

use super::{
    CLOSING_PAUSE, Keeper, Supervisor,
    handle::{AskError, Freeze, Frozen},
    legacy::Legacy,
};

/// How long nobody must be connected before the process may end: a connection that was accepted a moment ago is not
/// counted yet.
const LINGER: Duration = Duration::from_millis(500);

impl Supervisor {
    /// Begins to settle, unless it is asked to already.
    pub(super) fn freeze(&mut self, freeze: Freeze) {
        match self.freezing {
            // Whoever asked may have gone away.
            Some(_) => drop(freeze.answer.send(Err(AskError::Upgrading))),
            None => self.freezing = Some(freeze),
        }
    }

    /// Whether changes are refused.
    pub(super) fn is_upgrading(&self) -> bool {
        self.freezing.is_some() || self.is_frozen
    }

    /// Stands still if that was asked for and nothing is under way; true if another process has taken over.
    pub(super) async fn stand_still(&mut self) -> bool {
        let Some(Freeze { until, answer }) = self.freezing.take() else { return false };
        if let Some(reason) = self.keepers.iter().find_map(Keeper::unsettled) {
            if Instant::now() >= until {
                // Whoever asked may have gone away.
                drop(answer.send(Err(AskError::Unsettled(reason))));
            } else if !answer.is_closed() {
                self.freezing = Some(Freeze { until, answer });
            }
            return false;
        }
        for keeper in &self.keepers {
            keeper.flush().await;
        }
        let now = Instant::now();
        let legacy: Option<Legacy> = self
            .keepers
            .iter()
            .map(|keeper| Some((keeper.name().to_owned(), keeper.legacy(now)?)))
            .collect();
        let legacy = legacy.expect("a settled pool has replicas in phases that can be handed over");
        let (leave, mut left) = oneshot::channel();
        self.is_frozen = true;
        // Whoever asked may have gone away, which thaws it at once.
        drop(answer.send(Ok(Frozen { legacy, leave })));
        let has_left = loop {
            tokio::select! {
                biased;
                left = &mut left => break left.is_ok(),
                Some(ask) = self.asks.recv() => self.answer(ask),
            }
        };
        if !has_left {
            info!("Going on, as nobody has taken over");
            self.is_frozen = false;
            self.keepers.iter_mut().for_each(Keeper::resume);
        }
        has_left
    }

    /// Waits for the last client, and touches nothing: another process keeps the replicas.
    pub(super) async fn leave(self) {
        let Self { keepers, asks, news, make_keeper, events, .. } = self;
        // With them the history of events ends, and whoever follows it turns to the other process.
        drop((keepers, asks, news, make_keeper, events));
        let deadline = Instant::now() + self.leaving_grace;
        let mut alone_since = None;
        while Instant::now() < deadline && !self.forced.load(Ordering::Acquire) {
            let open = (self.connections_open)() + (self.operators_open)();
            match (open, alone_since) {
                (0, None) => alone_since = Some(Instant::now()),
                (0, Some(since)) if since.elapsed() >= LINGER => return,
                (0, Some(_)) => {}
                (_, _) => alone_since = None,
            }
            tokio::time::sleep(CLOSING_PAUSE).await;
        }
    }
}
