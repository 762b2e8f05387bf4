//! Instructions and system calls per request: what a proxy costs whatever else the machine does.
//!
//! `perf stat` counts both user and kernel where the machine lets it; elsewhere callgrind counts those of the user, and
//! the kernel's part shows only in system calls and processor time.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    client::closed_loop,
    peer::{Peer, Setting},
    scenario::CONNECTIONS,
    stage::Stage,
};

/// Requests before anything is counted: connections are open and buffers grown by then.
const WARM_UP: u64 = 2_000;
const ATTACH: Duration = Duration::from_millis(500);
const DUMP_MAX: Duration = Duration::from_secs(30);

/// Callgrind counts `rep movsb` once for every byte that it copies, a processor counts it once; without it, copies of all
/// sizes are loops, which both count alike.
const NO_REP: &str =
    "glibc.cpu.x86_rep_movsb_threshold=1073741824:glibc.cpu.x86_rep_stosb_threshold=1073741824";

/// What counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counter {
    Perf,
    Callgrind,
}

/// Totals over a number of requests; what the counter cannot see is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) user: u64,
    pub(super) kernel: Option<u64>,
}

impl Counter {
    /// The best that this machine has.
    pub(super) fn choose() -> Option<Self> {
        let perf = Command::new("perf")
            .args(["stat", "-x", ",", "-e", "instructions:u,instructions:k", "true"])
            .output()
            .is_ok_and(|it| perf_counts(&String::from_utf8_lossy(&it.stderr)).is_ok());
        let callgrind = || Command::new("callgrind_control").arg("--version").output().is_ok();
        if perf { Some(Self::Perf) } else { callgrind().then_some(Self::Callgrind) }
    }

    /// As tables name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Perf => "perf",
            Self::Callgrind => "callgrind",
        }
    }

    /// Counts `requests` small requests of `peer` with one thread; `None` if the counter cannot run it.
    pub(super) fn count(
        self,
        stage: &Stage,
        peer: Peer,
        requests: u64,
    ) -> anyhow::Result<Option<Counts>> {
        // Go's runtime does not run under valgrind.
        if self == Self::Callgrind && peer == Peer::Caddy {
            return Ok(None);
        }
        let prefix = stage.dir().join(format!("callgrind.{peer}"));
        let wrapper = match self {
            Self::Perf => Vec::new(),
            Self::Callgrind => vec![
                "env".to_owned(),
                format!("GLIBC_TUNABLES={NO_REP}"),
                "valgrind".to_owned(),
                "--tool=callgrind".to_owned(),
                format!("--callgrind-out-file={}", prefix.display()),
            ],
        };
        let playing = peer.start(stage, Setting::ONE_THREAD, &wrapper)?;
        closed_loop(playing.address, CONNECTIONS, WARM_UP)?;
        let load = || closed_loop(playing.address, CONNECTIONS, requests);
        let counts = match self {
            Self::Perf => perf(playing.process.pid(), load)?,
            Self::Callgrind => callgrind(playing.process.pid(), &prefix, load)?,
        };
        Ok(Some(counts))
    }
}

fn perf(pid: i32, load: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Counts> {
    let child = Command::new("perf")
        .args(["stat", "-x", ",", "-e", "instructions:u,instructions:k", "-p", &pid.to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .context("starting perf")?;
    let output = observed(child, load)?;
    perf_counts(&String::from_utf8_lossy(&output))
}

fn callgrind(
    pid: i32,
    prefix: &Path,
    load: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Counts> {
    // Every dump starts the count anew.
    dump(pid, prefix, 1)?;
    load()?;
    let text = dump(pid, prefix, 2)?;
    let totals = text
        .lines()
        .find_map(|it| it.strip_prefix("totals: "))
        .context("callgrind wrote no totals")?;
    Ok(Counts { user: totals.trim().parse().context("callgrind's totals")?, kernel: None })
}

fn dump(pid: i32, prefix: &Path, number: u32) -> anyhow::Result<String> {
    let output = Command::new("callgrind_control").args(["-d", &pid.to_string()]).output()?;
    ensure!(
        output.status.success(),
        "callgrind_control: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let file = prefix.with_file_name(format!(
        "{}.{number}",
        prefix.file_name().unwrap_or_default().to_string_lossy()
    ));
    // The dump is made by the process itself, some time after it was asked.
    let began = Instant::now();
    loop {
        let text = fs::read_to_string(&file).unwrap_or_default();
        if text.contains("\ntotals: ") {
            return Ok(text);
        }
        ensure!(
            began.elapsed() < DUMP_MAX,
            "no dump of callgrind in {} within {DUMP_MAX:?}",
            file.display()
        );
        thread::sleep(Duration::from_millis(20));
    }
}

/// System calls of `peer` for `requests` small requests; `None` without strace.
pub(super) fn system_calls(
    stage: &Stage,
    peer: Peer,
    requests: u64,
) -> anyhow::Result<Option<u64>> {
    if Command::new("strace").arg("-V").output().is_err() {
        return Ok(None);
    }
    let playing = peer.start(stage, Setting::ONE_THREAD, &[])?;
    closed_loop(playing.address, CONNECTIONS, WARM_UP)?;
    let child = Command::new("strace")
        .args(["-f", "-c", "-p", &playing.process.pid().to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .context("starting strace")?;
    let output = observed(child, || closed_loop(playing.address, CONNECTIONS, requests))?;
    strace_total(&String::from_utf8_lossy(&output)).map(Some)
}

/// What an observer that ends with SIGINT says of a load.
fn observed(
    mut observer: std::process::Child,
    load: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Vec<u8>> {
    // It does not say when it is attached; what it misses of thousands of requests does not show.
    thread::sleep(ATTACH);
    let done = load();
    kill(Pid::from_raw(observer.id().cast_signed()), Signal::SIGINT)?;
    let mut text = Vec::new();
    if let Some(mut stderr) = observer.stderr.take() {
        std::io::Read::read_to_end(&mut stderr, &mut text)?;
    }
    observer.wait()?;
    done?;
    Ok(text)
}

/// `VALUE,UNIT,EVENT,…` a line; a value that is not a number was not counted.
fn perf_counts(text: &str) -> anyhow::Result<Counts> {
    let value = |event: &str| {
        let line = text
            .lines()
            .find(|it| it.split(',').nth(2) == Some(event))
            .context("perf counted nothing")?;
        line.split(',')
            .next()
            .unwrap_or_default()
            .parse()
            .with_context(|| format!("perf says {line:?}"))
    };
    Ok(Counts { user: value("instructions:u")?, kernel: Some(value("instructions:k")?) })
}

/// The fourth column of the line `100.00 SECONDS USECS CALLS [ERRORS] total`.
fn strace_total(text: &str) -> anyhow::Result<u64> {
    let line = text
        .lines()
        .rev()
        .find(|it| it.trim_end().ends_with(" total"))
        .context("strace counted nothing")?;
    line.split_whitespace()
        .nth(3)
        .context("a short line")?
        .parse()
        .with_context(|| format!("strace says {line:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perf_is_believed_only_if_it_counted_both() {
        let both = "123,,instructions:u,1000,100.00,,\n45,,instructions:k,1000,100.00,,\n";
        assert_eq!(perf_counts(both).unwrap(), Counts { user: 123, kernel: Some(45) });
        for bad in [
            "",
            "123,,instructions:u,1,1,,\n",
            "<not supported>,,instructions:u,0,100.00,,\n1,,instructions:k,,,\n",
        ] {
            assert!(perf_counts(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn strace_says_how_many_calls_with_errors_or_without() {
        let head = "% time     seconds  usecs/call     calls    errors syscall\n";
        for line in [
            "100.00    0.012345           2      5000        12 total",
            "100.00    0.012345           2      5000           total",
        ] {
            assert_eq!(strace_total(&format!("{head}{line}\n")).unwrap(), 5_000);
        }
        assert!(strace_total(head).is_err());
    }
}
