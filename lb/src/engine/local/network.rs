//! The network that replicas share: created if it is missing, used only if names work on it, removed if it was created
//! here and nobody uses it any more.

use std::collections::HashMap;

use bollard::{
    Docker,
    models::{Network, NetworkCreateRequest},
    query_parameters::ListNetworksOptions,
};

use super::{
    Local, NETWORKS,
    fault::{Fault, or_absent},
    labels,
};
use crate::engine::EngineError;

/// The one driver whose networks give containers names and addresses on a single machine.
const BRIDGE: &str = "bridge";

/// The engine's own network of that driver, on which containers have no names.
const NAMELESS: &str = "bridge";

/// The one driver whose networks reach over all machines of a Swarm.
const OVERLAY: &str = "overlay";

impl Local {
    /// Makes the network of one machine exist, or says why it cannot be used.
    pub(super) async fn ensure_network(
        &self,
        docker: &Docker,
        cluster: &str,
        network: &str,
    ) -> Result<(), EngineError> {
        self.ensure(docker, cluster, network, BRIDGE).await?;
        nameable(network)
    }

    /// Whether the network of a single machine exists; an error if it does and cannot be used.
    pub(super) async fn usable_network(
        &self,
        docker: &Docker,
        network: &str,
    ) -> Result<bool, EngineError> {
        nameable(network)?;
        self.exists(docker, network, BRIDGE).await
    }

    /// Makes the network of a Swarm exist, or says why it cannot be used.
    pub(super) async fn ensure_overlay(
        &self,
        docker: &Docker,
        cluster: &str,
        network: &str,
    ) -> Result<(), EngineError> {
        self.ensure(docker, cluster, network, OVERLAY).await
    }

    async fn ensure(
        &self,
        docker: &Docker,
        cluster: &str,
        network: &str,
        driver: &str,
    ) -> Result<(), EngineError> {
        let _one_at_a_time = NETWORKS.lock().await;
        if !self.exists(docker, network, driver).await? {
            self.create(docker, cluster, network, driver).await?;
        }
        Ok(())
    }

    /// Whether the network exists; an error if it has another driver.
    async fn exists(
        &self,
        docker: &Docker,
        network: &str,
        driver: &str,
    ) -> Result<bool, EngineError> {
        let mut found = self.networks(docker, [("name", network.to_owned())]).await?;
        // The filter matches parts of names, too.
        found.retain(|it| it.name.as_deref() == Some(network));
        let found = match &found[..] {
            [] => return Ok(false),
            [found] => found.driver.as_deref().unwrap_or_default(),
            several => {
                return Err(EngineError::Refused(format!(
                    "there are {} networks {network}: remove all but one, or name another network",
                    several.len()
                )));
            }
        };
        if found != driver {
            return Err(EngineError::Refused(format!(
                "network {network} has the driver {found}, not {driver}: \
                 name another network, or one that does not exist yet"
            )));
        }
        Ok(true)
    }

    /// Removes the networks of a single machine that were created for the cluster, unless a container is on one, be it
    /// stopped.
    pub(super) async fn remove_unused_networks(
        &self,
        docker: &Docker,
        cluster: &str,
    ) -> Result<(), EngineError> {
        let filters = [("label", labels::filter(cluster)), ("driver", BRIDGE.to_owned())];
        let ours = self.networks(docker, filters).await?;
        for network in ours {
            let (Some(id), Some(name)) = (network.id, network.name) else { continue };
            // A container that was never started knows the name only.
            let on_it = self.list(docker, [("network", vec![id.clone(), name])]).await?;
            if !on_it.is_empty() {
                continue;
            }
            match or_absent(self.call(docker.remove_network(&id)).await) {
                // Somebody has begun to use it.
                Err(Fault::Answered { status: 403 | 409, .. }) => {}
                removed => drop(removed?),
            }
        }
        Ok(())
    }

    async fn networks(
        &self,
        docker: &Docker,
        filters: impl IntoIterator<Item = (&str, String)>,
    ) -> Result<Vec<Network>, Fault> {
        let filters: HashMap<_, _> =
            filters.into_iter().map(|(key, value)| (key.to_owned(), vec![value])).collect();
        let options = ListNetworksOptions { filters: Some(filters) };
        self.call(docker.list_networks(Some(options))).await
    }

    async fn create(
        &self,
        docker: &Docker,
        cluster: &str,
        network: &str,
        driver: &str,
    ) -> Result<(), Fault> {
        let request = NetworkCreateRequest {
            name: network.to_owned(),
            driver: Some(driver.to_owned()),
            // Without it only services could be on an overlay network, and not the balancer.
            attachable: Some(driver == OVERLAY),
            labels: Some(labels::for_network(cluster)),
            ..Default::default()
        };
        match self.call(docker.create_network(request)).await {
            // Somebody else was faster.
            Err(Fault::Answered { status: 409, .. }) => Ok(()),
            answer => answer.map(drop),
        }
    }
}

/// Refuses the one network of its driver on which containers have no names.
fn nameable(network: &str) -> Result<(), EngineError> {
    if network == NAMELESS {
        return Err(EngineError::Refused(format!(
            "network {NAMELESS} is the engine's own, where containers have no names: name another one"
        )));
    }
    Ok(())
}
