//! What the client commands read of the API's answers; fields they have no use for are passed over.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Deserialize)]
pub(super) struct Replicas {
    pub(super) replicas: Vec<Replica>,
}

#[derive(Deserialize)]
pub(super) struct Replica {
    pub(super) name: String,
    pub(super) phase: String,
    pub(super) incarnation: u64,
    pub(super) address: Option<String>,
    pub(super) in_flight: u32,
    pub(super) attempts: u32,
    pub(super) retry_in_s: Option<f64>,
    pub(super) last_exit: Option<LastExit>,
}

#[derive(Deserialize)]
pub(super) struct LastExit {
    pub(super) reason: String,
    pub(super) at: String,
    pub(super) log: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct Pools {
    pub(super) pools: Vec<Pool>,
}

#[derive(Deserialize)]
pub(super) struct Pool {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) provider: String,
    pub(super) wanted: usize,
    pub(super) actual: Actual,
    pub(super) algorithm: String,
}

#[derive(Deserialize)]
pub(super) struct Actual {
    pub(super) serving: usize,
}

#[derive(Deserialize)]
pub(super) struct Reloaded {
    pub(super) changed: Vec<String>,
    pub(super) needs_restart: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct Upgraded {
    pub(super) pid: u32,
    pub(super) version: String,
    pub(super) predecessor: u32,
}

#[derive(Deserialize)]
pub(super) struct Plan {
    pub(super) before: BTreeMap<String, f64>,
    pub(super) after: BTreeMap<String, f64>,
    pub(super) moved: f64,
    pub(super) ideal: f64,
    pub(super) between_survivors: f64,
    pub(super) moves: Vec<Move>,
}

#[derive(Deserialize)]
pub(super) struct Move {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) share: f64,
}

#[derive(Deserialize)]
pub(super) struct Explain {
    pub(super) key: String,
    pub(super) hash: String,
    pub(super) slot: u32,
    pub(super) replica: Option<String>,
    pub(super) reason: String,
    pub(super) candidates: Vec<Candidate>,
    pub(super) left_out: usize,
}

#[derive(Deserialize)]
pub(super) struct Candidate {
    pub(super) replica: String,
    pub(super) verdict: String,
    pub(super) why: String,
}

#[derive(Deserialize)]
pub(super) struct Event {
    pub(super) at: String,
    pub(super) pool: String,
    pub(super) replica: String,
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    pub(super) cause: String,
    pub(super) incarnation: u64,
}

#[derive(Deserialize)]
pub(super) struct Reload {
    pub(super) at: String,
    #[serde(flatten)]
    pub(super) reloaded: Reloaded,
}

#[derive(Deserialize)]
pub(super) struct Gap {
    pub(super) after: u64,
    pub(super) next: u64,
}
