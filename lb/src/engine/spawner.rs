//! The other side of [`Remote`](super::Remote): speaks to the engine for a balancer, and lets nothing through that the
//! [`Policy`] does not allow.
//!
//! A balancer is exposed to the network, and whoever can speak to the engine is root on its machine: so the spawner
//! trusts nothing that a balancer says. It holds no state but the orders that it is carrying out; killed at any moment
//! and started again, it goes on.

mod places;
mod policy;
mod socket;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde::Serialize;
use tokio::{
    io::{self, AsyncReadExt, AsyncWrite, BufReader},
    net::{UnixListener, UnixStream, unix::UCred},
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{error, warn};

use self::places::Places;
pub(crate) use self::{policy::Policy, socket::Socket};
use super::{
    Container, Engine, EngineError, Happening, Order,
    wire::{self, Answer, Request, Stream},
};

/// Connections at a time. Others wait in the socket's queue, whose length the kernel limits.
const CONNECTIONS_MAX: usize = 128;

/// Happenings that may wait for one connection; more make the engine's stream wait.
const HAPPENINGS_MAX: usize = 64;

/// Of a description of what is not a request, so that none fills a log.
const ERROR_CHARS_MAX: usize = 200;

/// The wait after a connection could not be taken, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Carries out what balancers ask for and may ask for.
pub(crate) struct Spawner {
    engine: Arc<dyn Engine>,
    policy: Policy,
    places: Places,
    /// The users that may ask.
    users: BTreeSet<u32>,
}

impl Spawner {
    pub(crate) fn new(engine: Arc<dyn Engine>, policy: Policy, users: BTreeSet<u32>) -> Self {
        let places = Places::new(policy.replicas_max);
        Self { engine, policy, places, users }
    }

    /// Answers whoever connects, until it is dropped, and every connection with it.
    pub(crate) async fn serve(self, listener: &UnixListener) {
        let spawner = Arc::new(self);
        let mut connections = JoinSet::new();
        loop {
            // Those that have ended make room.
            while connections.try_join_next().is_some() {}
            if connections.len() >= CONNECTIONS_MAX {
                connections.join_next().await;
            }
            match listener.accept().await {
                Ok((stream, _)) => {
                    let spawner = spawner.clone();
                    connections.spawn(async move { spawner.attend(stream).await });
                }
                Err(error) => {
                    error!(%error, "A connection cannot be taken");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// One connection, from the greeting to its end.
    async fn attend(&self, stream: UnixStream) {
        // The kernel knows it of every unix socket.
        let Ok(peer) = stream.peer_cred() else { return };
        let mut stream = BufReader::new(stream);
        if let Err(error) = self.converse(&mut stream, peer).await {
            warn!(uid = peer.uid(), pid = peer.pid(), %error, "A request was not carried out");
            // Who is gone does not miss it.
            let _ = say(&mut stream, &Answer::<()>::Err(error)).await;
        }
    }

    async fn converse(&self, stream: &mut Stream, peer: UCred) -> Answer<()> {
        let uid = peer.uid();
        if !self.users.contains(&uid) {
            return Err(EngineError::Refused(format!(
                "user {uid} may not ask here; allowed are: {} (--allow-uid)",
                self.users.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
            )));
        }
        say(stream, &Answer::Ok(wire::VERSION)).await?;
        let Some(request) = hear(stream).await? else { return Ok(()) };
        self.policy.check(&request).map_err(EngineError::Refused)?;
        let limit = request.timeout();
        match request {
            Request::Ensure(order) => {
                let container = within(limit, self.ensure(&order)).await?;
                say(stream, &Answer::Ok(container)).await
            }
            Request::Stop { cluster, name, incarnation, grace_ms } => {
                let grace = grace_ms.map(Duration::from_millis);
                let stopped = self.engine.stop(&cluster, &name, incarnation, grace);
                let end = within(limit, stopped).await?;
                say(stream, &Answer::Ok(end)).await
            }
            Request::Inspect { cluster } => {
                let containers = within(limit, self.engine.inspect(&cluster)).await?;
                say(stream, &Answer::Ok(containers)).await
            }
            Request::Logs { cluster, name, lines } => {
                let lines = within(limit, self.engine.logs(&cluster, &name, lines)).await?;
                say(stream, &Answer::Ok(lines)).await
            }
            Request::Claim { cluster, claim } => {
                let latest = within(limit, self.engine.claim(&cluster, claim.as_ref())).await?;
                say(stream, &Answer::Ok(latest)).await
            }
            Request::Release { cluster, session } => {
                within(limit, self.engine.release(&cluster, &session)).await?;
                say(stream, &Answer::Ok(())).await
            }
            Request::Events { cluster } => self.tell_events(stream, &cluster).await,
        }
    }

    async fn ensure(&self, order: &Order) -> Answer<Container> {
        let inspected = self.engine.inspect(&self.policy.cluster);
        let _place = self.places.take(&order.name, inspected).await?;
        self.engine.ensure(order).await
    }

    /// Until the balancer is gone: nothing may follow its request for events, so whatever is read is its end.
    async fn tell_events(&self, stream: &mut Stream, cluster: &str) -> Answer<()> {
        let (sender, happenings) = mpsc::channel(HAPPENINGS_MAX);
        let (mut input, output) = io::split(stream);
        tokio::select! {
            () = self.engine.events(cluster, sender) => {
                Err(EngineError::Failed("the engine tells no more events".to_owned()))
            }
            told = tell(happenings, output) => told,
            _ = input.read_u8() => Ok(()),
        }
    }
}

async fn tell(
    mut happenings: mpsc::Receiver<Happening>,
    mut output: impl AsyncWrite + Unpin,
) -> Answer<()> {
    loop {
        let happening = match timeout(wire::PULSE, happenings.recv()).await {
            Ok(None) => return Ok(()),
            Ok(happening) => happening,
            Err(_) => None,
        };
        say(&mut output, &Answer::Ok(happening)).await?;
    }
}

async fn say(output: &mut (impl AsyncWrite + Unpin), answer: &impl Serialize) -> Answer<()> {
    match timeout(wire::TALK_TIMEOUT, wire::say(output, answer)).await {
        Ok(said) => {
            said.map_err(|error| EngineError::Failed(format!("the answer was not taken: {error}")))
        }
        Err(_) => Err(EngineError::Failed(format!(
            "the answer was not taken within {} s",
            wire::TALK_TIMEOUT.as_secs()
        ))),
    }
}

async fn hear(stream: &mut Stream) -> Answer<Option<Request>> {
    match timeout(wire::TALK_TIMEOUT, wire::hear(stream, wire::REQUEST_MAX)).await {
        Ok(heard) => {
            heard.map_err(|error| EngineError::Refused(format!("not a request: {}", brief(&error))))
        }
        Err(_) => Err(EngineError::Refused(format!(
            "no request within {} s",
            wire::TALK_TIMEOUT.as_secs()
        ))),
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Answer<T>>) -> Answer<T> {
    timeout(limit, work).await.unwrap_or_else(|_| {
        Err(EngineError::Failed(format!("the engine did not do it within {} s", limit.as_secs())))
    })
}

/// An error of the parser names what it met, which may be as long as the line, and holds what may not be printed.
fn brief(error: &io::Error) -> String {
    error.to_string().escape_debug().take(ERROR_CHARS_MAX).collect()
}
