//! What an experiment makes on the engine of this machine, and takes away again when it is dropped.

use serde_yaml::{Mapping, Value};

use super::Docker;
use crate::balancer::cluster;

/// An image of the replica and a network, called as the cluster of this process's balancers is, and their containers.
pub(crate) struct Guest {
    docker: Docker,
    id: String,
}

impl Guest {
    /// Fails where no engine answers.
    pub(crate) fn begin() -> anyhow::Result<Self> {
        let docker = Docker::of_machine();
        docker.run(&["version"])?;
        // From here on all of it goes with this.
        let guest = Self { docker, id: cluster() };
        guest.docker.import_replica(&guest.id)?;
        Ok(guest)
    }

    /// The keys of a pool of so many containers, with names that nobody else has there.
    pub(crate) fn pool(&self, replicas: u32) -> Mapping {
        let mut pool = self.docker.pool(&self.id, &self.id);
        let names = (1..=replicas).map(|number| format!("{}-{number}", self.id).into());
        pool.insert("names".into(), Value::Sequence(names.collect()));
        pool
    }
}

impl Drop for Guest {
    /// What fails here was not there: nothing more can be done about it.
    fn drop(&mut self) {
        let filter = format!("label=ringmaster.cluster={}", self.id);
        let ids = self.docker.run(&["ps", "--all", "--quiet", "--filter", &filter]);
        for id in ids.unwrap_or_default().lines() {
            let _ = self.docker.run(&["rm", "--force", id]);
        }
        // Of a balancer that was killed.
        let filter = format!("label=ringmaster.claim={}", self.id);
        let claims = self.docker.run(&["volume", "ls", "--quiet", "--filter", &filter]);
        for claim in claims.unwrap_or_default().lines() {
            let _ = self.docker.run(&["volume", "rm", claim]);
        }
        let _ = self.docker.run(&["network", "rm", &self.id]);
        let _ = self.docker.run(&["rmi", &self.id]);
    }
}
