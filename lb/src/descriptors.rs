//! File descriptors: how many connections this process has room for.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::warn;

/// Listeners, runtimes, files, heartbeats, and the pipes of replicas.
const RESERVED: u64 = 128;

/// A client's, and one to a replica.
const PER_CONNECTION: u64 = 2;

/// How many client connections there may be: `wanted`, or as many as there are file descriptors for. Whoever runs out of
/// these can accept nobody and reach no replica, so the limit of connections must come first.
pub(crate) fn connections_max(wanted: usize) -> usize {
    let room = usize::try_from(limit().saturating_sub(RESERVED) / PER_CONNECTION);
    let room = room.unwrap_or(usize::MAX).max(1);
    if room < wanted {
        warn!(
            "client.connections_max: {wanted} is more than there are file descriptors for; {room} are accepted, or raise \
             `ulimit -n` to {}",
            wanted as u64 * PER_CONNECTION + RESERVED
        );
    }
    wanted.min(room)
}

/// The limit of file descriptors, after it was raised as far as this process may.
fn limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return u64::MAX };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}
