//! An order in the words of the engine. What it may do on the machine is fixed here, whatever the order says: no
//! capabilities, no new privileges, no mounts, and a log that cannot fill the disk.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HostConfig, HostConfigLogConfig, NetworkingConfig,
    RestartPolicy, RestartPolicyNameEnum,
};

use super::labels;
use crate::engine::Order;

/// Of the output that the engine keeps of each container.
const LOG_BYTES_MAX: &str = "4m";

/// Keeps the output of each container on its machine.
pub(super) const LOG_DRIVER: &str = "json-file";

const NANOS_PER_MILLI: u64 = 1_000_000;

/// The body of the request that creates the container.
pub(super) fn of(order: &Order) -> ContainerCreateBody {
    let endpoint =
        EndpointSettings { aliases: Some(vec![order.name.clone()]), ..Default::default() };
    let endpoints = [(order.network.clone(), endpoint)];
    ContainerCreateBody {
        hostname: Some(order.name.clone()),
        image: Some(order.image.clone()),
        cmd: (!order.command.is_empty()).then(|| order.command.clone()),
        env: Some(environment(order)),
        labels: Some(labels::for_order(order)),
        host_config: Some(host(order)),
        networking_config: Some(NetworkingConfig { endpoints_config: Some(endpoints.into()) }),
        ..Default::default()
    }
}

fn host(order: &Order) -> HostConfig {
    let memory = signed(order.limits.memory_bytes);
    HostConfig {
        network_mode: Some(order.network.clone()),
        memory: Some(memory),
        // Memory and swap together: no swap.
        memory_swap: Some(memory),
        nano_cpus: Some(nano_cpus(order)),
        pids_limit: Some(signed(order.limits.pids)),
        readonly_rootfs: Some(order.read_only),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        privileged: Some(false),
        // Ringmaster is the keeper: an engine that restarts containers too would fight it.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig {
            typ: Some(LOG_DRIVER.to_owned()),
            config: Some(log_options()),
        }),
        ..Default::default()
    }
}

pub(super) fn environment(order: &Order) -> Vec<String> {
    order.environment.iter().map(|(key, value)| format!("{key}={value}")).collect()
}

pub(super) fn log_options() -> HashMap<String, String> {
    [("max-size", LOG_BYTES_MAX), ("max-file", "1")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

pub(super) fn nano_cpus(order: &Order) -> i64 {
    signed(order.limits.cpu_millis.saturating_mul(NANOS_PER_MILLI))
}

/// The engine counts in signed numbers; the configuration's are far below their end.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
