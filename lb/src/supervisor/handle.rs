//! How others reach the supervisor: a bounded inbox, and an answer for each question.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use ringmaster_fleet::{
    AddError, Exit, Host, Incarnation, PhaseName, Plan, RemoveError, ReplicaName, Table, TableError,
};
use tokio::sync::{mpsc, oneshot};

use super::legacy::Legacy;
use crate::{config::PoolConfig, events::Reloaded, routes::Pool};

/// A change of a pool's wanted set, as an operator asks for it.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// `n` more replicas; the names that `hosts` leaves open are generated.
    Add { n: usize, hosts: Vec<Host> },
    /// `n` fewer; the victims that `hosts` leaves open are picked.
    Remove { n: usize, hosts: Vec<Host> },
    /// Unroute, drain and start again under the same name.
    Restart { name: ReplicaName },
}

/// A pool at one moment.
#[derive(Clone, Debug)]
pub(crate) struct PoolView {
    pub(crate) name: Arc<str>,
    /// Grows with every change of the wanted set.
    pub(crate) version: u64,
    /// Who runs the replicas: `process`, `docker`, `swarm`, `fixed`.
    pub(crate) provider: &'static str,
    /// Why replicas can be neither started nor ended at present, if they cannot.
    pub(crate) trouble: Option<String>,
    /// In the order they were added.
    pub(crate) replicas: Vec<ReplicaView>,
    /// The slot table of the wanted set.
    pub(crate) table: Arc<Table>,
}

/// A replica at one moment.
#[derive(Clone, Debug)]
pub(crate) struct ReplicaView {
    pub(crate) host: Host,
    pub(crate) number: u32,
    pub(crate) phase: PhaseName,
    pub(crate) incarnation: Incarnation,
    pub(crate) addr: Option<SocketAddr>,
    /// The process that runs it, where there is one on this machine.
    pub(crate) pid: Option<u32>,
    pub(crate) in_flight: u32,
    /// Most requests it may have in flight by the bound on load as it stands; `None` without a bound.
    pub(crate) in_flight_max: Option<u32>,
    /// How much longer requests pass it over for what it did to others, if they do.
    pub(crate) ejected_for: Option<Duration>,
    /// Requests answered since the start of the balancer.
    pub(crate) requests: u64,
    /// Heartbeats missed in a row.
    pub(crate) missed: u32,
    /// Since it last began to serve.
    pub(crate) uptime: Option<Duration>,
    pub(crate) attempts: u32,
    pub(crate) retry_in: Option<Duration>,
    pub(crate) last_exit: Option<Exit>,
}

/// Why a question got no answer, or a change was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("no pool is called {0:?}; see /api/v1/pools")]
    UnknownPool(String),
    #[error(transparent)]
    Add(#[from] AddError),
    #[error(transparent)]
    Remove(#[from] RemoveError),
    /// The table cannot hold so many members.
    #[error(transparent)]
    Table(#[from] TableError),
    #[error("no replica is called {0}")]
    UnknownReplica(ReplicaName),
    /// The provider cannot run a replica of that name.
    #[error("{0}")]
    Refused(String),
    #[error("the fleet changed: its version is \"{have}\", not \"{expected}\"")]
    VersionChanged { expected: u64, have: u64 },
    /// What the change added did not start, and was taken back.
    #[error("{0}")]
    NotStarted(String),
    /// A pool that was dropped a moment ago still has replicas.
    #[error("pool {0} is still being emptied, since an earlier reload; try again")]
    Emptying(String),
    /// The balancers that share the pool could not agree on the change.
    #[error("the wanted set cannot be changed: {0}; try again")]
    NotAgreed(String),
    #[error("too many changes wait already; try again")]
    Busy,
    /// Changes wait for that; with what stands in the way, if anything is known to.
    #[error("replicas of an earlier balancer are still being looked for{}; try again", because(.0))]
    NotBegun(Option<String>),
    /// Another balancer keeps the replicas by now.
    #[error("{0}")]
    TakenOver(String),
    /// Something under way keeps the replicas from being handed over.
    #[error("{0}; try again once that is done")]
    Unsettled(String),
    #[error("the balancer is being upgraded; try again")]
    Upgrading,
    #[error("the balancer is shutting down")]
    Stopped,
}

fn because(reason: &Option<String>) -> String {
    reason.as_ref().map(|it| format!(": {it}")).unwrap_or_default()
}

/// What the supervisor is asked. Dropping the answer's receiver cancels nothing: a change goes on.
pub(crate) enum Ask {
    /// About one pool.
    Pool { pool: String, question: Question },
    /// About all of them.
    Reconfigure(Reconfigure),
    /// Stand still, so that another process can go on.
    Freeze(Freeze),
}

/// Called with what requests see of all pools, before any is let go.
pub(crate) type Publish = Box<dyn FnOnce(Vec<Arc<Pool>>) + Send>;

/// Go on with these pools and no others.
pub(crate) struct Reconfigure {
    pub(crate) pools: BTreeMap<String, PoolConfig>,
    /// Told as an event, once nothing stands in the way.
    pub(crate) reloaded: Reloaded,
    pub(crate) publish: Publish,
    pub(crate) answer: oneshot::Sender<Result<(), AskError>>,
}

/// Take no more changes, and stand still once none is under way.
pub(crate) struct Freeze {
    /// When to give up.
    pub(crate) until: Instant,
    pub(crate) answer: oneshot::Sender<Result<Frozen, AskError>>,
}

/// A supervisor that stands still: it starts nothing and ends nothing, and takes no changes. When this is dropped, it
/// goes on.
pub(crate) struct Frozen {
    pub(crate) legacy: Legacy,
    pub(super) leave: oneshot::Sender<()>,
}

impl Frozen {
    /// Another process keeps the replicas from now on: the supervisor never touches them again.
    pub(crate) fn leave(self) {
        // A supervisor that stands still ends only by this.
        let _ = self.leave.send(());
    }
}

/// What is asked; each kind carries the way back.
#[derive(Debug)]
pub(crate) enum Question {
    View(oneshot::Sender<Result<PoolView, AskError>>),
    Plan(Change, oneshot::Sender<Result<Planned, AskError>>),
    /// Answered when the change is true: added replicas serve, removed ones are gone.
    Apply {
        change: Change,
        /// The version that the caller saw, if it insists on it.
        expected: Option<u64>,
        answer: oneshot::Sender<Result<PoolView, AskError>>,
    },
}

impl Question {
    /// Answers with an error, whatever was asked.
    pub(super) fn refuse(self, error: AskError) {
        // Whoever asked may have gone away.
        match self {
            Self::View(answer) | Self::Apply { answer, .. } => drop(answer.send(Err(error))),
            Self::Plan(_, answer) => drop(answer.send(Err(error))),
        }
    }
}

/// What a change would do.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) version: u64,
    pub(crate) plan: Plan,
}

/// The supervisor's door. A full inbox answers [`AskError::Busy`] rather than making callers wait.
#[derive(Clone, Debug)]
pub(crate) struct Handle(mpsc::Sender<Ask>);

impl Handle {
    /// A handle and the inbox it fills; at most `capacity` questions wait.
    pub(crate) fn new(capacity: usize) -> (Self, mpsc::Receiver<Ask>) {
        let (sender, inbox) = mpsc::channel(capacity);
        (Self(sender), inbox)
    }

    /// The pool as it is.
    pub(crate) async fn view(&self, pool: &str) -> Result<PoolView, AskError> {
        self.ask(pool, Question::View).await
    }

    /// What `change` would move; changes nothing.
    pub(crate) async fn plan(&self, pool: &str, change: Change) -> Result<Planned, AskError> {
        self.ask(pool, |answer| Question::Plan(change, answer)).await
    }

    /// Makes `change`, waits until it is true, and answers with the pool as it then is.
    pub(crate) async fn apply(
        &self,
        pool: &str,
        change: Change,
        expected: Option<u64>,
    ) -> Result<PoolView, AskError> {
        self.ask(pool, |answer| Question::Apply { change, expected, answer }).await
    }

    /// Has the supervisor stand still once no change is under way, at the latest at `until`.
    pub(crate) async fn freeze(&self, until: Instant) -> Result<Frozen, AskError> {
        self.send(|answer| Ask::Freeze(Freeze { until, answer })).await
    }

    /// Goes on with `pools` and no others. If anything stands in the way of one, nothing is changed.
    pub(crate) async fn reconfigure(
        &self,
        pools: BTreeMap<String, PoolConfig>,
        reloaded: Reloaded,
        publish: Publish,
    ) -> Result<(), AskError> {
        self.send(|answer| Ask::Reconfigure(Reconfigure { pools, reloaded, publish, answer })).await
    }

    async fn ask<T>(
        &self,
        pool: &str,
        question: impl FnOnce(oneshot::Sender<Result<T, AskError>>) -> Question,
    ) -> Result<T, AskError> {
        self.send(|answer| Ask::Pool { pool: pool.to_owned(), question: question(answer) }).await
    }

    async fn send<T>(
        &self,
        ask: impl FnOnce(oneshot::Sender<Result<T, AskError>>) -> Ask,
    ) -> Result<T, AskError> {
        let (answer, receiver) = oneshot::channel();
        let ask = ask(answer);
        self.0.try_send(ask).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => AskError::Busy,
            mpsc::error::TrySendError::Closed(_) => AskError::Stopped,
        })?;
        receiver.await.map_err(|_| AskError::Stopped)?
    }
}
