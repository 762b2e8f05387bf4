//! Every metric: its name, help, type and labels.
//!
//! The names are a contract with dashboards and alerts. Labels never hold paths, client addresses, request ids or
//! container ids; a replica's label is its stable name, so respawns add no series and a removal takes its series
//! away. Every series of a pool or a replica exists from the moment on at which the pool or the replica does, at 0: a
//! series that begins with its first increase hides that increase from `increase()`. What the request path touches is
//! resolved once per replica or pool, never per request.

mod reasons;

use std::{array, sync::Arc, time::Duration};

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder, core::Collector, process_collector::ProcessCollector,
};
use ringmaster_fleet::ReplicaName;

use ringmaster_fleet::Cause;

use self::reasons::{EJECTIONS, SELECTIONS, selection_index};
pub(crate) use self::reasons::{Ending, Failure, Rejection, RetryCause};
use crate::routes::{EjectionCause, Reason};

const CODE_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// From half a millisecond, what a local replica needs, to ten seconds, which nobody waits for.
const DURATION_BUCKETS: [f64; 13] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// From a crash seen at once to a slow container.
const RECOVERY_BUCKETS: [f64; 12] =
    [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// The stages of a recovery.
const RECOVERY_STAGES: [&str; 3] = ["detect", "spawn", "ready"];

/// The label of what is counted for all replicas of a pool together. No replica has this name.
pub(crate) const ANY_REPLICA: &str = "*";

/// The results of a reload.
pub(crate) const RELOADED: &str = "ok";
pub(crate) const REFUSED: &str = "refused";

/// All metrics of the process.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    endings: IntCounterVec,
    connections: IntGauge,
    requests: IntCounterVec,
    durations: HistogramVec,
    in_flight: IntGaugeVec,
    open: IntGaugeVec,
    waiting: IntGaugeVec,
    retrying: IntGaugeVec,
    failures: IntCounterVec,
    retries: IntCounterVec,
    held: IntCounterVec,
    selections: IntCounterVec,
    ejections: IntCounterVec,
    ejected: IntGaugeVec,
    replicas: IntGaugeVec,
    serving: IntGaugeVec,
    upstream_connections: IntCounterVec,
    heartbeats: IntCounterVec,
    respawns: IntCounterVec,
    recoveries: HistogramVec,
    slots: IntGaugeVec,
    reloads: IntCounterVec,
    access_log_dropped: IntCounter,
}

/// What is counted of all requests, whatever their pool.
#[derive(Clone, Debug)]
pub(crate) struct RequestMetrics {
    endings: Arc<[IntCounter; Ending::COUNT]>,
}

/// What a pool counts on the request path.
#[derive(Debug)]
pub(crate) struct PoolMetrics {
    /// Requests that had to wait for a replica.
    pub(crate) held: IntCounter,
    failures: [IntCounter; Failure::ALL.len()],
    retries: [IntCounter; RetryCause::ALL.len()],
    selections: [IntCounter; SELECTIONS.len()],
    ejections: [IntCounter; EJECTIONS.len()],
}

/// What a replica counts.
#[derive(Debug)]
pub(crate) struct ReplicaMetrics {
    codes: [IntCounter; CODE_CLASSES.len()],
    duration: Histogram,
    /// Connections that were opened for requests.
    pub(crate) connections: IntCounter,
    /// Heartbeats that were answered.
    pub(crate) heartbeats_answered: IntCounter,
    /// Heartbeats that were not.
    pub(crate) heartbeats_missed: IntCounter,
}

impl Metrics {
    /// Registers every metric.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let registry = Registry::new();
        let r = &registry;
        let pool_replica = &["pool", "replica"];
        let metrics = Self {
            endings: counters(
                r,
                "ringmaster_requests_ended_total",
                "All requests, each in exactly one way: ok, upstream_error, failed or rejected.",
                &["outcome", "reason"],
            )?,
            connections: registered(
                r,
                IntGauge::new("ringmaster_connections", "Connections of clients.")?,
            )?,
            requests: counters(
                r,
                "ringmaster_requests_total",
                "Answers of replicas passed on to clients, by class of status.",
                &["pool", "replica", "code"],
            )?,
            durations: histograms(
                r,
                "ringmaster_request_duration_seconds",
                "From the end of a request's head to the end of its answer.",
                pool_replica,
                &DURATION_BUCKETS,
            )?,
            in_flight: gauges(
                r,
                "ringmaster_requests_in_flight",
                "Requests in a replica's hands.",
                pool_replica,
            )?,
            open: gauges(
                r,
                "ringmaster_requests_open",
                "Requests of a pool, from their routing to their end.",
                &["pool"],
            )?,
            waiting: gauges(
                r,
                "ringmaster_requests_waiting",
                "Requests that wait for a replica.",
                &["pool"],
            )?,
            retrying: gauges(
                r,
                "ringmaster_retries_in_flight",
                "Retries in progress that count against the retry budget.",
                &["pool"],
            )?,
            failures: counters(
                r,
                "ringmaster_request_failures_total",
                "Requests that got no complete answer of a replica, by reason.",
                &["pool", "reason"],
            )?,
            retries: counters(
                r,
                "ringmaster_retries_total",
                "Attempts at a further replica, by what went wrong at the one before.",
                &["pool", "reason"],
            )?,
            held: counters(
                r,
                "ringmaster_requests_held_total",
                "Requests that waited because no replica served.",
                &["pool"],
            )?,
            selections: counters(
                r,
                "ringmaster_selection_total",
                "Choices of a replica, by reason.",
                &["pool", "reason"],
            )?,
            ejections: counters(
                r,
                "ringmaster_ejections_total",
                "Replicas passed over for a while for what they did to requests, by cause.",
                &["pool", "cause"],
            )?,
            ejected: gauges(
                r,
                "ringmaster_replicas_ejected",
                "Replicas that are passed over for what they did to requests.",
                &["pool"],
            )?,
            replicas: gauges(
                r,
                "ringmaster_replicas",
                "Replicas in each phase.",
                &["pool", "phase"],
            )?,
            serving: gauges(
                r,
                "ringmaster_replica_serving",
                "1 while the replica serves, else 0.",
                pool_replica,
            )?,
            upstream_connections: counters(
                r,
                "ringmaster_upstream_connections_total",
                "Connections opened to replicas for requests; the others went over one that was kept.",
                pool_replica,
            )?,
            heartbeats: counters(
                r,
                "ringmaster_heartbeats_total",
                "Heartbeats, by result.",
                &["pool", "replica", "result"],
            )?,
            respawns: counters(
                r,
                "ringmaster_respawns_total",
                "Replicas started again, by what ended their last run. With respawn_name: fresh, where names do not \
                 last, all replicas of a pool are counted together as replica=\"*\".",
                &["pool", "replica", "cause"],
            )?,
            recoveries: histograms(
                r,
                "ringmaster_recovery_seconds",
                "Stages of a recovery: detect (last sign of life to failure known), spawn (to the new start), \
                 ready (to serving).",
                &["pool", "stage"],
                &RECOVERY_BUCKETS,
            )?,
            slots: gauges(
                r,
                "ringmaster_slots",
                "Slots of the table that the replica owns.",
                pool_replica,
            )?,
            reloads: counters(
                r,
                "ringmaster_config_reloads_total",
                "Reloads of the configuration, by result.",
                &["result"],
            )?,
            access_log_dropped: registered(
                r,
                IntCounter::new(
                    "ringmaster_access_log_dropped_total",
                    "Lines that were not written because the access log was not read fast enough.",
                )?,
            )?,
            registry: registry.clone(),
        };
        for result in [RELOADED, REFUSED] {
            metrics.reloads.with_label_values(&[result]);
        }
        let build = gauges(
            r,
            "ringmaster_build_info",
            "Always 1; the labels say what runs.",
            &["version", "commit"],
        )?;
        build.with_label_values(&[crate::VERSION, crate::COMMIT]).set(1);
        registry.register(Box::new(ProcessCollector::for_self()))?;
        Ok(metrics)
    }

    /// The metrics of all requests.
    pub(crate) fn requests(&self) -> RequestMetrics {
        let mut all = Ending::all();
        // `all` yields as many as there are.
        let endings = array::from_fn(|_| {
            let ending = all.next().unwrap_or(Ending::Ok);
            self.endings.with_label_values(&[ending.outcome(), ending.reason()])
        });
        RequestMetrics { endings: Arc::new(endings) }
    }

    /// Lines that the access log dropped.
    pub(crate) fn access_log_dropped(&self) -> IntCounter {
        self.access_log_dropped.clone()
    }

    /// Connections of clients; set just before a scrape.
    pub(crate) fn set_connections(&self, count: usize) {
        self.connections.set(count as i64);
    }

    /// The metrics of one pool.
    pub(crate) fn pool(&self, pool: &str) -> PoolMetrics {
        for stage in RECOVERY_STAGES {
            self.recoveries.with_label_values(&[pool, stage]);
        }
        PoolMetrics {
            held: self.held.with_label_values(&[pool]),
            failures: Failure::ALL.map(|it| self.failures.with_label_values(&[pool, it.as_str()])),
            retries: RetryCause::ALL.map(|it| self.retries.with_label_values(&[pool, it.as_str()])),
            selections: SELECTIONS.map(|it| self.selections.with_label_values(&[pool, it.label()])),
            ejections: EJECTIONS.map(|(_, cause)| self.ejections.with_label_values(&[pool, cause])),
        }
    }

    /// The metrics of one replica, the same whatever its incarnation.
    pub(crate) fn replica(&self, pool: &str, replica: &str) -> ReplicaMetrics {
        let heartbeats = |result| self.heartbeats.with_label_values(&[pool, replica, result]);
        ReplicaMetrics {
            codes: CODE_CLASSES.map(|code| self.requests.with_label_values(&[pool, replica, code])),
            duration: self.durations.with_label_values(&[pool, replica]),
            connections: self.upstream_connections.with_label_values(&[pool, replica]),
            heartbeats_answered: heartbeats("answered"),
            heartbeats_missed: heartbeats("missed"),
        }
    }

    /// Takes a removed replica's series away.
    pub(crate) fn forget_replica(&self, pool: &str, replica: &str) {
        let is_of_it = |label: Label<'_>| label("pool") == pool && label("replica") == replica;
        for vector in [&self.requests, &self.upstream_connections, &self.heartbeats, &self.respawns]
        {
            forget(vector, is_of_it, |labels| vector.remove_label_values(labels));
        }
        // Each may be missing: a replica that never served has no series there.
        let _ = self.durations.remove_label_values(&[pool, replica]);
        for gauges in [&self.in_flight, &self.serving, &self.slots] {
            let _ = gauges.remove_label_values(&[pool, replica]);
        }
    }

    /// Takes the series away of a pool without replicas.
    pub(crate) fn forget_pool(&self, pool: &str) {
        let is_of_it = |label: Label<'_>| label("pool") == pool;
        let counters = [
            &self.failures,
            &self.retries,
            &self.held,
            &self.selections,
            &self.ejections,
            &self.respawns,
        ];
        for vector in counters {
            forget(vector, is_of_it, |labels| vector.remove_label_values(labels));
        }
        for gauges in [&self.replicas, &self.ejected, &self.open, &self.waiting, &self.retrying] {
            forget(gauges, is_of_it, |labels| gauges.remove_label_values(labels));
        }
        forget(&self.recoveries, is_of_it, |labels| self.recoveries.remove_label_values(labels));
    }

    /// A reload of the configuration was made, or refused.
    pub(crate) fn reloaded(&self, result: &str) {
        self.reloads.with_label_values(&[result]).inc();
    }

    /// Makes the series of respawns of `replica` exist: a replica's name, or [`ANY_REPLICA`].
    pub(crate) fn declare_respawns(&self, pool: &str, replica: &str) {
        for cause in Cause::RESPAWN_LABELS {
            self.respawns.with_label_values(&[pool, replica, cause]);
        }
    }

    /// Takes the series of respawns of a pool away: its replicas are counted in another way from now on.
    pub(crate) fn forget_respawns(&self, pool: &str) {
        let is_of_it = |label: Label<'_>| label("pool") == pool;
        forget(&self.respawns, is_of_it, |labels| self.respawns.remove_label_values(labels));
    }

    /// The replica was started again after `cause` ended its last run.
    pub(crate) fn respawned(&self, pool: &str, replica: &str, cause: &str) {
        self.respawns.with_label_values(&[pool, replica, cause]).inc();
    }

    /// A stage of a recovery (`detect`, `spawn`, `ready`) took this long.
    pub(crate) fn recovered(&self, pool: &str, stage: &str, took: Duration) {
        self.recoveries.with_label_values(&[pool, stage]).observe(took.as_secs_f64());
    }

    /// How many replicas of the pool are in `phase`.
    pub(crate) fn set_replicas(&self, pool: &str, phase: &str, count: usize) {
        self.replicas.with_label_values(&[pool, phase]).set(count as i64);
    }

    /// What the replica is now: whether it serves, and how many slots it owns.
    pub(crate) fn set_replica(&self, pool: &str, replica: &str, serving: bool, slots: usize) {
        self.serving.with_label_values(&[pool, replica]).set(i64::from(serving));
        self.slots.with_label_values(&[pool, replica]).set(slots as i64);
    }

    /// Replicas of the pool that are ejected; set just before a scrape.
    pub(crate) fn set_ejected(&self, pool: &str, count: u32) {
        self.ejected.with_label_values(&[pool]).set(i64::from(count));
    }

    /// Requests of the pool: all, those that wait, and those whose retry counts; set just before a scrape.
    pub(crate) fn set_requests(&self, pool: &str, open: u32, waiting: u32, retrying: u32) {
        for (gauges, count) in
            [(&self.open, open), (&self.waiting, waiting), (&self.retrying, retrying)]
        {
            gauges.with_label_values(&[pool]).set(i64::from(count));
        }
    }

    /// Requests in the hands of each replica of the pool that serves; set just before a scrape. Others have no series, as
    /// it would tell of the last time that they served.
    pub(crate) fn set_in_flight(&self, pool: &str, loads: &[(ReplicaName, u32)]) {
        let serves = |replica: &str| loads.iter().any(|(name, _)| name.as_str() == replica);
        let is_stale = |label: Label<'_>| label("pool") == pool && !serves(label("replica"));
        forget(&self.in_flight, is_stale, |labels| self.in_flight.remove_label_values(labels));
        for (replica, count) in loads {
            let gauge = self.in_flight.with_label_values(&[pool, replica.as_str()]);
            gauge.set(i64::from(*count));
        }
    }

    /// Everything, in Prometheus' text format.
    pub(crate) fn render(&self) -> anyhow::Result<String> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8(text)?)
    }
}

impl RequestMetrics {
    pub(crate) fn ended(&self, ending: Ending) {
        self.endings[ending.index()].inc();
    }
}

impl PoolMetrics {
    pub(crate) fn failed(&self, failure: Failure) {
        self.failures[failure as usize].inc();
    }

    pub(crate) fn retried(&self, cause: RetryCause) {
        self.retries[cause as usize].inc();
    }

    pub(crate) fn ejected(&self, cause: EjectionCause) {
        self.ejections[cause as usize].inc();
    }

    pub(crate) fn selected(&self, reason: Reason) {
        self.selections[selection_index(reason)].inc();
    }
}

impl ReplicaMetrics {
    /// An answer with `status` went out, `took` after its request came in.
    pub(crate) fn answered(&self, status: u16, took: Duration) {
        let class = usize::from(status / 100).clamp(1, CODE_CLASSES.len()) - 1;
        self.codes[class].inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// All answers so far.
    pub(crate) fn requests(&self) -> u64 {
        self.codes.iter().map(IntCounter::get).sum()
    }
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> anyhow::Result<IntCounterVec> {
    registered(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> anyhow::Result<IntGaugeVec> {
    registered(registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
}

fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    buckets: &[f64],
) -> anyhow::Result<HistogramVec> {
    let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    registered(registry, HistogramVec::new(opts, labels)?)
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, it: C) -> anyhow::Result<C> {
    registry.register(Box::new(it.clone()))?;
    Ok(it)
}

/// The value of a series' label; empty if it has none of that name.
type Label<'a> = &'a dyn Fn(&str) -> &'a str;

/// Removes every series that `is_meant`.
fn forget(
    vector: &impl Collector,
    is_meant: impl Fn(Label<'_>) -> bool,
    remove: impl Fn(&[&str]) -> prometheus::Result<()>,
) {
    let names = vector.desc()[0].variable_labels.clone();
    for family in vector.collect() {
        for metric in family.get_metric() {
            let label = |name: &str| {
                metric.get_label().iter().find(|it| it.name() == name).map_or("", |it| it.value())
            };
            if is_meant(&label) {
                let values: Vec<&str> = names.iter().map(|it| label(it)).collect();
                // Seen a moment ago, but somebody else may have removed it.
                let _ = remove(&values);
            }
        }
    }
}
