//! Another binary takes over while requests are served: it is started, prepares itself, and is given the listening
//! sockets and the replicas (ADR-0011).
//!
//! ```text
//!   this process                                           the new one
//!   start it ─────────────────────────────────────────────▶ reads its configuration
//!            ◀──────────────────────────────────────Hello── or ends, with a reason
//!   Offer, sockets, lock ─────────────────────────────────▶ prepares what can fail
//!            ◀───────────────────────────────────Prepared──
//!   stand still, Legacy ──────────────────────────────────▶ keeps the replicas, routes to them
//!            ◀────────────────────────────────────Serving── accepts connections
//!   accept no more, end with the last client
//! ```
//!
//! Invariants: until `Serving` was heard, this process can go on as if nothing had been, and does so with anything that
//! goes wrong; but first the new process has ended. So at no time do two processes keep the replicas.

mod channel;
mod predecessor;
mod program;
mod sockets;
mod successor;

use std::{
    ffi::OsString,
    fs::File,
    path::PathBuf,
    process,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tracing::{info, warn};

pub(crate) use self::{predecessor::Predecessor, program::own_program, sockets::Sockets};
use self::{
    program::ProgramError,
    successor::{Fault, Successor},
};
use crate::{
    COMMIT, VERSION,
    engine::Holds,
    supervisor::{AskError, Frozen, Handle},
    systemd,
};

/// How long the listeners may take to close once another process serves: far more than they do.
const ACCEPTING_MAX: Duration = Duration::from_secs(1);

/// One part in so many of the time that an upgrade has may pass until no change is under way.
const SETTLING: u32 = 2;

/// Where a process is in its life. It leaves the first stage once, for one of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Running,
    /// It ends, and its replicas with it.
    Closing,
    /// Another process has taken over.
    HandedOver,
}

/// The way from [`Stage::Running`] to `next`; false if it was left already.
pub(crate) fn leave(stage: &watch::Sender<Stage>, next: Stage) -> bool {
    stage.send_if_modified(|stage| {
        let is_running = *stage == Stage::Running;
        if is_running {
            *stage = next;
        }
        is_running
    })
}

/// Why the balancer was not upgraded, and goes on as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpgradeError {
    #[error("an upgrade is under way already")]
    UnderWay,
    #[error("this is process 1 of a container, which ends with it: replace the container instead")]
    ProcessOne,
    #[error("the balancer is shutting down")]
    Closing,
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error(transparent)]
    Supervisor(#[from] AskError),
    #[error("the balancer goes on as it was: {fault}")]
    Failed { fault: Fault },
}

/// Who has taken over.
#[derive(Debug)]
pub(crate) struct Upgraded {
    pub(crate) pid: u32,
    pub(crate) version: String,
}

/// Starts other binaries in the place of this one.
pub(crate) struct Upgrader {
    pub(crate) handle: Handle,
    pub(crate) cluster: String,
    /// What this process was started from, and is to be started from again.
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) sockets: Arc<Sockets>,
    pub(crate) holds: Arc<Holds>,
    /// That of the state file, until another process has it.
    pub(crate) lock: Mutex<Option<File>>,
    pub(crate) stage: watch::Sender<Stage>,
    /// Whether this process takes new clients.
    pub(crate) is_accepting: watch::Receiver<bool>,
    /// Stays so once another process has taken over.
    pub(crate) is_busy: AtomicBool,
}

impl Upgrader {
    /// Has a new process take over within `patience`: from `program`, or from what this one was started from. Whoever
    /// stops waiting for it stops nothing.
    pub(crate) async fn upgrade(
        self: &Arc<Self>,
        program: Option<PathBuf>,
        patience: Duration,
    ) -> Result<Upgraded, UpgradeError> {
        if process::id() == 1 {
            return Err(UpgradeError::ProcessOne);
        }
        let program = program.map(program::checked).transpose()?;
        if self.is_busy.swap(true, Ordering::AcqRel) {
            return Err(UpgradeError::UnderWay);
        }
        let this = self.clone();
        let upgrade = tokio::spawn(async move {
            let program = program.unwrap_or_else(|| this.program.clone());
            info!(program = %program.display(), "Upgrading");
            let upgraded = this.run(program, patience).await;
            match &upgraded {
                Ok(Upgraded { pid, version }) => {
                    info!(pid, version, "Handed over; this process ends with its last client");
                }
                Err(error) => {
                    warn!(%error, "The upgrade has failed");
                    this.is_busy.store(false, Ordering::Release);
                }
            }
            upgraded
        });
        upgrade.await.unwrap_or(Err(UpgradeError::Closing))
    }

    async fn run(&self, program: PathBuf, patience: Duration) -> Result<Upgraded, UpgradeError> {
        let mut successor = Successor::start(&program, &self.arguments)
            .map_err(|fault| UpgradeError::Failed { fault })?;
        let mut frozen = None;
        let handed_over = tokio::select! {
            biased;
            () = self.closing() => Err(UpgradeError::Closing),
            handed_over = tokio::time::timeout(
                patience,
                self.hand_over(&mut successor, &mut frozen, patience),
            ) => handed_over.unwrap_or(Err(UpgradeError::Failed { fault: Fault::Late(patience) })),
        };
        match (handed_over, frozen) {
            (Ok(version), Some(frozen)) if leave(&self.stage, Stage::HandedOver) => {
                let pid = successor.pid();
                // Where systemd started this process, it is to watch over the other one from now on.
                systemd::tell(systemd::State::MainPid(pid));
                frozen.leave();
                self.holds.leave();
                // Should that process crash, the next one must not find it locked by this one.
                *self.lock() = None;
                self.accepts_no_more().await;
                Ok(Upgraded { pid, version })
            }
            (outcome, frozen) => {
                // In this order: the replicas are kept by one process at a time.
                let is_ending =
                    matches!(outcome, Err(UpgradeError::Failed { fault: Fault::Silent }));
                let end = successor.end(is_ending).await;
                // It may have claimed the clusters in its own name.
                self.holds.renew();
                drop(frozen);
                Err(match outcome {
                    Err(UpgradeError::Failed { fault }) => {
                        UpgradeError::Failed { fault: fault.explained(end) }
                    }
                    Err(error) => error,
                    Ok(_) => UpgradeError::Closing,
                })
            }
        }
    }

    /// Up to the moment at which the other process serves; what it calls itself.
    async fn hand_over(
        &self,
        successor: &mut Successor,
        frozen: &mut Option<Frozen>,
        patience: Duration,
    ) -> Result<String, UpgradeError> {
        let failed = |fault| UpgradeError::Failed { fault };
        let version = successor.hello().await.map_err(failed)?;
        let lock = self.lock().as_ref().map(File::try_clone).transpose();
        let lock = lock.map_err(|error| failed(Fault::NotStarted(error.to_string())))?;
        successor.offer(&self.cluster, &self.sockets, lock).await.map_err(failed)?;
        successor.prepared().await.map_err(failed)?;
        let until = Instant::now() + patience / SETTLING;
        let legacy = &frozen.insert(self.handle.freeze(until).await?).legacy;
        successor.hand_over(legacy).await.map_err(failed)?;
        Ok(version)
    }

    /// Whoever connects after the answer is to meet the other process.
    async fn accepts_no_more(&self) {
        let mut is_accepting = self.is_accepting.clone();
        // An error is an end, too, and the answer need not wait for one that does not come.
        let _ = tokio::time::timeout(ACCEPTING_MAX, is_accepting.wait_for(|it| !it)).await;
    }

    fn lock(&self) -> MutexGuard<'_, Option<File>> {
        // It is whole between any two calls.
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn closing(&self) {
        let mut stage = self.stage.subscribe();
        // Fails only when nobody is left who could change it.
        if stage.wait_for(|it| *it == Stage::Closing).await.is_err() {
            std::future::pending().await
        }
    }
}

/// What this process calls itself.
fn version() -> String {
    format!("{VERSION} ({COMMIT})")
}
