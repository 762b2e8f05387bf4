//! Processes that an earlier balancer started. They are no children of this one, so their end is looked for, and
//! before each signal it is made sure that the process is still the same: by its id *and* its start.

use std::time::Duration;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use procfs::process::{ProcState, Process, Stat, StatFlags};
use tokio::{sync::mpsc, time::timeout};

use super::{Ending, ProcessId};

/// How often it is looked for.
const PAUSE: Duration = Duration::from_millis(20);

/// The identity of a running process.
pub(super) fn identify(pid: u32) -> Option<ProcessId> {
    let stat = stat(pid)?;
    // A zombie has ended; it is there only until its parent asks.
    (stat.state().ok()? != ProcState::Zombie).then_some(ProcessId { pid, started: stat.starttime })
}

fn stat(pid: u32) -> Option<Stat> {
    Process::new(i32::try_from(pid).ok()?).ok()?.stat().ok()
}

/// Whether this very process has ended or is on its way out. A process that was killed closes its sockets, so that it
/// misses heartbeats, a moment before anybody can wait for its end.
pub(super) fn is_ending(process: ProcessId) -> bool {
    let is_exiting = |stat: Stat| stat.flags & StatFlags::PF_EXITING.bits() != 0;
    !is_alive(process) || stat(process.pid).is_none_or(is_exiting)
}

/// Whether this very process runs.
pub(super) fn is_alive(process: ProcessId) -> bool {
    identify(process.pid) == Some(process)
}

/// Whether it was started with `value` for `argument`. Where that cannot be read it is believed.
pub(super) fn was_told(process: ProcessId, argument: &str, value: &str) -> bool {
    let process = i32::try_from(process.pid).ok().and_then(|pid| Process::new(pid).ok());
    let Some(arguments) = process.and_then(|it| it.cmdline().ok()) else { return true };
    let given = arguments.windows(2).find(|it| it[0] == argument).map(|it| it[1].as_str());
    given.is_none_or(|given| given == value)
}

/// Waits for its end, bringing it about when asked to. Answers whether it ended before it was asked to.
pub(super) async fn keep(process: ProcessId, mut endings: mpsc::Receiver<Ending>) -> bool {
    let ending = tokio::select! {
        () = ended(process) => return true,
        // As for a child.
        Some(ending) = endings.recv() => ending,
    };
    // It is looked for with pauses only.
    let by_itself = is_ending(process);
    if let Ending::Graceful(grace) = ending {
        signal(process, Signal::SIGTERM);
        if timeout(grace, ended(process)).await.is_ok() {
            return by_itself;
        }
    }
    signal(process, Signal::SIGKILL);
    ended(process).await;
    by_itself
}

async fn ended(process: ProcessId) {
    while is_alive(process) {
        tokio::time::sleep(PAUSE).await;
    }
}

fn signal(process: ProcessId, signal: Signal) {
    if is_alive(process)
        && let Ok(pid) = i32::try_from(process.pid)
    {
        // Fails only if it has ended since, which is what is wanted.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start_too() {
        let this = identify(std::process::id()).unwrap();
        assert!(is_alive(this) && !is_ending(this));
        assert!(!is_alive(ProcessId { started: this.started + 1, ..this }));
    }

    #[test]
    fn what_a_process_was_told_is_read_from_its_arguments() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read line", "sh", "--id", "7"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let process = identify(child.id()).unwrap();
        // The kernel resumes this process a moment before the other one has its arguments.
        while was_told(process, "-c", "another line") {
            std::thread::yield_now();
        }
        assert!(was_told(process, "--id", "7"));
        assert!(!was_told(process, "--id", "8"));
        assert!(was_told(process, "--name", "8"), "what was not said is believed");
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        while identify(child.id()).is_some() {
            std::thread::yield_now();
        }
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn a_killed_process_is_ending_until_it_has_ended() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = identify(child.id()).unwrap();
        assert!(!is_ending(process));
        child.kill().unwrap();
        while !is_ending(process) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(is_ending(process));
    }
}
