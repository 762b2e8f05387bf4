//! Claims to a cluster, as volumes: the one object of an engine that needs no image, has labels, and is created by its
//! name or found as it was created before. So of two that create the same one, the engine tells both who was first.
//!
//! Labels do not change; a claim is renewed by creating the next generation. Nothing is ever mounted.

use std::collections::HashMap;

use bollard::{
    Docker,
    models::{Volume, VolumeCreateRequest},
    query_parameters::{ListVolumesOptions, RemoveVolumeOptions},
};

use super::{Local, fault::or_absent};
use crate::engine::{Claim, EngineError, Holder};

/// The label with the cluster that is claimed.
const CLAIM: &str = "ringmaster.claim";
const GENERATION: &str = "ringmaster.generation";
/// The label with the [`Holder`], as JSON.
const HOLDER: &str = "ringmaster.holder";

impl Local {
    /// Adds `claim` unless another has its generation; answers the claim that counts then.
    pub(super) async fn add_claim(
        &self,
        docker: &Docker,
        cluster: &str,
        claim: Option<&Claim>,
    ) -> Result<Option<Claim>, EngineError> {
        if let Some(claim) = claim {
            let there = self.call(docker.create_volume(request(cluster, claim)?)).await?;
            // Without a look at it, one that somebody else has made would be created for ever.
            parse(cluster, &there)?;
        }
        let mut claims = self.claims(docker, cluster).await?;
        claims.sort_by_key(|it| it.generation);
        let latest = claims.pop();
        if let (Some(claim), Some(latest)) = (claim, &latest) {
            let session = &claim.holder.session;
            let has_won = latest.holder.session == *session;
            // What the winner has outlived is in nobody's way, and what has lost is to be in nobody's.
            for old in claims.iter().filter(|it| has_won || it.holder.session == *session) {
                self.remove_claim(docker, cluster, old).await?;
            }
        }
        Ok(latest)
    }

    /// Removes every claim of `session`.
    pub(super) async fn remove_claims(
        &self,
        docker: &Docker,
        cluster: &str,
        session: &str,
    ) -> Result<(), EngineError> {
        for claim in self.claims(docker, cluster).await? {
            if claim.holder.session == session {
                self.remove_claim(docker, cluster, &claim).await?;
            }
        }
        Ok(())
    }

    async fn claims(&self, docker: &Docker, cluster: &str) -> Result<Vec<Claim>, EngineError> {
        let filters = HashMap::from([("label".to_owned(), vec![format!("{CLAIM}={cluster}")])]);
        let options = ListVolumesOptions { filters: Some(filters) };
        let listed = self.call(docker.list_volumes(Some(options))).await?;
        listed.volumes.unwrap_or_default().iter().map(|it| parse(cluster, it)).collect()
    }

    async fn remove_claim(
        &self,
        docker: &Docker,
        cluster: &str,
        claim: &Claim,
    ) -> Result<(), EngineError> {
        let options = RemoveVolumeOptions { force: false };
        let name = name(cluster, claim.generation);
        let removed = docker.remove_volume(&name, Some(options));
        Ok(or_absent(self.call(removed).await).map(drop)?)
    }
}

fn name(cluster: &str, generation: u64) -> String {
    format!("ringmaster-claim-{cluster}-{generation}")
}

fn request(cluster: &str, claim: &Claim) -> Result<VolumeCreateRequest, EngineError> {
    let holder = serde_json::to_string(&claim.holder)
        .map_err(|error| EngineError::Failed(format!("a claim cannot be written: {error}")))?;
    let labels =
        [(CLAIM, cluster.to_owned()), (GENERATION, claim.generation.to_string()), (HOLDER, holder)];
    Ok(VolumeCreateRequest {
        name: Some(name(cluster, claim.generation)),
        labels: Some(labels.map(|(key, value)| (key.to_owned(), value)).into()),
        ..Default::default()
    })
}

fn parse(cluster: &str, volume: &Volume) -> Result<Claim, EngineError> {
    let label = |key| volume.labels.get(key).map(String::as_str).unwrap_or_default();
    let generation = label(GENERATION).parse::<u64>().ok();
    let holder = serde_json::from_str::<Holder>(label(HOLDER)).ok();
    let is_named = |generation: &u64| volume.name == name(cluster, *generation);
    match (generation.filter(is_named), holder) {
        (Some(generation), Some(holder)) if label(CLAIM) == cluster => {
            Ok(Claim { generation, holder })
        }
        _ => Err(EngineError::Refused(format!(
            "volume {0} stands for a claim to cluster {cluster}, but says nothing that this version understands: end the \
             balancer that made it, or `docker volume rm {0}`",
            volume.name
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(cluster: &str, claim: &Claim) -> Volume {
        let VolumeCreateRequest { name, labels, .. } = request(cluster, claim).unwrap();
        let (name, labels) = (name.unwrap(), labels.unwrap());
        Volume { name, labels, ..Default::default() }
    }

    #[test]
    fn a_volume_says_what_it_was_made_from_or_is_refused() {
        let holder = Holder {
            session: "s".to_owned(),
            pid: 1,
            started: 2,
            boot: "b".to_owned(),
            pid_namespace: "pid:[1]".to_owned(),
            container: Some("c".to_owned()),
            host: "h".to_owned(),
            admin: "127.0.0.1:5001".to_owned(),
            since: "then".to_owned(),
        };
        let claim = Claim { generation: 3, holder };
        assert_eq!(parse("web", &volume("web", &claim)), Ok(claim.clone()));
        type Spoil = fn(&mut Volume);
        for spoil in [
            (|it| it.labels.clear()) as Spoil,
            |it| drop(it.labels.remove(HOLDER)),
            |it| drop(it.labels.insert(HOLDER.to_owned(), "{}".to_owned())),
            |it| drop(it.labels.insert(GENERATION.to_owned(), "4".to_owned())),
            |it| drop(it.labels.insert(CLAIM.to_owned(), "other".to_owned())),
        ] {
            let mut volume = volume("web", &claim);
            spoil(&mut volume);
            let error = parse("web", &volume).unwrap_err().to_string();
            assert!(error.ends_with("or `docker volume rm ringmaster-claim-web-3`"), "{error}");
        }
    }
}
