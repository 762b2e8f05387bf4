//! An order as a service of one task. As for a container, what it may do on its machine is fixed here.

use std::time::Duration;

use bollard::models::{
    EndpointSpec, EndpointSpecModeEnum, Limit, NetworkAttachmentConfig, ServiceSpec,
    ServiceSpecMode, ServiceSpecModeReplicated, ServiceSpecUpdateConfig,
    ServiceSpecUpdateConfigFailureActionEnum, ServiceSpecUpdateConfigOrderEnum, TaskSpec,
    TaskSpecContainerSpec, TaskSpecContainerSpecPrivileges, TaskSpecLogDriver, TaskSpecResources,
    TaskSpecRestartPolicy, TaskSpecRestartPolicyConditionEnum,
};

use crate::engine::{
    Order,
    local::{body, labels},
};

/// Before the Swarm starts a task in place of one that ended.
const RESTART_DELAY: Duration = Duration::from_millis(500);

/// The service of `order`; its tasks have `grace` to end when they are asked to.
pub(super) fn of(order: &Order, grace: Duration) -> ServiceSpec {
    ServiceSpec {
        name: Some(order.name.clone()),
        labels: Some(labels::for_order(order)),
        task_template: Some(TaskSpec {
            container_spec: Some(container(order, grace)),
            resources: Some(TaskSpecResources {
                limits: Some(limits(order)),
                ..Default::default()
            }),
            restart_policy: Some(TaskSpecRestartPolicy {
                condition: Some(TaskSpecRestartPolicyConditionEnum::ANY),
                delay: Some(nanos(RESTART_DELAY)),
                ..Default::default()
            }),
            networks: Some(vec![NetworkAttachmentConfig {
                target: Some(order.network.clone()),
                aliases: Some(vec![order.name.clone()]),
                driver_opts: None,
            }]),
            log_driver: Some(TaskSpecLogDriver {
                name: Some(body::LOG_DRIVER.to_owned()),
                options: Some(body::log_options()),
            }),
            ..Default::default()
        }),
        mode: Some(ServiceSpecMode {
            replicated: Some(ServiceSpecModeReplicated { replicas: Some(1) }),
            ..Default::default()
        }),
        // A replica is replaced because it hangs: waiting for its end first would take its whole grace.
        update_config: Some(ServiceSpecUpdateConfig {
            parallelism: Some(1),
            order: Some(ServiceSpecUpdateConfigOrderEnum::START_FIRST),
            failure_action: Some(ServiceSpecUpdateConfigFailureActionEnum::CONTINUE),
            ..Default::default()
        }),
        // Requests are sent to the task itself, so no virtual address is needed.
        endpoint_spec: Some(EndpointSpec { mode: Some(EndpointSpecModeEnum::DNSRR), ports: None }),
        ..Default::default()
    }
}

fn container(order: &Order, grace: Duration) -> TaskSpecContainerSpec {
    TaskSpecContainerSpec {
        image: Some(order.image.clone()),
        args: (!order.command.is_empty()).then(|| order.command.clone()),
        hostname: Some(order.name.clone()),
        env: Some(body::environment(order)),
        read_only: Some(order.read_only),
        stop_grace_period: Some(nanos(grace)),
        capability_drop: Some(vec!["ALL".to_owned()]),
        // Engines before 25 do not know this word, and ignore it.
        privileges: Some(TaskSpecContainerSpecPrivileges {
            no_new_privileges: Some(true),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn limits(order: &Order) -> Limit {
    Limit {
        nano_cpus: Some(body::nano_cpus(order)),
        memory_bytes: Some(body::signed(order.limits.memory_bytes)),
        pids: Some(body::signed(order.limits.pids)),
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
