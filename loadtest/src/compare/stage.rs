//! The stage on which all peers play: a scratch directory, free addresses, cores, and the backend.

use std::{
    fs::{self, Permissions},
    net::{Ipv4Addr, SocketAddr},
    num::NonZero,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    sync::LazyLock,
    thread,
};

use anyhow::Context;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::running::{Running, free_addresses};

const BACKEND: &str = include_str!("../../peers/backend.conf");
const REQUESTS: &str = include_str!("../../peers/requests.lua");

/// Addresses of the backend.
const BACKENDS: usize = 3;

/// Bodies that the backend serves as files, by path.
const FILES: [(&str, usize); 2] = [("10k", 10 << 10), ("1m", 1 << 20)];

/// In the stage's directory: for this machine, signed by itself, and its key; HAProxy wants both in one file.
pub(super) const CERTIFICATE: &str = "certificate.pem";
pub(super) const KEY: &str = "key.pem";
pub(super) const BOTH: &str = "both.pem";

/// Of the machine: asked before this process keeps off one of them.
static CORES: LazyLock<usize> =
    LazyLock::new(|| thread::available_parallelism().map_or(1, NonZero::get));

/// What is the same for every peer; the backend ends with it.
pub(super) struct Stage {
    dir: TempDir,
    backends: Vec<SocketAddr>,
    /// The core of the proxy with one thread; everything else runs on the others.
    pub(super) core: usize,
    _backend: Running,
}

impl Stage {
    /// Starts the backend, and moves this process away from the proxy's core.
    pub(super) fn set() -> anyhow::Result<Self> {
        Self::with_backends(BACKENDS)
    }

    /// The same, with a backend that has so many addresses.
    pub(super) fn with_backends(count: usize) -> anyhow::Result<Self> {
        let core = *CORES - 1;
        anyhow::ensure!(
            core > 0,
            "one core for the proxy and one for the load are needed, there is one in all"
        );
        keep_off(core)?;
        let dir = tempfile::Builder::new().prefix("ringmaster-compare-").tempdir()?;
        let files = dir.path().join("files");
        fs::create_dir(&files)?;
        for (name, bytes) in FILES {
            fs::write(files.join(name), vec![b'x'; bytes])?;
        }
        fs::write(dir.path().join("requests.lua"), REQUESTS)?;
        certify(dir.path())?;
        let [first] = free_addresses()?;
        // The whole of 127.0.0.0/8 is this machine, so one free port makes as many addresses as are needed.
        let backends: Vec<SocketAddr> = (0..count as u32)
            .map(|index| {
                SocketAddr::from((
                    Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + index),
                    first.port(),
                ))
            })
            .collect();
        let text = filled(BACKEND, &common(&dir, &backends));
        let file = dir.path().join("backend.conf");
        fs::write(&file, text)?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&file).arg("-p").arg(dir.path()).args(["-e", "stderr"]);
        let mut backend = Running::start("backend", command, &dir.path().join("backend.log"))?;
        backend.until_answers(backends[0])?;
        Ok(Self { dir, backends, core, _backend: backend })
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn backends(&self) -> &[SocketAddr] {
        &self.backends
    }

    /// A template with the names that are the same for every peer, and `more`.
    pub(super) fn fill(&self, template: &str, more: &[(&str, String)]) -> String {
        let mut names = common(&self.dir, &self.backends);
        names.extend(more.iter().cloned());
        filled(template, &names)
    }
}

fn certify(dir: &Path) -> anyhow::Result<()> {
    let made =
        rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    fs::write(dir.join(CERTIFICATE), &certificate)?;
    for (name, text) in [(KEY, key.clone()), (BOTH, certificate + &key)] {
        fs::write(dir.join(name), text)?;
        fs::set_permissions(dir.join(name), Permissions::from_mode(0o600))?;
    }
    Ok(())
}

/// What every template may name.
fn common(dir: &TempDir, backends: &[SocketAddr]) -> Vec<(&'static str, String)> {
    let each = |line: &dyn Fn(usize, &SocketAddr) -> String| {
        backends.iter().enumerate().map(|(index, it)| line(index + 1, it)).collect::<Vec<_>>()
    };
    vec![
        ("DIR", dir.path().display().to_string()),
        ("LISTENS", each(&|_, it| format!("listen {it} backlog=4096;")).join("\n        ")),
        ("SERVERS", each(&|_, it| format!("server {it};")).join("\n        ")),
        ("HAPROXY_SERVERS", each(&|number, it| format!("server b{number} {it}")).join("\n    ")),
        ("BACKENDS", each(&|_, it| it.to_string()).join(" ")),
        ("FIXED", each(&|number, it| format!("b{number}: \"{it}\"")).join(", ")),
    ]
}

fn filled(template: &str, names: &[(&str, String)]) -> String {
    names
        .iter()
        .fold(template.to_owned(), |text, (name, value)| text.replace(&format!("@{name}@"), value))
}

/// Moves every thread of this process to the other cores; children and later threads inherit it.
fn keep_off(core: usize) -> anyhow::Result<()> {
    let mut others = CpuSet::new();
    for other in (0..*CORES).filter(|it| *it != core) {
        others.set(other)?;
    }
    for task in fs::read_dir("/proc/self/task")? {
        let thread = task?.file_name().to_string_lossy().parse()?;
        sched_setaffinity(Pid::from_raw(thread), &others).context("choosing a core")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_in_everywhere() {
        let names = [("A", "1".to_owned()), ("B", "2".to_owned())];
        assert_eq!(filled("@A@ @B@ @A@ @C@ @a", &names), "1 2 1 @C@ @a");
    }
}
