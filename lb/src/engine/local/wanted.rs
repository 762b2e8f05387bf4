//! The wanted set of a pool as several balancers share it: the labels of one config object in the Swarm.
//!
//! Such an object is the one thing of a Swarm that can be written by comparison with what was read, has room for a
//! list and starts nothing. Its content is a mere note; a container never sees it.

use std::collections::{BTreeMap, HashMap};

use bollard::{
    models::{Config, ConfigSpec},
    query_parameters::UpdateConfigOptions,
};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    Local,
    fault::{Fault, or_absent},
    labels,
    services::{in_sequence, index},
};
use crate::engine::EngineError;

/// "Ringmaster" in base64: the content may not be empty.
const CONTENT: &str = "UmluZ21hc3Rlcg==";

/// Before the number of a replica in the key of a label; the label's value is its host.
const REPLICA: &str = "ringmaster.replica.";

/// The wanted replicas of a pool, as they are written down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WantedSet {
    /// Grows with every change; 0 while nothing was ever written.
    pub(crate) version: u64,
    /// Number → host.
    pub(crate) replicas: BTreeMap<u32, String>,
}

impl Local {
    /// What is written down for the pool.
    pub(crate) async fn wanted(&self, cluster: &str, pool: &str) -> Result<WantedSet, EngineError> {
        let found = self.find(cluster, pool).await?;
        Ok(found.map(|(_, _, wanted)| wanted).unwrap_or_default())
    }

    /// Writes `replicas` in place of what was written in version `base`. False if something else is by now.
    pub(crate) async fn write_wanted(
        &self,
        cluster: &str,
        pool: &str,
        base: u64,
        replicas: &BTreeMap<u32, String>,
    ) -> Result<bool, EngineError> {
        let docker = self.docker().await?;
        let mut labels = labels::for_pool(cluster, pool);
        let replicas =
            replicas.iter().map(|(number, host)| (format!("{REPLICA}{number}"), host.clone()));
        labels.extend(replicas);
        if base == 0 {
            let spec = ConfigSpec {
                name: Some(name(cluster, pool)),
                labels: Some(labels),
                data: Some(CONTENT.to_owned()),
                templating: None,
            };
            return match self.call(docker.create_config(spec)).await {
                Ok(_) => Ok(true),
                Err(Fault::Answered { status: 409, .. }) => Ok(false),
                Err(fault) => Err(fault.into()),
            };
        }
        let Some((id, mut spec, found)) = self.find(cluster, pool).await? else {
            return Err(EngineError::Refused(format!(
                "config {} of the Swarm, which held the wanted set of pool {pool}, was removed: \
                 restart the balancers of the pool to begin anew",
                name(cluster, pool)
            )));
        };
        if found.version != base {
            return Ok(false);
        }
        spec.labels = Some(labels);
        let version = i64::try_from(base).unwrap_or(i64::MAX);
        let options = UpdateConfigOptions { version };
        in_sequence(self.call(docker.update_config(&id, spec, options)).await)
    }

    async fn find(
        &self,
        cluster: &str,
        pool: &str,
    ) -> Result<Option<(String, ConfigSpec, WantedSet)>, EngineError> {
        let docker = self.docker().await?;
        let name = name(cluster, pool);
        let found = or_absent(self.call(docker.inspect_config(&name)).await)?;
        let Some(Config { id: Some(id), version, spec: Some(spec), .. }) = found else {
            return Ok(None);
        };
        let labels = spec.labels.clone().unwrap_or_default();
        if !labels::is_for_pool(cluster, pool, &labels) {
            return Err(EngineError::Refused(format!(
                "config {name} of the Swarm is not that of pool {pool} of cluster {cluster}: remove it"
            )));
        }
        let wanted = WantedSet { version: index(&version), replicas: replicas(&labels) };
        Ok(Some((id, spec, wanted)))
    }
}

/// Two names with any separator between them could be those of another pair, or too long.
fn name(cluster: &str, pool: &str) -> String {
    format!("ringmaster-{:016x}", xxh3_64(format!("{cluster}\n{pool}").as_bytes()))
}

fn replicas(labels: &HashMap<String, String>) -> BTreeMap<u32, String> {
    let replica = |(key, host): (&String, &String)| {
        Some((key.strip_prefix(REPLICA)?.parse().ok()?, host.clone()))
    };
    labels.iter().filter_map(replica).collect()
}
