//! File descriptors: how many connections this process has room for.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::warn;

/// Listeners, runtimes, files, heartbeats, and the pipes of replicas.
const RESERVED: u64 = 128;

/// A client's, and one to a replica.
const PER_CONNECTION: usize = 2;

/// More idle connections to replicas than this are of no use.
const IDLE_MAX: usize = 2048;

/// More refused clients than this are not waited for while they read why.
const REFUSED_MAX: usize = 256;

/// How many connections there may be at the same time: all of them together have a descriptor each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Budget {
    clients: usize,
    /// To replicas, without a request.
    idle: usize,
    /// Of clients beyond the limit.
    refused: usize,
}

impl Budget {
    fn of(limit: u64) -> Self {
        let whole = usize::try_from(limit.saturating_sub(RESERVED)).unwrap_or(usize::MAX);
        let (idle, refused) = (IDLE_MAX.min(whole / 4), REFUSED_MAX.min(whole / 8));
        Self { clients: ((whole - idle - refused) / PER_CONNECTION).max(1), idle, refused }
    }
}

/// How many client connections there may be: `wanted`, or as many as there are file descriptors for. Whoever runs out of
/// these can accept nobody and reach no replica, so the limit of connections must come first.
pub(crate) fn connections_max(wanted: usize) -> usize {
    let room = Budget::of(limit()).clients;
    if room < wanted {
        warn!(
            "client.connections_max: {wanted} is more than there are file descriptors for; {room} are accepted, or raise \
             `ulimit -n` to {}",
            (wanted * PER_CONNECTION + IDLE_MAX + REFUSED_MAX) as u64 + RESERVED
        );
    }
    wanted.min(room)
}

/// How many connections to replicas are kept for reuse.
pub(crate) fn upstream_idle_max() -> usize {
    Budget::of(limit()).idle
}

/// How many refused clients may be given a moment to read why.
pub(crate) fn refused_max() -> usize {
    Budget::of(limit()).refused
}

/// The limit of file descriptors, after it was raised as far as this process may.
fn limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return u64::MAX };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_connections_together_fit() {
        for limit in [160, 300, 1_024, 4_096, 20_000, 65_536] {
            let Budget { clients, idle, refused } = Budget::of(limit);
            let used = RESERVED + (PER_CONNECTION * clients + idle + refused) as u64;
            assert!((limit - 1..=limit).contains(&used), "{used} of {limit}");
            assert!(idle > 0 && refused > 0, "{limit}");
        }
        let roomy = Budget { clients: 8_784, idle: IDLE_MAX, refused: REFUSED_MAX };
        assert_eq!(Budget::of(20_000), roomy);
        assert_eq!(Budget::of(64), Budget { clients: 1, idle: 0, refused: 0 });
    }
}
