//! Which programs may take the place of this one.
//!
//! Whoever may ask for an upgrade has a program run with the balancer's rights. So a program that is not the one that
//! the balancer was started from must be out of reach for everybody but root and the balancer's own user.

use std::{
    env, fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Writable by the group or by others; and a folder in which only owners may rename.
const WRITABLE: u32 = 0o022;
const STICKY: u32 = 0o1000;
const EXECUTABLE: u32 = 0o111;

/// Why a program is not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    #[error("{}: {error}; name a program of this machine", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{}: not an absolute path, such as /usr/local/bin/ringmaster", path.display())]
    Relative { path: PathBuf },
    #[error("{}: not an executable file", path.display())]
    NotExecutable { path: PathBuf },
    #[error(
        "{}: its owner is user {owner}; it must be root or the balancer's user ({user}), as whoever can change it would \
         have the balancer's rights",
        path.display()
    )]
    Foreign { path: PathBuf, owner: u32, user: u32 },
    #[error(
        "{}: its mode is {mode:o}; nobody but its owner may write there (chmod go-w), as whoever can change it would \
         have the balancer's rights",
        path.display()
    )]
    Writable { path: PathBuf, mode: u32 },
}

/// `program` as it can be started, if nobody else can change it.
pub(super) fn checked(program: PathBuf) -> Result<PathBuf, ProgramError> {
    if !program.is_absolute() {
        return Err(ProgramError::Relative { path: program });
    }
    // What is checked is what is started, whatever becomes of links.
    let path = program.canonicalize().map_err(|error| ProgramError::Io { path: program, error })?;
    let user = nix::unistd::geteuid().as_raw();
    for part in path.ancestors() {
        let is_program = part == path;
        let failed = |error| ProgramError::Io { path: part.to_owned(), error };
        let metadata = fs::metadata(part).map_err(failed)?;
        let mode = metadata.permissions().mode() & 0o7777;
        if is_program && !(metadata.is_file() && mode & EXECUTABLE != 0) {
            return Err(ProgramError::NotExecutable { path });
        }
        let owner = metadata.uid();
        if owner != 0 && owner != user {
            return Err(ProgramError::Foreign { path: part.to_owned(), owner, user });
        }
        if mode & WRITABLE != 0 && (is_program || mode & STICKY == 0) {
            return Err(ProgramError::Writable { path: part.to_owned(), mode });
        }
    }
    Ok(path)
}

/// What this process was started from, as it was named then: a link may lead to another program by the next upgrade.
/// Asked for at the start, since the file may be replaced later.
pub(crate) fn own_program() -> io::Result<PathBuf> {
    let named = env::args_os().next().map(PathBuf::from);
    match named.filter(|it| it.parent().is_some_and(|folder| folder != Path::new(""))) {
        Some(path) => std::path::absolute(path),
        // It was found by the search path.
        None => env::current_exe(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &Path, name: &str, mode: u32) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn only_what_nobody_else_can_change_is_started() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let good = file(&folder, "good", 0o755);
        assert_eq!(checked(good.clone()).unwrap(), good);
        let link = folder.join("link");
        std::os::unix::fs::symlink(&good, &link).unwrap();
        assert_eq!(checked(link).unwrap(), good);

        for (path, reason) in [
            (PathBuf::from("ringmaster"), "not an absolute path"),
            (folder.join("none"), "No such file"),
            (folder.clone(), "not an executable file"),
            (file(&folder, "text", 0o644), "not an executable file"),
            (file(&folder, "of-group", 0o775), "its mode is 775; nobody but its owner"),
            (file(&folder, "of-all", 0o757), "its mode is 757; nobody but its owner"),
        ] {
            let error = checked(path).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        let open = folder.join("open");
        fs::create_dir(&open).unwrap();
        let inside = file(&open, "good", 0o755);
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(checked(inside.clone()), Err(ProgramError::Writable { .. })));
        fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).unwrap();
        checked(inside).unwrap();
    }
}
