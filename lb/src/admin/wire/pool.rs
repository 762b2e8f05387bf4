//! Pools: what is wanted, what there is, and the settings that decide about it.

use crate::{
    config::{KeySource, PoolConfig},
    supervisor::handle::PoolView,
};
use ringmaster_fleet::PhaseName;
use serde::Serialize;
use std::{borrow::Cow, time::Duration};
use utoipa::ToSchema;

/// All pools, by name.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct Pools<'a> {
    pub(in crate::admin) pools: Vec<Pool<'a>>,
}

/// One pool.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct Pool<'a> {
    name: &'a str,
    /// Grows with every change of the wanted set; `If-Match` takes it.
    version: String,
    /// Who runs the replicas.
    provider: &'static str,
    /// Why replicas can be neither started nor ended at present, if they cannot.
    #[schema(required)]
    trouble: Option<&'a str>,
    /// Replicas that should serve.
    wanted: usize,
    actual: Actual,
    algorithm: &'static str,
    /// Of the table; 0 if the algorithm has none.
    slots: usize,
    /// What requests are placed by, as the configuration spells it.
    key: Cow<'static, str>,
    limits: Limits,
}

/// How many replicas are in which phase.
#[derive(Serialize, ToSchema)]
struct Actual {
    starting: usize,
    serving: usize,
    draining: usize,
    down: usize,
}

/// The pool's configuration, as far as it limits something.
#[derive(Serialize, ToSchema)]
struct Limits {
    replicas_max: usize,
    #[schema(required)]
    bounded_load: Option<BoundedLoad>,
    slow_start_ms: u64,
    heartbeat_interval_ms: u64,
    heartbeat_timeout_ms: u64,
    heartbeat_missed_max: u32,
    start_timeout_ms: u64,
    drain_timeout_ms: u64,
    hold_timeout_ms: u64,
    hold_requests_max: usize,
    attempts_max: usize,
}

/// How many requests a replica may have in flight.
#[derive(Serialize, ToSchema)]
struct BoundedLoad {
    /// Of the mean over the serving replicas.
    factor: f64,
    /// Never less than this.
    floor: u32,
}

impl<'a> Pool<'a> {
    pub(in crate::admin) fn of(view: &'a PoolView, config: &PoolConfig) -> Self {
        let count = |phase| {
            let replicas = view.replicas.iter();
            replicas.filter(|replica| replica.phase == phase).count()
        };
        Self {
            name: &view.name,
            version: view.version.to_string(),
            provider: view.provider,
            trouble: view.trouble.as_deref(),
            wanted: view.table.members().len(),
            actual: Actual {
                starting: count(PhaseName::Starting),
                serving: count(PhaseName::Serving),
                draining: count(PhaseName::Draining),
                down: count(PhaseName::Down),
            },
            algorithm: view.table.algorithm().name(),
            slots: view.table.slots(),
            key: key(&config.key),
            limits: Limits::of(config),
        }
    }
}

impl Limits {
    fn of(config: &PoolConfig) -> Self {
        let PoolConfig { heartbeat, limits, .. } = config;
        Self {
            replicas_max: limits.replicas_max,
            bounded_load: config
                .bounded_load
                .as_ref()
                .map(|bound| BoundedLoad { factor: bound.factor, floor: bound.floor }),
            slow_start_ms: millis(config.slow_start),
            heartbeat_interval_ms: millis(heartbeat.interval),
            heartbeat_timeout_ms: millis(heartbeat.timeout),
            heartbeat_missed_max: limits.heartbeat_missed_max,
            start_timeout_ms: millis(limits.start_timeout),
            drain_timeout_ms: millis(limits.drain_timeout),
            hold_timeout_ms: millis(config.hold.timeout),
            hold_requests_max: config.hold.requests_max,
            attempts_max: config.upstream.attempts_max,
        }
    }
}

/// As the configuration spells it.
fn key(key: &KeySource) -> Cow<'static, str> {
    match key {
        KeySource::RequestId => "request_id".into(),
        KeySource::ClientIp => "client_ip".into(),
        KeySource::Path => "path".into(),
        KeySource::Header(name) => format!("header:{name}").into(),
        KeySource::Cookie(name) => format!("cookie:{name}").into(),
        KeySource::Query(name) => format!("query:{name}").into(),
    }
}

/// The configuration takes no duration of more than a day, so nothing is cut off.
fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
