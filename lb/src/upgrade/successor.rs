//! The new process, as the old one sees it: a child that must prove itself before it is given the replicas.

use std::{
    ffi::OsString,
    fmt,
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream as StdUnixStream,
    },
    path::Path,
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWriteExt, BufReader, Interest},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    process::{Child, Command},
    task::JoinHandle,
    time::timeout,
};
use tracing::info;

use super::{
    Sockets,
    channel::{FORMAT, Offer, PREDECESSOR, Word, line, send_descriptors},
};
use crate::{
    supervisor::Legacy,
    systemd,
    tail::{self, Tail},
};

/// How long a process that has closed its channel may take to end, and its output to be read.
const END_GRACE: Duration = Duration::from_secs(1);

/// What went wrong with it.
#[derive(Debug)]
pub(crate) enum Fault {
    NotStarted(String),
    /// It has closed its end.
    Silent,
    /// Not within this time.
    Late(Duration),
    /// It speaks, but not as it must.
    Foreign(String),
    /// Any of these, with its last words.
    Explained(String),
}

impl Fault {
    /// With how the process ended, and its last words.
    pub(super) fn explained(self, end: End) -> Self {
        let End { status, last_words } = end;
        let ended = match (&self, status) {
            (Self::Silent, Some(status)) => {
                format!("the new process ended before it had taken over ({status})")
            }
            _ => self.to_string(),
        };
        Self::Explained(match last_words {
            Some(words) => format!("{ended}; its last words: {words}"),
            None => format!("{ended}; it printed nothing"),
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted(reason) | Self::Explained(reason) => f.write_str(reason),
            Self::Silent => f.write_str("the new process went silent before it had taken over"),
            Self::Late(patience) => {
                write!(f, "the new process did not take over within {} s", patience.as_secs())
            }
            Self::Foreign(reason) => write!(f, "the new process cannot take over: {reason}"),
        }
    }
}

impl From<io::Error> for Fault {
    /// Of the channel: whatever it is, the other end is no longer there.
    fn from(_: io::Error) -> Self {
        Self::Silent
    }
}

/// How it ended.
pub(super) struct End {
    /// `None` if it had to be killed.
    status: Option<String>,
    last_words: Option<String>,
}

/// A process that is to take over.
pub(super) struct Successor {
    child: Child,
    pid: u32,
    words: BufReader<OwnedReadHalf>,
    channel: OwnedWriteHalf,
    tail: Tail,
    output: Vec<JoinHandle<()>>,
}

impl Successor {
    /// Starts it with the arguments of this process.
    pub(super) fn start(program: &Path, arguments: &[OsString]) -> Result<Self, Fault> {
        let not_started =
            |error| Fault::NotStarted(format!("cannot start {}: {error}", program.display()));
        let (ours, theirs) = StdUnixStream::pair().map_err(not_started)?;
        ours.set_nonblocking(true).map_err(not_started)?;
        let (words, channel) = UnixStream::from_std(ours).map_err(not_started)?.into_split();
        let mut command = Command::new(program);
        for variable in systemd::not_inherited(true) {
            command.env_remove(variable);
        }
        let mut child = command
            .args(arguments)
            .env(PREDECESSOR, std::process::id().to_string())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(not_started)?;
        let pid = child.id().expect("a child that was not waited for has an id");
        let tail = Tail::default();
        let mut output = Vec::new();
        output.extend(child.stdout.take().map(|it| tokio::spawn(follow(it, tail.clone()))));
        output.extend(child.stderr.take().map(|it| tokio::spawn(follow(it, tail.clone()))));
        Ok(Self { child, pid, words: BufReader::new(words), channel, tail, output })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until it says which version it is.
    pub(super) async fn hello(&mut self) -> Result<String, Fault> {
        match self.hear().await? {
            Word::Hello { format: FORMAT, version } => Ok(version),
            Word::Hello { format, version } => Err(Fault::Foreign(format!(
                "{version} hands over in format {format}, this one in format {FORMAT}; a new start is needed"
            ))),
            word => Err(Fault::Foreign(format!("it begins with {word:?}"))),
        }
    }

    /// Lends it what it needs to prepare itself.
    pub(super) async fn offer(
        &mut self,
        cluster: &str,
        sockets: &Sockets,
        lock: Option<File>,
    ) -> Result<(), Fault> {
        let offer = {
            let sockets = sockets.lock();
            let (stdout, stderr) = (io::stdout(), io::stderr());
            let listeners = sockets.iter().map(|it| it.listener.as_fd());
            let output = [stdout.as_fd(), stderr.as_fd()];
            let fds: Vec<BorrowedFd<'_>> =
                listeners.chain(output).chain(lock.as_ref().map(AsFd::as_fd)).collect();
            // A fresh socket has room for this, so that there is nothing to wait for.
            self.channel
                .as_ref()
                .try_io(Interest::WRITABLE, || send_descriptors(self.channel.as_ref(), &fds))?;
            Offer {
                cluster: cluster.to_owned(),
                sockets: sockets.iter().map(|it| (it.key.to_owned(), it.configured)).collect(),
                has_lock: lock.is_some(),
            }
        };
        self.channel.write_all(&line(&offer)?).await?;
        Ok(())
    }

    /// Waits until it has prepared what can fail.
    pub(super) async fn prepared(&mut self) -> Result<(), Fault> {
        self.expect(Word::Prepared).await
    }

    /// Gives it the replicas, and waits until it serves.
    pub(super) async fn hand_over(&mut self, legacy: &Legacy) -> Result<(), Fault> {
        self.channel.write_all(&line(legacy)?).await?;
        self.expect(Word::Serving).await
    }

    /// Makes sure that it has ended; one that `is_ending` may still say why.
    pub(super) async fn end(mut self, is_ending: bool) -> End {
        let grace = if is_ending { END_GRACE } else { Duration::ZERO };
        let by_itself = match timeout(grace, self.child.wait()).await {
            Ok(status) => status.ok(),
            Err(_) => {
                // Fails only for a child that has ended, which is what is wanted.
                let _ = self.child.start_kill();
                let _ = self.child.wait().await;
                None
            }
        };
        for mut reader in self.output {
            // A process of its own making may hold the pipe open, and write to it without end.
            if timeout(END_GRACE, &mut reader).await.is_err() {
                reader.abort();
            }
        }
        let mut lines = self.tail.lines();
        lines.retain(|line| !line.trim().is_empty());
        End { status: by_itself.map(|it| it.to_string()), last_words: lines.pop() }
    }

    async fn expect(&mut self, expected: Word) -> Result<(), Fault> {
        let word = self.hear().await?;
        if word == expected {
            return Ok(());
        }
        Err(Fault::Foreign(format!("it says {word:?} where {expected:?} was due")))
    }

    async fn hear(&mut self) -> Result<Word, Fault> {
        let mut line = Vec::new();
        if !tail::read_line(&mut self.words, &mut line).await {
            return Err(Fault::Silent);
        }
        serde_json::from_slice(&line).map_err(|error| Fault::Foreign(error.to_string()))
    }
}

/// Keeps its last lines, and passes all of them on.
async fn follow(output: impl AsyncRead + Unpin, tail: Tail) {
    let mut lines = BufReader::new(output);
    let mut line = Vec::new();
    while tail::read_line(&mut lines, &mut line).await {
        let text = String::from_utf8_lossy(&line);
        info!(line = %text, "The new process says");
        tail.push(&text);
    }
}
