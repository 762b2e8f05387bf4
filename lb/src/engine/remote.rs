//! The engine behind a `ringmaster spawner`: the seven verbs as requests over its unix socket.
//!
//! Each call has a connection and a deadline of its own. So a spawner that was restarted is found again, and one that
//! hangs holds nobody for ever.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use tokio::{
    io::BufReader,
    net::UnixStream,
    sync::{Semaphore, mpsc},
    time::{Instant, sleep, timeout},
};
use tracing::warn;

use super::{
    Claim, Claims, Container, End, Engine, EngineError, Happening, Order,
    wire::{self, Answer, Request, Stream},
};

/// Calls at a time; others wait. A spawner takes four times as many connections.
const CALLS_MAX: usize = 32;

/// The waits between attempts to hear events: they double from the first to the second.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// A spawner, by its socket.
pub(crate) struct Remote {
    path: PathBuf,
    calls: Semaphore,
}

impl Remote {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), calls: Semaphore::new(CALLS_MAX) }
    }

    async fn call<T: DeserializeOwned>(&self, request: Request) -> Answer<T> {
        let _turn = self.calls.acquire().await.expect("the semaphore is never closed");
        let mut stream = self.ask(&request).await?;
        // The spawner gives up first, and says of what.
        let limit = request.timeout() + wire::TALK_TIMEOUT;
        self.within(limit, self.hear(&mut stream)).await
    }

    /// Connects, and makes a request.
    async fn ask(&self, request: &Request) -> Answer<Stream> {
        let asking = async {
            let stream = UnixStream::connect(&self.path).await;
            let mut stream = BufReader::new(stream.map_err(|error| self.absent(&error))?);
            let version: u32 = self.hear(&mut stream).await?;
            if version != wire::VERSION {
                return Err(EngineError::Failed(format!(
                    "the spawner at {} speaks version {version}, this balancer {}: \
                     run the same ringmaster on both sides",
                    self.path.display(),
                    wire::VERSION
                )));
            }
            wire::say(&mut stream, request).await.map_err(|error| self.lost(&error))?;
            Ok(stream)
        };
        self.within(wire::TALK_TIMEOUT, asking).await
    }

    async fn hear<T: DeserializeOwned>(&self, stream: &mut Stream) -> Answer<T> {
        match wire::hear(stream, wire::ANSWER_MAX).await {
            Ok(Some(answer)) => answer,
            Ok(None) => Err(self.lost(&io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(self.lost(&error)),
        }
    }

    async fn within<T>(
        &self,
        limit: Duration,
        answer: impl Future<Output = Answer<T>>,
    ) -> Answer<T> {
        timeout(limit, answer).await.unwrap_or_else(|_| {
            Err(EngineError::Unreachable(format!(
                "the spawner at {} has not answered within {} s; does it hang?",
                self.path.display(),
                limit.as_secs()
            )))
        })
    }

    /// Reports what happens until the connection breaks, or nobody listens.
    async fn listen(&self, cluster: &str, happenings: &mpsc::Sender<Happening>) -> Answer<()> {
        let mut stream = self.ask(&Request::Events { cluster: cluster.to_owned() }).await?;
        loop {
            let happening = self.within(wire::PULSE * 3, self.hear(&mut stream)).await?;
            if let Some(happening) = happening
                && happenings.send(happening).await.is_err()
            {
                return Ok(());
            }
        }
    }

    async fn keep_listening(&self, cluster: &str, happenings: &mpsc::Sender<Happening>) {
        let mut backoff = BACKOFF_MIN;
        loop {
            let began = Instant::now();
            let Err(error) = self.listen(cluster, happenings).await else { return };
            if began.elapsed() > BACKOFF_MAX {
                backoff = BACKOFF_MIN;
            }
            warn!(cluster, %error, retry_in = ?backoff, "The spawner's events are not heard");
            if happenings.send(Happening::Lost(error)).await.is_err() {
                return;
            }
            sleep(backoff).await;
            backoff = BACKOFF_MAX.min(backoff * 2);
        }
    }

    fn absent(&self, error: &io::Error) -> EngineError {
        let path = self.path.display();
        EngineError::Unreachable(match error.kind() {
            io::ErrorKind::PermissionDenied => format!(
                "no permission to speak to the spawner at {path}: run as the same user, or start it with \
                 --socket-group and --allow-uid"
            ),
            kind => format!(
                "no spawner answers at {path} ({kind}): is `ringmaster spawner` running? \
                 docker.spawner must be its --socket"
            ),
        })
    }

    fn lost(&self, error: &io::Error) -> EngineError {
        let path = self.path.display();
        EngineError::Unreachable(format!(
            "lost the spawner at {path}: {error}; its log may say why"
        ))
    }
}

#[async_trait]
impl Claims for Remote {
    async fn claim(
        &self,
        cluster: &str,
        claim: Option<&Claim>,
    ) -> Result<Option<Claim>, EngineError> {
        let (cluster, claim) = (cluster.to_owned(), claim.cloned());
        self.call(Request::Claim { cluster, claim }).await
    }

    async fn release(&self, cluster: &str, session: &str) -> Result<(), EngineError> {
        let (cluster, session) = (cluster.to_owned(), session.to_owned());
        self.call(Request::Release { cluster, session }).await
    }
}

#[async_trait]
impl Engine for Remote {
    async fn ensure(&self, order: &Order) -> Result<Container, EngineError> {
        self.call(Request::Ensure(order.clone())).await
    }

    async fn stop(
        &self,
        cluster: &str,
        name: &str,
        incarnation: u64,
        grace: Option<Duration>,
    ) -> Result<Option<End>, EngineError> {
        let grace_ms = grace.map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX));
        let (cluster, name) = (cluster.to_owned(), name.to_owned());
        self.call(Request::Stop { cluster, name, incarnation, grace_ms }).await
    }

    async fn inspect(&self, cluster: &str) -> Result<Vec<Container>, EngineError> {
        self.call(Request::Inspect { cluster: cluster.to_owned() }).await
    }

    async fn logs(
        &self,
        cluster: &str,
        name: &str,
        lines: usize,
    ) -> Result<Vec<String>, EngineError> {
        let (cluster, name) = (cluster.to_owned(), name.to_owned());
        self.call(Request::Logs { cluster, name, lines }).await
    }

    /// Each stream of the spawner's engine begins with a gap, which is passed on.
    async fn events(&self, cluster: &str, happenings: mpsc::Sender<Happening>) {
        tokio::select! {
            () = happenings.closed() => {}
            () = self.keep_listening(cluster, &happenings) => {}
        }
    }
}
