//! Replicas, each with its part of the table.

use super::{Phase, time::rfc3339};
use crate::supervisor::handle::{PoolView, ReplicaView};
use ringmaster_fleet::{Exit, ReplicaName, Table};
use serde::Serialize;
use std::{collections::HashMap, net::SocketAddr, time::Duration};
use utoipa::ToSchema;

/// All replicas of a pool, also those that do not serve, in the order they were added.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct Replicas<'a> {
    replicas: Vec<Replica<'a>>,
    /// Of the pool.
    version: String,
}

impl<'a> Replicas<'a> {
    pub(in crate::admin) fn of(view: &'a PoolView) -> Self {
        let places = places(&view.table);
        let replica = |replica: &'a ReplicaView| {
            // One that drains in order to go has no place in the table.
            let place = places.get(&replica.host.name).copied();
            Replica::of(replica, place.unwrap_or_default())
        };
        Self {
            replicas: view.replicas.iter().map(replica).collect(),
            version: view.version.to_string(),
        }
    }
}

/// What a table gives to one replica.
#[derive(Clone, Copy, Default)]
pub(super) struct Held {
    pub(super) slots: usize,
    pub(super) share: f64,
}

/// What the table gives to each of its members.
pub(super) fn places(table: &Table) -> HashMap<&ReplicaName, Held> {
    let held = table.slots_per_member().into_iter().zip(table.shares());
    let names = table.members().iter().map(|member| &member.name);
    names.zip(held.map(|(slots, share)| Held { slots, share })).collect()
}

/// One replica.
#[derive(Serialize, ToSchema)]
struct Replica<'a> {
    name: &'a str,
    /// Kept for its life.
    number: u32,
    phase: Phase,
    /// Counts its starts.
    incarnation: u64,
    #[schema(required, value_type = Option<String>)]
    address: Option<SocketAddr>,
    in_flight: u32,
    /// Heartbeats missed in a row.
    missed: u32,
    /// Since it last began to serve.
    #[schema(required)]
    uptime_s: Option<f64>,
    /// Of the key space, from 0 to 1.
    share: f64,
    /// Failures in a row, each before it had served for backoff.healthy_after_ms; the back-off grows with them.
    attempts: u32,
    #[schema(required)]
    retry_in_s: Option<f64>,
    #[schema(required)]
    last_exit: Option<LastExit<'a>>,
    slots: usize,
    /// The bound on load as it stands; `null` without a bound.
    #[schema(required)]
    in_flight_max: Option<u32>,
    /// Answered since the start of the balancer.
    requests: u64,
    /// Of its process, where there is one on this machine.
    #[schema(required)]
    pid: Option<u32>,
    /// How much longer requests pass it over for what it did to others; `null` if they do not.
    #[schema(required)]
    ejected_for_s: Option<f64>,
}

impl<'a> Replica<'a> {
    fn of(replica: &'a ReplicaView, held: Held) -> Self {
        Self {
            name: replica.host.name.as_str(),
            number: replica.number,
            phase: replica.phase.into(),
            incarnation: replica.incarnation.get(),
            address: replica.addr,
            in_flight: replica.in_flight,
            missed: replica.missed,
            uptime_s: replica.uptime.map(seconds),
            share: held.share,
            attempts: replica.attempts,
            retry_in_s: replica.retry_in.map(seconds),
            last_exit: replica.last_exit.as_ref().map(LastExit::of),
            slots: held.slots,
            in_flight_max: replica.in_flight_max,
            requests: replica.requests,
            pid: replica.pid,
            ejected_for_s: replica.ejected_for.map(seconds),
        }
    }
}

/// How a replica's last run ended.
#[derive(Serialize, ToSchema)]
struct LastExit<'a> {
    #[schema(required)]
    code: Option<i32>,
    reason: &'a str,
    #[schema(format = DateTime)]
    at: String,
    /// The last lines that it wrote.
    log: &'a [String],
}

impl<'a> LastExit<'a> {
    fn of(exit: &'a Exit) -> Self {
        Self { code: exit.code, reason: &exit.reason, at: rfc3339(exit.at), log: &exit.log }
    }
}

/// In seconds, to the millisecond: more digits are noise to whoever reads them.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e3).round() / 1e3
}
