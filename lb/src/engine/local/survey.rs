//! What would stand in the way of replicas, found without starting any.

use super::{Local, fault, fault::Fault, labels};
use crate::{config::DockerConfig, engine::EngineError};

impl Local {
    /// One finding each for the engine, the image, the network, and the names in question; only the first if the
    /// engine does not answer. Changes nothing.
    pub(crate) async fn survey(
        &self,
        cluster: &str,
        config: &DockerConfig,
        names: impl IntoIterator<Item = String>,
    ) -> Vec<Result<String, EngineError>> {
        if let Err(fault) = self.docker().await {
            return vec![Err(fault.into())];
        }
        let mut findings = vec![Ok(format!("the engine at {} answers", self.address.host))];
        findings.push(self.image(&config.image).await);
        findings.push(self.network(&config.network).await);
        for name in names {
            findings.extend(self.holder(cluster, &name).await.err().map(Err));
        }
        findings
    }

    async fn image(&self, image: &str) -> Result<String, EngineError> {
        let docker = self.docker().await?;
        match self.call(docker.inspect_image(image)).await {
            Ok(_) => Ok(format!("image {image} is there")),
            Err(Fault::Answered { status: 404, .. }) => Err(fault::no_image(image)),
            Err(fault) => Err(fault.into()),
        }
    }

    async fn network(&self, network: &str) -> Result<String, EngineError> {
        let docker = self.docker().await?;
        Ok(match self.usable_network(&docker, network).await? {
            true => format!("network {network} is there"),
            false => format!("network {network} is not there yet: it will be created"),
        })
    }

    /// Fails if a container holds the name that is not ours to touch.
    async fn holder(&self, cluster: &str, name: &str) -> Result<(), EngineError> {
        let docker = self.docker().await?;
        let Some(found) = self.called(&docker, name).await? else { return Ok(()) };
        match labels::of_listed(cluster, &found) {
            Some(ours) if ours.name == name => Ok(()),
            Some(_) | None => Err(fault::foreign(cluster, name, &found)),
        }
    }
}
