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
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
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

use super::{Ended, Ending, Found, ProcessId, Provider, Remembered, Spec, Started, failure};
use crate::{
    config::{ProviderConfig, ServerId},
    systemd,
    tail::{self, Tail},
};

/// A replica that hears no heartbeat for this long ends itself, so that none is ever orphaned.
const UNWATCHED_S: u32 = 15;

/// How long the output of a process that has ended is still waited for.
const OUTPUT_GRACE: Duration = Duration::from_millis(200);

/// The argument that says what a replica is to call itself.
const ID: &str = "--id";

/// What a replica prints once it listens, before its address.
const LISTENING: &str = "listening on ";

type Key = (ReplicaName, Incarnation);

/// Starts processes of this binary.
pub(crate) struct Process {
    program: PathBuf,
    server_id: ArcSwap<ServerId>,
    kept: Mutex<HashMap<Key, Kept>>,
}

/// The way to a process's keeper.
#[derive(Clone)]
struct Kept {
    endings: mpsc::Sender<Ending>,
    ended: watch::Receiver<Option<Ended>>,
}

impl Process {
    /// `program` is this binary.
    pub(crate) fn new(program: PathBuf, server_id: ServerId) -> Self {
        let server_id = ArcSwap::from_pointee(server_id);
        Self { program, server_id, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Key, Kept>> {
        // The map is whole between any two calls, so a panic elsewhere leaves nothing half done.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, name: &ReplicaName, incarnation: Incarnation) -> Option<Kept> {
        self.kept().get(&(name.clone(), incarnation)).cloned()
    }

    /// The way to the keeper of a new process, and the keeper's ends of it.
    fn keep(&self, spec: &Spec) -> (Kept, mpsc::Receiver<Ending>, watch::Sender<Option<Ended>>) {
        let (endings, asked) = mpsc::channel(1);
        let (report, ended) = watch::channel(None);
        let kept = Kept { endings, ended };
        self.kept().insert((spec.host.name.clone(), spec.incarnation), kept.clone());
        (kept, asked, report)
    }

    fn command(&self, spec: &Spec) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["replica", "--listen", "127.0.0.1:0"])
            .args(["--name", spec.host.name.as_str()])
            .args([ID, &spec.server_id(**self.server_id.load())])
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

    fn reconfigure(&self, config: &ProviderConfig) {
        if let ProviderConfig::Process(server_id) = config {
            self.server_id.store(Arc::new(*server_id));
        }
    }

    async fn find(&self, remembered: &[Remembered]) -> anyhow::Result<Vec<Found>> {
        let mut found = Vec::new();
        for Remembered { spec, started } in remembered {
            let Some(started) = *started else { continue };
            let Some(process) = started.process.filter(|it| adopted::is_alive(*it)) else {
                continue;
            };
            let outdated =
                !adopted::was_told(process, ID, &spec.server_id(**self.server_id.load()));
            let (_, asked, report) = self.keep(spec);
            tokio::spawn(async move {
                let by_itself = adopted::keep(process, asked).await;
                let reason = "ended; it was another balancer's child, so its exit code is unknown";
                let exit = failure(reason.to_owned(), vec![]);
                report.send_replace(Some(Ended { exit, by_itself }));
            });
            found.push(Found { spec: spec.clone(), started, outdated });
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
            let (status, by_itself) = keep(child, process, asked).await;
            for reader in output.into_iter().flatten() {
                // A process of its own making may hold the pipe open: its output is not the replica's.
                let _ = tokio::time::timeout(OUTPUT_GRACE, reader).await;
            }
            report.send_replace(Some(Ended { exit: exit_of(status, &tail), by_itself }));
        });
        match address.await {
            Ok(addr) => Ok(Started { addr, process }),
            // Standard output ended without the line, and so has the process, or soon will.
            Err(_) => {
                let _ = kept.endings.try_send(Ending::Now);
                Err(ended(kept.ended).await.exit)
            }
        }
    }

    async fn exited(&self, name: &ReplicaName, incarnation: Incarnation) -> Exit {
        match self.get(name, incarnation) {
            Some(kept) => ended(kept.ended).await.exit,
            None => failure("no such process".to_owned(), vec![]),
        }
    }

    async fn end(
        &self,
        name: &ReplicaName,
        incarnation: Incarnation,
        ending: Ending,
    ) -> Option<Ended> {
        let kept = self.get(name, incarnation)?;
        // Full or closed: it is ending already.
        let _ = kept.endings.try_send(ending);
        let ended = ended(kept.ended).await;
        self.kept().remove(&(name.clone(), incarnation));
        Some(ended)
    }
}

/// Waits for the child's end, bringing it about when asked to. Answers whether it ended before it was asked to, too.
async fn keep(
    mut child: Child,
    process: Option<ProcessId>,
    mut endings: mpsc::Receiver<Ending>,
) -> (std::io::Result<ExitStatus>, bool) {
    let ending = tokio::select! {
        status = child.wait() => return (status, true),
        // Nobody is left who could ask for its end if this is closed: others keep the process now.
        Some(ending) = endings.recv() => ending,
    };
    // Both may have come true at once. Its id is its own until it is waited for.
    let by_itself = process.is_some_and(adopted::is_ending);
    (end(&mut child, ending).await, by_itself)
}

async fn end(child: &mut Child, ending: Ending) -> std::io::Result<ExitStatus> {
    if let Ending::Graceful(grace) = ending {
        terminate(child);
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

async fn ended(mut ended: watch::Receiver<Option<Ended>>) -> Ended {
    match ended.wait_for(Option::is_some).await.map(|it| it.clone()) {
        Ok(Some(ended)) => ended,
        Ok(None) | Err(_) => {
            let exit = failure("its keeper ended".to_owned(), vec![]);
            Ended { exit, by_itself: true }
        }
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
