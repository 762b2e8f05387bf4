//! What has happened to replicas and to the configuration: a bounded history, and news of what joins it.
//!
//! ```text
//!   supervisor ─publish─▶ ┌ history ──────────┐ ◀── Follower (an id) ── one for each reader
//!                         │ 5, 6, 7, …, 1,028 │ ◀── Follower (an id)
//!                         └───────────────────┘
//! ```
//!
//! A follower is no queue but the id of what it has seen, so a slow reader costs no memory: when the history has
//! moved past it, it learns of the gap and goes on with the oldest event that is left.
//!
//! Invariants: ids begin at 1 with the balancer and grow by one; at most [`EVENTS_MAX`] events are kept.

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, sync::Arc, time::SystemTime};

use ringmaster_fleet::Change;
use tokio::sync::watch;

/// How many events are kept for those who come late.
const EVENTS_MAX: usize = 1_024;

/// Something that happened.
#[derive(Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) id: u64,
    pub(crate) at: SystemTime,
    pub(crate) fact: Fact,
}

/// What it was.
#[derive(Debug, PartialEq)]
pub(crate) enum Fact {
    /// A replica of a pool moved from one phase to another.
    Moved { pool: Arc<str>, change: Change },
    /// Another configuration is in force. The moves that it brings about follow.
    Reloaded(Reloaded),
}

/// What a reload has changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Reloaded {
    /// The keys with other values.
    pub(crate) changed: Vec<String>,
    /// Those of them that take effect with the next start only.
    pub(crate) needs_restart: Vec<String>,
}

/// What a follower learns.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Notice {
    /// The next event.
    Event(Arc<Event>),
    /// What followed the event `after` is not known; `next` is the first that is. It is above `after` unless that
    /// is an id from another run of the balancer.
    Gap { after: u64, next: u64 },
}

/// The events that are kept.
#[derive(Debug, Default)]
struct History {
    events: VecDeque<Arc<Event>>,
    /// The id of the newest event; 0 before the first.
    last: u64,
}

impl History {
    fn push(&mut self, at: SystemTime, fact: Fact) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.last += 1;
        self.events.push_back(Arc::new(Event { id: self.last, at, fact }));
    }

    /// What comes after the event `seen`, if anything does yet.
    fn after(&self, seen: u64) -> Option<Notice> {
        if seen == self.last {
            return None;
        }
        let oldest = self.events.front().map_or(self.last + 1, |event| event.id);
        if seen > self.last || seen + 1 < oldest {
            return Some(Notice::Gap { after: seen, next: oldest });
        }
        // Ids are consecutive, so an event's place follows from its id.
        let place = usize::try_from(seen + 1 - oldest).ok()?;
        self.events.get(place).cloned().map(Notice::Event)
    }
}

/// Where events are published. The history ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Publisher(watch::Sender<History>);

/// Where events are read.
#[derive(Clone, Debug)]
pub(crate) struct Events(watch::Receiver<History>);

/// An empty history, to write and to read.
pub(crate) fn channel() -> (Publisher, Events) {
    let (sender, receiver) = watch::channel(History::default());
    (Publisher(sender), Events(receiver))
}

impl Publisher {
    /// Adds what has just happened.
    pub(crate) fn publish(&self, fact: Fact) {
        let at = SystemTime::now();
        self.0.send_modify(|history| history.push(at, fact));
    }
}

impl Events {
    /// Follows what comes after the event `seen`; without one, what comes from now on.
    pub(crate) fn follow(&self, seen: Option<u64>) -> Follower {
        let history = self.0.clone();
        let seen = seen.unwrap_or_else(|| history.borrow().last);
        Follower { history, seen }
    }
}

/// A reader's place in the history.
#[derive(Debug)]
pub(crate) struct Follower {
    history: watch::Receiver<History>,
    seen: u64,
}

impl Follower {
    /// The id of the event that the next notice comes after.
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    /// Waits for the next notice; `None` when everything was told and nothing will follow.
    pub(crate) async fn next(&mut self) -> Option<Notice> {
        loop {
            let notice = self.history.borrow_and_update().after(self.seen);
            if let Some(notice) = notice {
                self.seen = match &notice {
                    Notice::Event(event) => event.id,
                    Notice::Gap { next, .. } => next - 1,
                };
                return Some(notice);
            }
            self.history.changed().await.ok()?;
        }
    }
}
