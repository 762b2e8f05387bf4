//! Processes that an earlier balancer started. They are no children of this one, so their end is looked for, and
//! before each signal it is made sure that the process is still the same: by its id *and* its start.

use std::time::Duration;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use procfs::process::{ProcState, Process};
use tokio::{sync::mpsc, time::timeout};

use super::{Ending, ProcessId};

/// How often it is looked for.
const PAUSE: Duration = Duration::from_millis(20);

/// The identity of a running process.
pub(super) fn identify(pid: u32) -> Option<ProcessId> {
    let stat = Process::new(i32::try_from(pid).ok()?).ok()?.stat().ok()?;
    // A zombie has ended; it is there only until its parent asks.
    (stat.state().ok()? != ProcState::Zombie).then_some(ProcessId { pid, started: stat.starttime })
}

/// Whether this very process runs.
pub(super) fn is_alive(process: ProcessId) -> bool {
    identify(process.pid) == Some(process)
}

/// Waits for its end, bringing it about when asked to.
pub(super) async fn keep(process: ProcessId, mut endings: mpsc::Receiver<Ending>) {
    let ending = tokio::select! {
        () = ended(process) => return,
        // As for a child.
        Some(ending) = endings.recv() => ending,
    };
    if let Ending::Graceful(grace) = ending {
        signal(process, Signal::SIGTERM);
        if timeout(grace, ended(process)).await.is_ok() {
            return;
        }
    }
    signal(process, Signal::SIGKILL);
    ended(process).await;
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
        assert!(is_alive(this));
        assert!(!is_alive(ProcessId { started: this.started + 1, ..this }));
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        while identify(child.id()).is_some() {
            std::thread::yield_now();
        }
        assert!(child.wait().unwrap().success());
    }
}
