//! Handing the pool to another process of this balancer, and going on with one that was handed over.

use std::{collections::HashMap, time::Instant};

use ringmaster_fleet::{Phase, Replica, ReplicaName};

use super::Keeper;
use crate::{
    provider::Remembered,
    supervisor::legacy::{PoolLegacy, ReplicaLegacy},
};

/// A pool that was handed over, until it is known what runs of it.
pub(super) struct Received {
    pub(super) remembered: Vec<Remembered>,
    /// As they were.
    pub(super) replicas: HashMap<ReplicaName, Replica>,
}

impl Received {
    pub(super) fn new(legacy: PoolLegacy) -> Result<Self, String> {
        let now = Instant::now();
        let mut received = Self { remembered: Vec::new(), replicas: HashMap::new() };
        for replica in legacy.replicas {
            let (remembered, replica) = replica.receive(now)?;
            received.remembered.push(remembered);
            received.replicas.insert(replica.name().clone(), replica);
        }
        Ok(received)
    }
}

impl Keeper {
    /// What keeps the pool from being handed over at present: something is under way that only this process can end.
    pub(crate) fn unsettled(&self) -> Option<String> {
        let name = &self.name;
        if !self.begun {
            return Some(format!("pool {name} is not taken over yet from an earlier balancer"));
        }
        if self.retired {
            return Some(format!("pool {name} is still being emptied"));
        }
        if !self.pending.is_empty() || self.proposed() > 0 {
            return Some(format!("a change of pool {name} is under way"));
        }
        self.fleet.replicas().find_map(|replica| match replica.phase {
            Phase::Starting { .. } => {
                let is_known = self.runs.get(replica.name()).is_some_and(|it| it.started.is_some());
                (!is_known).then(|| format!("{} is being started", replica.name()))
            }
            Phase::Down { stopped: false, .. } => Some(format!("{} is ending", replica.name())),
            Phase::Draining { .. } => Some(format!("{} is draining", replica.name())),
            Phase::Serving { .. } | Phase::Down { stopped: true, .. } => None,
        })
    }

    /// The pool, if it is settled.
    pub(crate) fn legacy(&self, now: Instant) -> Option<PoolLegacy> {
        let replicas = self.fleet.replicas();
        let replicas = replicas.map(|it| ReplicaLegacy::of(now, it, &self.remembered(it)));
        Some(PoolLegacy {
            provider: self.provider.kind().to_owned(),
            version: self.fleet.version(),
            floor: self.fleet.floor().get(),
            replicas: replicas.collect::<Option<_>>()?,
        })
    }

    /// Waits until what was written down is in the file.
    pub(crate) async fn flush(&self) {
        if let Some(scribe) = &self.scribe {
            scribe.flush().await;
        }
    }

    /// Goes on after a handover that failed: the other process may have written down what it made of the pool.
    pub(crate) fn resume(&mut self) {
        self.written = None;
        self.write_down();
    }
}
