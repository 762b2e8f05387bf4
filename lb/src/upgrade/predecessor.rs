//! The process that this one is to take over from, if it was started for that.

use std::{
    env,
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, getppid};
use serde::de::DeserializeOwned;

use super::{
    channel::{FORMAT, Offer, PREDECESSOR, Word, line, receive_descriptors},
    version,
};
use crate::supervisor::Legacy;

/// How long the other process may be silent: it has gone wrong, and this one must not wait for ever.
const SILENCE_MAX: Duration = Duration::from_secs(3600);

/// The longest message, in bytes: thousands of replicas with long last words fit.
const MESSAGE_BYTES_MAX: u64 = 256 << 20;

/// It serves until it was told [`Predecessor::serving`].
pub(crate) struct Predecessor {
    stream: BufReader<UnixStream>,
    sockets: Vec<((String, SocketAddr), TcpListener)>,
    lock: Option<File>,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Predecessor {
    /// Takes what it offers, if there is such a process and it keeps the replicas of `cluster`.
    pub(crate) fn meet(cluster: &str) -> anyhow::Result<Option<Self>> {
        // Also in the environment of whatever that process has started, and of what this one starts.
        let is_parent = |pid: String| pid.parse() == Ok(getppid().as_raw());
        if !env::var(PREDECESSOR).is_ok_and(is_parent) {
            return Ok(None);
        }
        Self::of_stdin(cluster).context("taking over from the running balancer").map(Some)
    }

    fn of_stdin(cluster: &str) -> anyhow::Result<Self> {
        let mut stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        dup2_stdin(File::open("/dev/null")?)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.write_all(&line(&Word::Hello { format: FORMAT, version: version() })?)?;
        let mut fds = receive_descriptors(&stream)?.into_iter();
        let mut stream = BufReader::new(stream);
        let offer: Offer = receive(&mut stream)?;
        ensure!(
            offer.cluster == cluster,
            "cluster: it is {:?} there and {cluster:?} here; a cluster is renamed by a new start",
            offer.cluster
        );
        let mut next = || fds.next().context("it offers fewer descriptors than it says");
        let mut sockets = Vec::new();
        for socket in offer.sockets {
            sockets.push((socket, TcpListener::from(next()?)));
        }
        let (stdout, stderr) = (next()?, next()?);
        let lock = offer.has_lock.then(&mut next).transpose()?.map(File::from);
        Ok(Self { stream, sockets, lock, stdout, stderr })
    }

    /// The socket that listens on what the configuration calls `key`, if it is still the same address.
    pub(crate) fn socket(&mut self, key: &str, configured: SocketAddr) -> Option<TcpListener> {
        let offered = |(it, _): &((String, SocketAddr), _)| it.0 == key && it.1 == configured;
        let at = self.sockets.iter().position(offered)?;
        Some(self.sockets.swap_remove(at).1)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        getppid().as_raw().unsigned_abs()
    }

    /// That of the state file.
    pub(crate) fn lock(&mut self) -> Option<File> {
        self.lock.take()
    }

    /// Says that nothing is left that can fail, and waits for the replicas. From here on nobody else keeps them.
    pub(crate) fn legacy(&mut self) -> anyhow::Result<Legacy> {
        self.tell(&Word::Prepared)?;
        receive(&mut self.stream)
    }

    /// Says that this process serves, so that the other one may end.
    pub(crate) fn serving(mut self) -> io::Result<()> {
        io::stdout().flush()?;
        dup2_stdout(self.stdout.as_fd())?;
        dup2_stderr(self.stderr.as_fd())?;
        self.tell(&Word::Serving)
    }

    fn tell(&mut self, word: &Word) -> io::Result<()> {
        self.stream.get_mut().write_all(&line(word)?)
    }
}

fn receive<T: DeserializeOwned>(stream: &mut BufReader<UnixStream>) -> anyhow::Result<T> {
    let mut line = Vec::new();
    stream.by_ref().take(MESSAGE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if !line.ends_with(b"\n") {
        bail!("it went silent");
    }
    serde_json::from_slice(&line).context("it says what this version does not understand")
}
