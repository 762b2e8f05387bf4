//! The labels that make a container ours and say which replica it is.

use std::{collections::HashMap, net::IpAddr};

use bollard::models::{
    ContainerInspectResponse, ContainerSummary, ContainerSummaryStateEnum, EndpointSettings,
    Service as ServiceModel,
};

use super::services::Service;
use crate::engine::{Container, Order};

const CLUSTER: &str = "ringmaster.cluster";
const POOL: &str = "ringmaster.pool";
const NAME: &str = "ringmaster.name";
const NUMBER: &str = "ringmaster.number";
const INCARNATION: &str = "ringmaster.incarnation";
const SPEC: &str = "ringmaster.spec";
const PORT: &str = "ringmaster.port";
const NETWORK: &str = "ringmaster.network";

type Labels = HashMap<String, String>;

/// Those of the container to be made from `order`.
pub(super) fn for_order(order: &Order) -> Labels {
    [
        (CLUSTER, order.cluster.clone()),
        (POOL, order.pool.clone()),
        (NAME, order.name.clone()),
        (NUMBER, order.number.to_string()),
        (INCARNATION, order.incarnation.to_string()),
        (SPEC, order.hash()),
        (PORT, order.port.to_string()),
        (NETWORK, order.network.clone()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Another incarnation is the latest.
pub(super) fn set_incarnation(labels: &mut Labels, incarnation: u64) {
    labels.insert(INCARNATION.to_owned(), incarnation.to_string());
}

/// Those of what belongs to a pool as a whole.
pub(super) fn for_pool(cluster: &str, pool: &str) -> Labels {
    [(CLUSTER, cluster), (POOL, pool)].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// Whether these are the labels of something of the pool.
pub(super) fn is_for_pool(cluster: &str, pool: &str, labels: &Labels) -> bool {
    for_pool(cluster, pool).iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Those of a network that was created for the cluster.
pub(super) fn for_network(cluster: &str) -> Labels {
    [(CLUSTER.to_owned(), cluster.to_owned())].into()
}

/// Selects the containers of the cluster in a filter of the engine.
pub(super) fn filter(cluster: &str) -> String {
    format!("{CLUSTER}={cluster}")
}

/// Selects the containers of one replica in a filter of the engine.
pub(super) fn of_replica(cluster: &str, name: &str) -> Vec<String> {
    vec![filter(cluster), format!("{NAME}={name}")]
}

/// Which replica it is, if it is one of the cluster.
pub(super) fn replica(cluster: &str, labels: &Labels) -> Option<(String, u64)> {
    let ours = labels.get(CLUSTER).is_some_and(|it| it == cluster);
    let incarnation = labels.get(INCARNATION)?.parse().ok()?;
    ours.then_some((labels.get(NAME)?.clone(), incarnation))
}

/// The cluster that claims it, if any.
pub(super) fn cluster(labels: &Labels) -> Option<&str> {
    labels.get(CLUSTER).map(String::as_str)
}

/// The container as the engine describes it alone; `None` if it is not of the cluster.
pub(super) fn of_inspected(cluster: &str, it: &ContainerInspectResponse) -> Option<Container> {
    let labels = it.config.as_ref()?.labels.as_ref()?;
    let running = it.state.as_ref().and_then(|state| state.running).unwrap_or(false);
    let networks = it.network_settings.as_ref().and_then(|it| it.networks.as_ref());
    container(cluster, it.id.as_ref()?, labels, running, networks)
}

/// The container as the engine describes it in a list; `None` if it is not of the cluster.
pub(super) fn of_listed(cluster: &str, it: &ContainerSummary) -> Option<Container> {
    use ContainerSummaryStateEnum as State;
    let running = match it.state? {
        State::RUNNING | State::PAUSED | State::RESTARTING | State::STOPPING => true,
        State::EMPTY | State::CREATED | State::EXITED | State::REMOVING | State::DEAD => false,
    };
    let networks = it.network_settings.as_ref().and_then(|it| it.networks.as_ref());
    container(cluster, it.id.as_ref()?, it.labels.as_ref()?, running, networks)
}

/// The service as the engine describes it; `None` if it is not of the pool.
pub(super) fn of_service(cluster: &str, pool: &str, it: &ServiceModel) -> Option<Service> {
    let labels = it.spec.as_ref()?.labels.as_ref()?;
    let ours = container(cluster, it.id.as_ref()?, labels, true, None)?;
    Service::new(it, ours).filter(|_| is_for_pool(cluster, pool, labels))
}

fn container(
    cluster: &str,
    id: &str,
    labels: &Labels,
    running: bool,
    networks: Option<&HashMap<String, EndpointSettings>>,
) -> Option<Container> {
    let (name, incarnation) = replica(cluster, labels)?;
    let endpoint = networks.and_then(|it| it.get(labels.get(NETWORK)?));
    Some(Container {
        id: id.to_owned(),
        pool: labels.get(POOL)?.clone(),
        name,
        number: labels.get(NUMBER)?.parse().ok()?,
        incarnation,
        spec_hash: labels.get(SPEC)?.clone(),
        running,
        address: endpoint.and_then(address),
        port: labels.get(PORT)?.parse().ok()?,
    })
}

/// Empty texts stand for none.
fn address(endpoint: &EndpointSettings) -> Option<IpAddr> {
    let parse = |text: &Option<String>| text.as_ref()?.parse().ok();
    parse(&endpoint.ip_address).or_else(|| parse(&endpoint.global_ipv6_address))
}
