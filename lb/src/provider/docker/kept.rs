//! The containers that were asked for and not ended by us, and what is heard of them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use ringmaster_fleet::Exit;
use tokio::sync::{Mutex as AsyncMutex, mpsc, watch};
use tracing::{info, warn};

use crate::{
    engine::{End, Engine, EngineError, Happening},
    provider::{failure, insist},
};

/// A container by name and incarnation.
pub(super) type Key = (String, u64);

/// All of them.
#[derive(Default)]
pub(super) struct Kept {
    containers: Mutex<HashMap<Key, Keeping>>,
    /// Why the engine is not heard.
    trouble: Mutex<Option<EngineError>>,
}

/// One of them.
#[derive(Clone)]
pub(super) struct Keeping {
    /// Held while it is being made.
    pub(super) making: Arc<AsyncMutex<()>>,
    heard: watch::Sender<Heard>,
}

/// What is known of a container.
///
/// Ends are told of a name and an incarnation. That is not enough to tell whose they are: a predecessor that nobody
/// remembers may have had both, and news of its end may come late.
#[derive(Default)]
struct Heard {
    /// The engine's, once it has told: only then absence means an end.
    id: Option<String>,
    /// By id. Of several ends of one container the first is the telling one.
    ends: HashMap<String, Exit>,
}

impl Heard {
    fn exit(&self) -> Option<&Exit> {
        self.ends.get(self.id.as_ref()?)
    }
}

impl Keeping {
    /// Whether its end was heard of.
    pub(super) fn has_ended(&self) -> bool {
        self.heard.borrow().exit().is_some()
    }

    /// Waits for its end.
    pub(super) async fn exited(&self) -> Exit {
        let mut heard = self.heard.subscribe();
        match heard.wait_for(|it| it.exit().is_some()).await.map(|it| it.exit().cloned()) {
            Ok(Some(exit)) => exit,
            Ok(None) | Err(_) => failure("it is kept no more".to_owned(), vec![]),
        }
    }
}

impl Kept {
    pub(super) fn get(&self, key: &Key) -> Option<Keeping> {
        lock(&self.containers).get(key).cloned()
    }

    pub(super) fn insert(&self, key: Key) -> Keeping {
        let keeping = Keeping { making: Arc::default(), heard: watch::Sender::default() };
        lock(&self.containers).insert(key, keeping.clone());
        keeping
    }

    /// Answers how it had ended, if that was heard.
    pub(super) fn remove(&self, key: &Key) -> Option<Exit> {
        let keeping = lock(&self.containers).remove(key)?;
        keeping.heard.borrow().exit().cloned()
    }

    /// Says which container it is that was asked for.
    pub(super) fn identify(&self, key: &Key, id: String) {
        if let Some(keeping) = self.get(key) {
            keeping.heard.send_modify(|heard| heard.id = Some(id));
        }
    }

    /// Why the engine is not heard, if it is not.
    pub(super) fn trouble(&self) -> Option<EngineError> {
        lock(&self.trouble).clone()
    }

    /// Takes in what happens until the engine tells nothing more.
    pub(super) async fn listen(
        &self,
        engine: &dyn Engine,
        cluster: &str,
        mut happenings: mpsc::Receiver<Happening>,
    ) {
        while let Some(happening) = happenings.recv().await {
            match happening {
                Happening::Ended { name, incarnation, id, end } => {
                    self.note_exit(&(name, incarnation), id, exit_now(end));
                }
                Happening::Lost(error) => *lock(&self.trouble) = Some(error),
                Happening::Gap => {
                    self.compare(engine, cluster).await;
                    *lock(&self.trouble) = None;
                }
            }
        }
    }

    fn note_exit(&self, key: &Key, id: String, exit: Exit) {
        if let Some(keeping) = self.get(key) {
            keeping.heard.send_modify(|heard| {
                heard.ends.entry(id).or_insert(exit);
            });
        }
    }

    /// Finds out which containers have ended unheard; those made after the question was asked are left alone.
    async fn compare(&self, engine: &dyn Engine, cluster: &str) {
        let expected = self.existing();
        let containers = insist(
            || engine.inspect(cluster),
            |error, retry_in| warn!(cluster, %error, ?retry_in, "Containers cannot be listed"),
        )
        .await;
        info!(cluster, containers = containers.len(), "The engine's events are heard");
        for (key, id) in expected {
            if !containers.iter().any(|it| it.running && it.id == id) {
                let reason = "ended while the engine was not heard".to_owned();
                self.note_exit(&key, id, failure(reason, vec![]));
            }
        }
    }

    fn existing(&self) -> Vec<(Key, String)> {
        let containers = lock(&self.containers);
        let identified =
            |(key, it): (&Key, &Keeping)| it.heard.borrow().id.clone().map(|id| (key.clone(), id));
        containers.iter().filter_map(identified).collect()
    }
}

/// An end that was heard of now.
pub(super) fn exit_now(End { code, reason, log, .. }: End) -> Exit {
    Exit { code, reason, log, at: SystemTime::now() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it guards is whole between any two calls, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn key() -> Key {
        ("1".to_owned(), 1)
    }

    fn exit(reason: &str) -> Exit {
        failure(reason.to_owned(), vec![])
    }

    fn told(keeping: &Keeping) -> Option<String> {
        keeping.exited().now_or_never().map(|exit| exit.reason)
    }

    #[test]
    fn the_end_of_a_predecessor_is_not_taken_for_its_own() {
        for predecessor_ends_first in [true, false] {
            let kept = Kept::default();
            let keeping = kept.insert(key());
            let predecessor = || kept.note_exit(&key(), "old".to_owned(), exit("exit 2"));
            if predecessor_ends_first {
                predecessor();
            }
            kept.identify(&key(), "new".to_owned());
            if !predecessor_ends_first {
                predecessor();
            }
            assert_eq!(told(&keeping), None);
            kept.note_exit(&key(), "new".to_owned(), exit("exit 1"));
            assert_eq!(told(&keeping).as_deref(), Some("exit 1"));
            assert_eq!(kept.remove(&key()).map(|exit| exit.reason).as_deref(), Some("exit 1"));
        }
    }

    #[test]
    fn an_end_told_before_its_start_counts_and_of_two_the_first() {
        let kept = Kept::default();
        let keeping = kept.insert(key());
        kept.note_exit(&key(), "new".to_owned(), exit("exit 1"));
        kept.note_exit(&key(), "new".to_owned(), exit("removed"));
        assert_eq!(told(&keeping), None);
        kept.identify(&key(), "new".to_owned());
        assert_eq!(told(&keeping).as_deref(), Some("exit 1"));
    }
}
