//! The state file: where it is, and what an earlier balancer wrote there.

use std::{env, fs::File, path::PathBuf};

use tracing::warn;

use crate::{
    config::Config,
    supervisor::{Memory, MemoryError, Recollection},
};

/// The state file, and what an earlier balancer wrote there.
///
/// `held` is the lock of a process that hands over.
pub(super) fn remember(
    config: &Config,
    held: Option<File>,
) -> anyhow::Result<(Option<Memory>, Recollection)> {
    if let Some(path) = &config.state_file {
        let (memory, recollection) = Memory::open(path, &config.cluster, held)?;
        return Ok((Some(memory), recollection));
    }
    let Some(path) = runtime_file(config.admin.listen.port()) else {
        return Ok((None, Recollection::new()));
    };
    match Memory::open(&path, &config.cluster, held) {
        Ok((memory, recollection)) => Ok((Some(memory), recollection)),
        // Nobody asked for this file; a container with a read-only root has no room for it, and labels instead.
        Err(error @ MemoryError::Io { .. }) => {
            warn!(%error, "Nothing is written down for the next balancer");
            Ok((None, Recollection::new()))
        }
        Err(error) => Err(error.into()),
    }
}

/// A file that the next balancer on the same admin port looks for; a free port is another one each time.
fn runtime_file(port: u16) -> Option<PathBuf> {
    let folder = |key| env::var_os(key).filter(|it| !it.is_empty()).map(PathBuf::from);
    let folder = folder("RUNTIME_DIRECTORY")
        .or_else(|| folder("XDG_RUNTIME_DIR").map(|it| it.join("ringmaster")))
        .unwrap_or_else(|| env::temp_dir().join(format!("ringmaster-{}", nix::unistd::geteuid())));
    (port != 0).then(|| folder.join(format!("{port}.json")))
}
