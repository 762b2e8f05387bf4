//! What is ordered of an engine for a replica, from the pool's configuration.

use super::Spec;
use crate::{
    config::DockerConfig,
    engine::{ContainerLimits, Order},
};

const MIB: u64 = 1 << 20;

/// The order for the replica of `spec`.
pub(super) fn of(cluster: &str, pool: &str, config: &DockerConfig, spec: &Spec) -> Order {
    let mut environment = config.environment.clone();
    environment.entry("SERVER_ID".to_owned()).or_insert_with(|| spec.server_id(config.server_id));
    Order {
        cluster: cluster.to_owned(),
        pool: pool.to_owned(),
        name: spec.host.name.to_string(),
        number: spec.number,
        incarnation: spec.incarnation.get(),
        image: config.image.clone(),
        command: config.command.clone(),
        environment,
        network: config.network.clone(),
        port: spec.host.port.map_or(config.port, Into::into),
        limits: ContainerLimits {
            memory_bytes: config.memory_mb * MIB,
            cpu_millis: config.cpu_millis,
            pids: config.pids,
        },
        read_only: config.read_only,
    }
}
