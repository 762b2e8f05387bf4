//! How many containers there may be, kept over orders that are carried out at the same time.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Mutex as AsyncMutex;

use crate::engine::{Container, EngineError};

/// Counts the containers that exist and those that are being made, by name.
pub(super) struct Places {
    max: usize,
    /// Held while it is counted.
    counting: AsyncMutex<()>,
    /// A name stands here as often as it is being made.
    making: Mutex<Vec<String>>,
}

/// The right to make a container, until it is dropped.
pub(super) struct Place<'a> {
    places: &'a Places,
    name: String,
}

impl Places {
    pub(super) fn new(max: usize) -> Self {
        Self { max, counting: AsyncMutex::default(), making: Mutex::default() }
    }

    /// Takes a place for `name` beside the containers that `inspect` finds.
    pub(super) async fn take(
        &self,
        name: &str,
        inspect: impl Future<Output = Result<Vec<Container>, EngineError>>,
    ) -> Result<Place<'_>, EngineError> {
        let _turn = self.counting.lock().await;
        // Read before it is inspected: what is made meanwhile is then counted in any case.
        let mut names: BTreeSet<String> = self.making().iter().cloned().collect();
        names.extend(inspect.await?.into_iter().map(|container| container.name));
        if names.len() >= self.max && !names.contains(name) {
            return Err(EngineError::Refused(format!(
                "there are {} containers; allowed are {} (--replicas-max)",
                names.len(),
                self.max
            )));
        }
        self.making().push(name.to_owned());
        Ok(Place { places: self, name: name.to_owned() })
    }

    fn making(&self) -> MutexGuard<'_, Vec<String>> {
        // The list is whole between any two calls, so a panic elsewhere leaves nothing half done.
        self.making.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut making = self.places.making();
        if let Some(index) = making.iter().position(|it| *it == self.name) {
            making.swap_remove(index);
        }
    }
}
