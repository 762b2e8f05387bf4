//! [`explain`]: where a key goes at this moment, and why not elsewhere.
//!
//! The same walks as the proxy's, but nothing is reserved, so it may differ by the requests that begin and
//! end meanwhile.

use super::super::{
    refusal::{Code, Refusal},
    wire::{self, Verdict},
};
use crate::{
    config::PoolConfig,
    supervisor::handle::{PoolView, ReplicaView},
};
use ringmaster_fleet::{PhaseName, ReplicaName};
use std::{collections::HashMap, fmt, time::Duration};

/// As many candidates are listed.
const CANDIDATES_MAX: usize = 100;

/// A candidate, and what stands between it and a request.
type Asked<'a> = (&'a ReplicaView, Option<Obstacle>);

/// Why a candidate may not take a request.
#[derive(Clone, Copy)]
enum Obstacle {
    Starting,
    Draining,
    Down {
        retry_in: Option<Duration>,
    },
    /// It has as many requests in hand as any replica may have.
    Full {
        max: u32,
    },
    Ejected {
        lasts: Duration,
    },
    AtBound {
        in_flight: u32,
        max: u32,
    },
}

impl Obstacle {
    /// What stands between the replica and a request, if anything.
    fn of(replica: &ReplicaView, config: &PoolConfig) -> Option<Self> {
        let max = config.upstream.in_flight_max;
        match replica.phase {
            PhaseName::Starting => Some(Self::Starting),
            PhaseName::Draining => Some(Self::Draining),
            PhaseName::Down => Some(Self::Down { retry_in: replica.retry_in }),
            PhaseName::Serving if replica.in_flight >= max => Some(Self::Full { max }),
            PhaseName::Serving => {
                if let Some(lasts) = replica.ejected_for {
                    return Some(Self::Ejected { lasts });
                }
                let in_flight = replica.in_flight;
                let max = replica.in_flight_max.filter(|&max| in_flight >= max)?;
                Some(Self::AtBound { in_flight, max })
            }
        }
    }

    /// The reason that the choice of another replica is given, in headers and logs, too.
    fn reason(self) -> &'static str {
        match self {
            Self::Starting | Self::Draining | Self::Down { .. } | Self::Ejected { .. } => {
                "failover-down"
            }
            Self::Full { .. } | Self::AtBound { .. } => "spill-bound",
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
            Self::Full { max } => write!(f, "at the limit of a replica: {max} in flight"),
            Self::Ejected { lasts } => {
                write!(f, "ejected: it failed requests, for {:.1} s more", lasts.as_secs_f64())
            }
            Self::AtBound { in_flight, max } => {
                write!(f, "at its bound: {in_flight} of {max} in flight")
            }
        }
    }
}

/// What becomes of `key`. The reason is that of the slot's owner: whether it takes the request, or else
/// what keeps it from that.
pub(super) fn explain<'a>(
    view: &'a PoolView,
    config: &PoolConfig,
    key: &'a str,
) -> Result<wire::Explain<'a>, Refusal> {
    let table = &view.table;
    let algorithm = table.algorithm();
    if !algorithm.is_keyed() {
        let message = format!("{} places no key: any replica may take it", algorithm.name());
        return Err(Refusal::new(Code::NotKeyed, message));
    }
    let replicas: HashMap<&ReplicaName, &ReplicaView> =
        view.replicas.iter().map(|replica| (&replica.host.name, replica)).collect();
    let place = table.locate(key.as_bytes());
    let order: Vec<Asked> = table
        .candidates(place)
        .filter_map(|member| replicas.get(&table.members()[member].name).copied())
        .map(|replica| (replica, Obstacle::of(replica, config)))
        .collect();

    let taken = taken(&order, config);
    let reason = match (taken, order.first()) {
        (None, _) | (_, None) => "none",
        (Some(0), _) | (_, Some((_, None))) => "hash",
        (_, Some((_, Some(obstacle)))) => obstacle.reason(),
    };
    let candidates: Vec<_> = order
        .iter()
        .take(CANDIDATES_MAX)
        .enumerate()
        .map(|(rank, asked)| candidate(rank, asked, taken.map(|it| (it, order[it].1))))
        .collect();
    Ok(wire::Explain {
        key,
        hash: format!("{:016x}", place.hash),
        slot: place.slot,
        replica: taken.map(|rank| order[rank].0.host.name.as_str()),
        reason,
        left_out: order.len() - candidates.len(),
        candidates,
    })
}

/// Who takes it: the first without an obstacle; else, as a bound refuses nobody, the first that is only at its bound;
/// else, if all that serve are ejected, the first of them unless such requests are refused.
fn taken(order: &[Asked], config: &PoolConfig) -> Option<usize> {
    let first = |accepted: &dyn Fn(Option<Obstacle>) -> bool| {
        order.iter().position(|&(_, obstacle)| accepted(obstacle))
    };
    let is_open = config.ejection.fail_open
        && order.iter().all(|(it, _)| it.phase != PhaseName::Serving || it.ejected_for.is_some());
    first(&|it| it.is_none())
        .or_else(|| first(&|it| matches!(it, Some(Obstacle::AtBound { .. }))))
        .or_else(|| first(&|it| is_open && matches!(it, Some(Obstacle::Ejected { .. }))))
}

/// `taken` is the rank of who takes it, and what was overlooked for want of another.
fn candidate<'a>(
    rank: usize,
    &(replica, obstacle): &Asked<'a>,
    taken: Option<(usize, Option<Obstacle>)>,
) -> wire::Candidate<'a> {
    let (verdict, why) = match (taken, obstacle) {
        (Some((taken, None)), _) if rank > taken => (Verdict::Next, String::new()),
        (Some((taken, _)), Some(obstacle)) if rank == taken => {
            (Verdict::Taken, format!("no other is better: {obstacle}"))
        }
        (_, Some(obstacle)) => (Verdict::Skipped, obstacle.to_string()),
        (_, None) if rank == 0 => (Verdict::Taken, "owner of the slot".to_owned()),
        (_, None) => (Verdict::Taken, "first candidate that may take it".to_owned()),
    };
    wire::Candidate { replica: replica.host.name.as_str(), verdict, why }
}

#[cfg(test)]
mod tests;
