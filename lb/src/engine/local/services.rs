//! Services of a Swarm, each with one task: a replica that the Swarm restarts and re-places.
//!
//! A service is changed only in the version that it was seen in, so of several balancers that would do the same one
//! does, and the others are told that they came late.

mod body;

use std::{collections::HashMap, net::IpAddr, time::Duration};

use bollard::{
    Docker,
    models::{Service as ServiceModel, Task as TaskModel, TaskState},
    query_parameters::{
        InspectNetworkOptions, InspectServiceOptions, ListServicesOptions, ListTasksOptions,
        UpdateServiceOptions,
    },
};
use serde::Deserialize;

use super::{
    Local, ending,
    fault::{self, Fault, or_absent},
    labels,
};
use crate::engine::{End, EngineError, Order};

/// A service of ours, as it is.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) id: String,
    /// Grows with every change of it.
    version: u64,
    pub(crate) name: String,
    /// Of whoever started its latest task but the Swarm.
    pub(crate) incarnation: u64,
    /// [`Order::hash`] of what it was made from.
    pub(crate) spec_hash: String,
    pub(crate) port: u16,
    /// Its latest and a few that have ended.
    pub(crate) tasks: Vec<Task>,
}

/// A container of a service, somewhere in the Swarm.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) id: String,
    /// Whether the Swarm means to keep it.
    pub(crate) wanted: bool,
    pub(crate) stage: Stage,
    /// On the network of its order, as far as this machine is on it.
    pub(crate) address: Option<IpAddr>,
}

/// Where in its life a task is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Starting,
    Running,
    /// With what the Swarm says of it.
    Ended {
        code: Option<i32>,
        reason: String,
    },
}

impl Local {
    /// The services of a pool. None is among them whose removal began before its tasks were looked at: that a task
    /// is no longer wanted is never due to that.
    pub(crate) async fn services(
        &self,
        cluster: &str,
        pool: &str,
        network: &str,
    ) -> Result<Vec<Service>, EngineError> {
        let docker = self.docker().await?;
        let mut tasks = self.tasks(cluster).await?;
        let addresses = self.addresses(&docker, network).await?;
        let filters = Some(of_cluster(cluster));
        let options = ListServicesOptions { filters, ..Default::default() };
        let listed = self.call(docker.list_services(Some(options))).await?;
        let mut services = Vec::new();
        for model in listed {
            let Some(mut service) = labels::of_service(cluster, pool, &model) else { continue };
            let own = tasks.extract_if(.., |it| it.service_id.as_ref() == Some(&service.id));
            service.tasks = own.filter_map(|it| task(it, &addresses)).collect();
            services.push(service);
        }
        Ok(services)
    }

    /// Makes the service of `order`, and the network if it is missing. False if there is one of that name by now.
    pub(crate) async fn create_service(
        &self,
        order: &Order,
        grace: Duration,
    ) -> Result<bool, EngineError> {
        let docker = self.docker().await?;
        self.ensure_overlay(&docker, &order.cluster, &order.network).await?;
        match self.call(docker.create_service(body::of(order, grace), None)).await {
            Ok(_) => Ok(true),
            Err(Fault::Answered { status: 409, .. }) => {
                let options = None::<InspectServiceOptions>;
                let found = self.call(docker.inspect_service(&order.name, options)).await;
                match or_absent(found)? {
                    Some(it) if labels::of_service(&order.cluster, &order.pool, &it).is_none() => {
                        Err(fault::foreign_service(&order.name, &it))
                    }
                    Some(_) | None => Ok(false),
                }
            }
            Err(fault) => Err(fault.into()),
        }
    }

    /// Has the task of `service` replaced by another, made from `order` if there is one, else as the one before.
    /// False if the service is not what it was.
    pub(crate) async fn replace_task(
        &self,
        service: &Service,
        incarnation: u64,
        order: Option<(&Order, Duration)>,
    ) -> Result<bool, EngineError> {
        let docker = self.docker().await?;
        let options = None::<InspectServiceOptions>;
        let found = self.call(docker.inspect_service(&service.id, options)).await;
        let Some(found) = or_absent(found)? else { return Ok(false) };
        let Some(old) = found.spec.filter(|_| index(&found.version) == service.version) else {
            return Ok(false);
        };
        let forced = old.task_template.as_ref().and_then(|it| it.force_update).unwrap_or(0);
        let mut spec = match order {
            Some((order, grace)) => body::of(order, grace),
            None => old,
        };
        // A number that grows is how the Swarm is asked for another task where nothing else changes.
        spec.task_template.get_or_insert_default().force_update = Some(forced + 1);
        labels::set_incarnation(spec.labels.get_or_insert_default(), incarnation);
        let version = i32::try_from(service.version).map_err(|_| {
            let Service { name, version, .. } = service;
            EngineError::Failed(format!("service {name} has version {version}, above {}", i32::MAX))
        })?;
        let options = UpdateServiceOptions { version, ..Default::default() };
        let updated = docker.update_service(&service.id, spec, options, None);
        in_sequence(self.call(updated).await.map(drop))
    }

    /// Removes a service; one that is gone is success.
    pub(crate) async fn remove_service(&self, id: &str) -> Result<(), EngineError> {
        let docker = self.docker().await?;
        Ok(or_absent(self.call(docker.delete_service(id)).await).map(drop)?)
    }

    /// Whether a task of the service has not ended yet. It may be of a service that was removed: the engine then
    /// lists its tasks by their labels only.
    pub(crate) async fn has_tasks(
        &self,
        cluster: &str,
        service: &str,
    ) -> Result<bool, EngineError> {
        let tasks = self.tasks(cluster).await?;
        let own = tasks.iter().filter(|it| it.service_id.as_deref() == Some(service));
        Ok(own.map(stage).any(|it| !matches!(it, Stage::Ended { .. })))
    }

    /// How a task ended, with the last lines of its log.
    pub(crate) async fn end_of_task(&self, task: &Task) -> End {
        let (code, reason) = match &task.stage {
            Stage::Ended { code, reason } => (*code, reason.clone()),
            Stage::Starting | Stage::Running => (None, "replaced in the Swarm".to_owned()),
        };
        let log = match self.docker().await {
            Ok(docker) => self.tail_of_task(&docker, &task.id).await.unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        End { code, reason, log, by_itself: false }
    }

    async fn tasks(&self, cluster: &str) -> Result<Vec<TaskModel>, EngineError> {
        let docker = self.docker().await?;
        let options = ListTasksOptions { filters: Some(of_cluster(cluster)) };
        Ok(self.call(docker.list_tasks(Some(options))).await?)
    }

    /// Task id → address on the network.
    async fn addresses(
        &self,
        docker: &Docker,
        network: &str,
    ) -> Result<HashMap<String, IpAddr>, EngineError> {
        let options = InspectNetworkOptions { verbose: true, ..Default::default() };
        let found = or_absent(self.call(docker.inspect_network(network, Some(options))).await)?;
        let services = found.and_then(|it| it.services).unwrap_or_default();
        let known = services.into_values().filter_map(|it| Known::deserialize(it).ok());
        let address =
            |it: KnownTask| Some((it.name.rsplit('.').next()?.to_owned(), it.ip.parse().ok()?));
        Ok(known.flat_map(|it| it.tasks).filter_map(address).collect())
    }
}

/// A service as the network knows it: the engine's list of tasks, as bollard reads it, has no addresses.
#[derive(Deserialize)]
struct Known {
    #[serde(rename = "Tasks")]
    tasks: Vec<KnownTask>,
}

#[derive(Deserialize)]
struct KnownTask {
    /// `service.slot.id`
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "EndpointIP")]
    ip: String,
}

fn of_cluster(cluster: &str) -> HashMap<String, Vec<String>> {
    [("label".to_owned(), vec![labels::filter(cluster)])].into()
}

/// False where the object was changed by somebody else since it was seen, which the engine tells by its message only.
pub(super) fn in_sequence(answer: Result<(), Fault>) -> Result<bool, EngineError> {
    match answer {
        Ok(()) => Ok(true),
        Err(Fault::Answered { message, .. }) if message.contains("update out of sequence") => {
            Ok(false)
        }
        Err(Fault::Answered { status: 404, .. }) => Ok(false),
        Err(fault) => Err(fault.into()),
    }
}

pub(super) fn index(version: &Option<bollard::models::ObjectVersion>) -> u64 {
    version.as_ref().and_then(|it| it.index).unwrap_or(0)
}

fn task(model: TaskModel, addresses: &HashMap<String, IpAddr>) -> Option<Task> {
    let stage = stage(&model);
    let wanted = matches!(model.desired_state, Some(TaskState::RUNNING | TaskState::READY));
    let id = model.id?;
    let address = addresses.get(&id).copied();
    Some(Task { id, wanted, stage, address })
}

fn stage(model: &TaskModel) -> Stage {
    let Some(status) = &model.status else { return Stage::Starting };
    match status.state {
        Some(TaskState::RUNNING) => Stage::Running,
        Some(
            TaskState::COMPLETE
            | TaskState::SHUTDOWN
            | TaskState::FAILED
            | TaskState::REJECTED
            | TaskState::REMOVE
            | TaskState::ORPHANED,
        ) => {
            let code = status.container_status.as_ref().and_then(|it| it.exit_code);
            let told = status.err.clone().filter(|it| !it.is_empty() && code.unwrap_or(0) == 0);
            let reason = told.unwrap_or_else(|| ending::reason(code, None));
            Stage::Ended { code: code.and_then(|it| i32::try_from(it).ok()), reason }
        }
        _ => Stage::Starting,
    }
}

impl Service {
    /// From what the engine tells, without its tasks.
    pub(super) fn new(model: &ServiceModel, container: crate::engine::Container) -> Option<Self> {
        Some(Self {
            id: container.id,
            version: index(&model.version),
            name: container.name,
            incarnation: container.incarnation,
            spec_hash: container.spec_hash,
            port: container.port,
            tasks: Vec::new(),
        })
    }
}
