//! What this process may do: never more than at its start, and better not everything.

use anyhow::Context;
use nix::{sys::prctl, unistd};
use tracing::warn;

/// Nothing that is started from here gains privileges, by setuid bits or by capabilities of files.
///
/// The children inherit it; the replicas among them need no more than this process has.
pub(crate) fn renounce_new() -> anyhow::Result<()> {
    prctl::set_no_new_privs().context("renouncing new privileges (PR_SET_NO_NEW_PRIVS)")
}

/// For a process that strangers send requests to.
pub(crate) fn warn_of_root() {
    if unistd::geteuid().is_root() {
        warn!(
            "Running as root, which nothing here needs: run it as another user, as \
             conf/systemd/ringmaster.service does; a port below 1024 needs CAP_NET_BIND_SERVICE only"
        );
    }
}
