//! Replicas as processes of this binary, `ringmaster replica …`, on free loopback ports.
//!
//! Each is in a process group of its own, so that a Ctrl-C in the terminal reaches the balancer alone, and outlives
//! a crash of the balancer; without heartbeats it ends itself after [`UNWATCHED_S`]. A keeper task per process owns
//! the child: only it signals, so a signal never reaches a process id that was given to somebody else. A process that
//! an earlier balancer started is nobody's child here; `adopted.rs` keeps those.

mod adopted;

use std::{
    collections::HashMap,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use ringmaster_fleet::{Exit, Incarnation, ReplicaName};
use tokio::{
    io::{AsyncRead, BufReader},
    process::{Child, Command},
    sync::{mpsc, oneshot, watch},
};

use super::{Ending, Found, ProcessId, Provider, Remembered, Spec, Started, failure};
use crate::{
    config::ProviderConfig,
    systemd,
    tail::{self, Tail},
};

/// A replica that hears no heartbeat for this long ends itself, so that none is ever orphaned.
const UNWATCHED_S: u32 = 15;

/// How long the output of a process that has ended is still waited for.
const OUTPUT_GRACE: Duration = Duration::from_millis(200);

/// What a replica prints once it listens, before its address.
const LISTENING: &str = "listening on ";

type Key = (ReplicaName, Incarnation);

/// Starts processes of this binary.
pub(crate) struct Process {
    program: PathBuf,
    kept: Mutex<HashMap<Key, Kept>>,
}

/// The way to a process's keeper.
#[derive(Clone)]
struct Kept {
    endings: mpsc::Sender<Ending>,
    exit: watch::Receiver<Option<Exit>>,
}

impl Process {
    /// `program` is this binary.
    pub(crate) fn new(program: PathBuf) -> Self {
        Self { program, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Key, Kept>> {
        // The map is whole between any two calls, so a panic elsewhere leaves nothing half done.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, name: &ReplicaName, incarnation: Incarnation) -> Option<Kept> {
        self.kept().get(&(name.clone(), incarnation)).cloned()
    }

    /// The way to the keeper of a new process, and the keeper's ends of it.
    fn keep(&self, spec: &Spec) -> (Kept, mpsc::Receiver<Ending>, watch::Sender<Option<Exit>>) {
        let (endings, asked) = mpsc::channel(1);
        let (report, exit) = watch::channel(None);
        let kept = Kept { endings, exit };
        self.kept().insert((spec.host.name.clone(), spec.incarnation), kept.clone());
        (kept, asked, report)
    }

    fn command(&self, spec: &Spec) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["replica", "--listen", "127.0.0.1:0"])
            .args(["--name", spec.host.name.as_str()])
            .args(["--id", &spec.number.to_string()])
            .args(["--exit-without-heartbeat-s", &UNWATCHED_S.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        for variable in systemd::not_inherited(false) {
            command.env_remove(variable);
        }
        command
    }
}

#[async_trait]
impl Provider for Process {
    fn kind(&self) -> &'static str {
        "process"
    }

    /// There is one way to start this binary.
    fn reconfigure(&self, _: &ProviderConfig) {}

    async fn find(&self, remembered: &[Remembered]) -> anyhow::Result<Vec<Found>> {
        let mut found = Vec::new();
        for Remembered { spec, started } in remembered {
            let Some(started) = *started else { continue };
            let Some(process) = started.process.filter(|it| adopted::is_alive(*it)) else {
                continue;
            };
            let (_, asked, report) = self.keep(spec);
            tokio::spawn(async move {
                adopted::keep(process, asked).await;
                let reason = "ended; it was another balancer's child, so its exit code is unknown";
                report.send_replace(Some(failure(reason.to_owned(), vec![])));
            });
            found.push(Found { spec: spec.clone(), started, outdated: false });
        }
        Ok(found)
    }

    async fn spawn(&self, spec: &Spec) -> Result<Started, Exit> {
        let mut child = self.command(spec).spawn().map_err(|error| {
            failure(format!("cannot start {}: {error}", self.program.display()), vec![])
        })?;
        let process = child.id().and_then(adopted::identify);
        let tail = Tail::default();
        let (listening, address) = oneshot::channel();
        let output = [
            child.stdout.take().map(|it| tokio::spawn(follow(it, tail.clone(), Some(listening)))),
            child.stderr.take().map(|it| tokio::spawn(follow(it, tail.clone(), None))),
        ];
        let (kept, asked, report) = self.keep(spec);
        tokio::spawn(async move {
            let status = keep(child, asked).await;
            for reader in output.into_iter().flatten() {
                // A process of its own making may hold the pipe open: its output is not the replica's.
                let _ = tokio::time::timeout(OUTPUT_GRACE, reader).await;
            }
            report.send_replace(Some(exit_of(status, &tail)));
        });
        match address.await {
            Ok(addr) => Ok(Started { addr, process }),
            // Standard output ended without the line, and so has the process, or soon will.
            Err(_) => {
                let _ = kept.endings.try_send(Ending::Now);
                Err(exited(kept.exit).await)
            }
        }
    }

    async fn exited(&self, name: &ReplicaName, incarnation: Incarnation) -> Exit {
        match self.get(name, incarnation) {
            Some(kept) => exited(kept.exit).await,
            None => failure("no such process".to_owned(), vec![]),
        }
    }

    async fn end(
        &self,
        name: &ReplicaName,
        incarnation: Incarnation,
        ending: Ending,
    ) -> Option<Exit> {
        let kept = self.get(name, incarnation)?;
        // Full or closed: it is ending already.
        let _ = kept.endings.try_send(ending);
        let exit = exited(kept.exit).await;
        self.kept().remove(&(name.clone(), incarnation));
        Some(exit)
    }
}

/// Waits for the child's end, bringing it about when asked to.
async fn keep(
    mut child: Child,
    mut endings: mpsc::Receiver<Ending>,
) -> std::io::Result<ExitStatus> {
    let ending = tokio::select! {
        status = child.wait() => return status,
        // Nobody is left who could ask for its end if this is closed: others keep the process now.
        Some(ending) = endings.recv() => ending,
    };
    if let Ending::Graceful(grace) = ending {
        terminate(&child);
        if let Ok(status) = tokio::time::timeout(grace, child.wait()).await {
            return status;
        }
    }
    // Fails only for a child that has ended, whose status `wait` then has.
    let _ = child.start_kill();
    child.wait().await
}

fn terminate(child: &Child) {
    // There is an id until `wait` has returned, so it names this child and no other.
    if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
}

async fn exited(mut exit: watch::Receiver<Option<Exit>>) -> Exit {
    match exit.wait_for(Option::is_some).await.map(|it| it.clone()) {
        Ok(Some(exit)) => exit,
        Ok(None) | Err(_) => failure("its keeper ended".to_owned(), vec![]),
    }
}

/// Keeps the last lines of an output, and tells the address in the line that says so.
async fn follow(
    output: impl AsyncRead + Unpin,
    tail: Tail,
    mut listening: Option<oneshot::Sender<std::net::SocketAddr>>,
) {
    let mut lines = BufReader::new(output);
    let mut line = Vec::new();
    while tail::read_line(&mut lines, &mut line).await {
        let text = String::from_utf8_lossy(&line);
        let address = text.strip_prefix(LISTENING).and_then(|it| it.trim().parse().ok());
        match address.and_then(|address| Some((listening.take()?, address))) {
            Some((listening, address)) => drop(listening.send(address)),
            None => tail.push(&text),
        }
    }
}

fn exit_of(status: std::io::Result<ExitStatus>, tail: &Tail) -> Exit {
    let (code, reason) = match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => (Some(code), format!("exit {code}")),
            // As a shell counts it: 137 for SIGKILL.
            (None, Some(signal)) => (Some(128 + signal), format!("killed by signal {signal}")),
            (None, None) => (None, "ended".to_owned()),
        },
        Err(error) => (None, format!("lost sight of it: {error}")),
    };
    Exit { code, reason, log: tail.lines(), at: SystemTime::now() }
}
