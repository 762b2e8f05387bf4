//! Replicas that somebody else runs: their addresses are configured, only heartbeats and routes are ours.

use std::{collections::BTreeMap, future, net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use ringmaster_fleet::{Exit, Incarnation, ReplicaName};

use super::{Ended, Ending, Found, Provider, Remembered, Spec, Started, failure};
use crate::config::ProviderConfig;

/// A replica per configured address. "Starting" one is to begin probing it, "ending" one to stop.
pub(crate) struct Fixed(ArcSwap<BTreeMap<ReplicaName, SocketAddr>>);

impl Fixed {
    pub(crate) fn new(addresses: BTreeMap<ReplicaName, SocketAddr>) -> Self {
        Self(ArcSwap::from_pointee(addresses))
    }
}

#[async_trait]
impl Provider for Fixed {
    fn kind(&self) -> &'static str {
        "fixed"
    }

    fn names(&self) -> Option<Vec<ReplicaName>> {
        Some(self.0.load().keys().cloned().collect())
    }

    fn reconfigure(&self, config: &ProviderConfig) {
        if let ProviderConfig::Fixed(addresses) = config {
            self.0.store(Arc::new(addresses.clone()));
        }
    }

    /// Those that are still where they were.
    async fn find(&self, remembered: &[Remembered]) -> anyhow::Result<Vec<Found>> {
        let addresses = self.0.load();
        let found = |it: &Remembered| {
            let started = it.started.filter(|started| {
                addresses.get(&it.spec.host.name).is_some_and(|addr| *addr == started.addr)
            })?;
            Some(Found { spec: it.spec.clone(), started, outdated: false })
        };
        Ok(remembered.iter().filter_map(found).collect())
    }

    async fn spawn(&self, spec: &Spec) -> Result<Started, Exit> {
        match self.0.load().get(&spec.host.name) {
            Some(&addr) => Ok(Started { addr, process: None }),
            None => {
                Err(failure(format!("no address is configured for {}", spec.host.name), vec![]))
            }
        }
    }

    async fn exited(&self, _: &ReplicaName, _: Incarnation) -> Exit {
        future::pending().await
    }

    async fn end(&self, _: &ReplicaName, _: Incarnation, _: Ending) -> Option<Ended> {
        None
    }
}
