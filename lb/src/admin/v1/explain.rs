//! [`explain`]: where a key goes at this moment, and why not elsewhere.
//!
//! The same walk as the proxy's, but nothing is reserved, so it may differ by the requests that begin and
//! end meanwhile.

use super::super::{
    refusal::{Code, Refusal},
    wire::{self, Verdict},
};
use crate::supervisor::handle::{PoolView, ReplicaView};
use ringmaster_fleet::{PhaseName, ReplicaName};
use std::{collections::HashMap, fmt, time::Duration};

/// As many candidates are listed.
const CANDIDATES_MAX: usize = 100;

/// Why a candidate may not take a request.
#[derive(Clone, Copy)]
enum Obstacle {
    Starting,
    Draining,
    Down { retry_in: Option<Duration> },
    AtBound { in_flight: u32, max: u32 },
}

impl Obstacle {
    /// What stands between the replica and a request, if anything.
    fn of(replica: &ReplicaView) -> Option<Self> {
        match replica.phase {
            PhaseName::Starting => Some(Self::Starting),
            PhaseName::Draining => Some(Self::Draining),
            PhaseName::Down => Some(Self::Down { retry_in: replica.retry_in }),
            PhaseName::Serving => {
                let in_flight = replica.in_flight;
                let max = replica.in_flight_max.filter(|&max| in_flight >= max)?;
                Some(Self::AtBound { in_flight, max })
            }
        }
    }

    /// The reason that the choice of another replica is given, in headers and logs, too.
    fn reason(self) -> &'static str {
        match self {
            Self::Starting | Self::Draining | Self::Down { .. } => "failover-down",
            Self::AtBound { .. } => "spill-bound",
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Draining => f.write_str("draining"),
            Self::Down { retry_in: None } => f.write_str("down"),
            Self::Down { retry_in: Some(wait) } => {
                write!(f, "down: retry in {:.1} s", wait.as_secs_f64())
            }
            Self::AtBound { in_flight, max } => {
                write!(f, "at its bound: {in_flight} of {max} in flight")
            }
        }
    }
}

/// What becomes of `key`. The reason is that of the slot's owner: whether it takes the request, or else
/// what keeps it from that.
pub(super) fn explain<'a>(view: &'a PoolView, key: &'a str) -> Result<wire::Explain<'a>, Refusal> {
    let table = &view.table;
    let algorithm = table.algorithm();
    if !algorithm.is_keyed() {
        let message = format!("{} places no key: any replica may take it", algorithm.name());
        return Err(Refusal::new(Code::NotKeyed, message));
    }
    let replicas: HashMap<&ReplicaName, &ReplicaView> =
        view.replicas.iter().map(|replica| (&replica.host.name, replica)).collect();
    let place = table.locate(key.as_bytes());
    let order: Vec<&ReplicaView> = table
        .candidates(place)
        .filter_map(|member| replicas.get(&table.members()[member].name).copied())
        .collect();

    let taken = order.iter().position(|replica| Obstacle::of(replica).is_none());
    let reason = match (taken, order.first().and_then(|owner| Obstacle::of(owner))) {
        (None, _) => "none",
        (Some(_), None) => "hash",
        (Some(_), Some(obstacle)) => obstacle.reason(),
    };
    let candidates: Vec<_> = order
        .iter()
        .take(CANDIDATES_MAX)
        .enumerate()
        .map(|(rank, replica)| candidate(rank, replica, taken))
        .collect();
    Ok(wire::Explain {
        key,
        hash: format!("{:016x}", place.hash),
        slot: place.slot,
        replica: taken.map(|rank| order[rank].host.name.as_str()),
        reason,
        left_out: order.len() - candidates.len(),
        candidates,
    })
}

fn candidate<'a>(
    rank: usize,
    replica: &'a ReplicaView,
    taken: Option<usize>,
) -> wire::Candidate<'a> {
    let (verdict, why) = match (Obstacle::of(replica), taken) {
        (_, Some(taken)) if rank > taken => (Verdict::Next, String::new()),
        (Some(obstacle), _) => (Verdict::Skipped, obstacle.to_string()),
        (None, _) if rank == 0 => (Verdict::Taken, "owner of the slot".to_owned()),
        (None, _) => (Verdict::Taken, "first candidate that may take it".to_owned()),
    };
    wire::Candidate { replica: replica.host.name.as_str(), verdict, why }
}

#[cfg(test)]
mod tests;
