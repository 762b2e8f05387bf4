//! The spawner's socket in the file system.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::{
        self,
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use tokio::net::UnixListener;

/// A socket that is listened on; dropped, it is removed.
pub(crate) struct Socket {
    pub(crate) listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens at `path`, for this user alone or also for `group`. A socket that nobody listens on makes room.
    ///
    /// Between two steps the permissions are those of the umask; who connects is checked once more when it speaks.
    pub(crate) fn bind(path: &Path, group: Option<u32>) -> anyhow::Result<Self> {
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(path)?;
                UnixListener::bind(path)
            }
            bound => bound,
        };
        let listener =
            listener.with_context(|| format!("--socket: cannot listen at {}", path.display()))?;
        let socket = Self { listener, path: path.to_owned() };
        let mode = if group.is_some() { 0o660 } else { 0o600 };
        unix::fs::chown(path, None, group)
            .with_context(|| format!("--socket-group: cannot give {} away", path.display()))?;
        fs::set_permissions(path, Permissions::from_mode(mode))
            .with_context(|| format!("--socket: cannot protect {}", path.display()))?;
        Ok(socket)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // If it is gone already, nothing is left to do; and nobody is left to be told of another reason.
        let _ = fs::remove_file(&self.path);
    }
}

fn remove_stale(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    let is_socket = fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
    if !is_socket {
        bail!("--socket: {shown} exists and is not a socket; choose another path");
    }
    match UnixStream::connect(path) {
        Ok(_) => {
            bail!("--socket: a process listens at {shown} already; end it, or choose another path")
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
            .with_context(|| format!("--socket: cannot remove the old {shown}")),
        Err(error) => {
            Err(error).with_context(|| format!("--socket: cannot tell whether {shown} is in use"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn is_for_its_user_or_one_group_and_removed_in_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        for (group, expected) in [(None, 0o600), (Some(nix::unistd::getgid().as_raw()), 0o660)] {
            let socket = Socket::bind(&path, group).unwrap();
            assert_eq!(mode(&path), expected);
            drop(socket);
            assert!(!path.exists());
        }
    }

    #[tokio::test]
    async fn replaces_what_nobody_listens_on_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        let socket = Socket::bind(&path, None).unwrap();
        let taken = Socket::bind(&path, None).err().unwrap().to_string();
        assert!(taken.contains("a process listens at"), "{taken}");
        UnixStream::connect(&path).unwrap();
        drop(socket);

        fs::write(&path, "mine").unwrap();
        let foreign = Socket::bind(&path, None).err().unwrap().to_string();
        assert!(foreign.contains("is not a socket"), "{foreign}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}
