//! The network that replicas share: created if it is missing, used only if names work on it.

use bollard::{Docker, models::NetworkCreateRequest};

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
        let found = or_absent(self.call(docker.inspect_network(network, None)).await)?;
        let Some(found) = found else { return Ok(false) };
        let found = found.driver.unwrap_or_default();
        if found != driver {
            return Err(EngineError::Refused(format!(
                "network {network} has the driver {found}, not {driver}: \
                 name another network, or one that does not exist yet"
            )));
        }
        Ok(true)
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
