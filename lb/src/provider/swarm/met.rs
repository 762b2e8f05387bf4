//! The tasks that this balancer has met: which one runs an incarnation, and which one was given up.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ringmaster_fleet::{Incarnation, ReplicaName};

use super::started;
use crate::{
    engine::{Service, Stage, Task},
    provider::Started,
};

/// By the name of the replica.
#[derive(Default)]
pub(super) struct Met(Mutex<HashMap<ReplicaName, Entry>>);

#[derive(Default)]
struct Entry {
    /// Which task the latest incarnation is.
    running: Option<(Incarnation, String)>,
    /// A task that no later incarnation shall be.
    given_up: Option<String>,
    /// Whether its service was made from other settings than ours.
    outdated: bool,
}

impl Met {
    pub(super) fn meet(&self, name: &ReplicaName, incarnation: Incarnation, task: &str) {
        self.lock().entry(name.clone()).or_default().running = Some((incarnation, task.to_owned()));
    }

    pub(super) fn note_outdated(&self, name: &ReplicaName, outdated: bool) {
        self.lock().entry(name.clone()).or_default().outdated = outdated;
    }

    pub(super) fn is_outdated(&self, name: &ReplicaName) -> bool {
        self.lock().get(name).is_some_and(|it| it.outdated)
    }

    pub(super) fn task(&self, name: &ReplicaName, incarnation: Incarnation) -> Option<String> {
        let met = self.lock();
        let (running, task) = met.get(name)?.running.as_ref()?;
        (*running == incarnation).then(|| task.clone())
    }

    /// The incarnation is over, and with it its task.
    pub(super) fn give_up(&self, name: &ReplicaName, incarnation: Incarnation) {
        if let Some(entry) = self.lock().get_mut(name)
            && let Some((_, task)) = entry.running.take_if(|(it, _)| *it == incarnation)
        {
            entry.given_up = Some(task);
        }
    }

    pub(super) fn forget(&self, name: &ReplicaName) {
        self.lock().remove(name);
    }

    /// A task that the next incarnation can be, and where it listens.
    pub(super) fn startable<'a>(
        &self,
        name: &ReplicaName,
        service: &'a Service,
    ) -> Option<(&'a Task, Started)> {
        let given_up = self.given_up(name);
        let mut tasks = service.tasks.iter();
        tasks.find_map(|task| {
            let fits =
                task.wanted && task.stage == Stage::Running && Some(&task.id) != given_up.as_ref();
            Some((task, started(service, task).filter(|_| fits)?))
        })
    }

    /// Whether it is the task that no later incarnation shall be.
    pub(super) fn gave_up(&self, name: &ReplicaName, task: &Task) -> bool {
        self.given_up(name).is_some_and(|it| it == task.id)
    }

    /// Whether the Swarm wants no other task than the one that was given up: by itself it will not replace it.
    pub(super) fn is_stuck(&self, name: &ReplicaName, service: &Service) -> bool {
        let given_up = self.given_up(name);
        let mut wanted = service.tasks.iter().filter(|it| it.wanted).map(|it| &it.id).peekable();
        wanted.peek().is_some() && wanted.all(|id| Some(id) == given_up.as_ref())
    }

    fn given_up(&self, name: &ReplicaName) -> Option<String> {
        self.lock().get(name)?.given_up.clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ReplicaName, Entry>> {
        // What it guards is whole between any two calls, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
