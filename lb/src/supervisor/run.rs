//! One run of a replica, from its start to its end: the task that starts it, probes it and waits for its exit.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use ringmaster_fleet::{Event, Exit, Host, Incarnation, ReplicaName};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tracing::warn;

use crate::{
    config::HeartbeatConfig,
    heartbeat::{Beat, Pulse},
    provider::{AgreeError, Ended, Ending, Found, Provider, Remembered, Spec, Started, Wanted},
    suspicion::Suspicions,
};

/// Between two looks for the replicas of an earlier balancer.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// What a task tells the supervisor.
#[derive(Debug)]
pub(crate) struct News {
    /// Which pool, by its number.
    pub(crate) pool: usize,
    pub(crate) what: What,
}

/// The content of [`News`].
#[derive(Debug)]
pub(crate) enum What {
    /// A replica was started.
    Started { name: ReplicaName, incarnation: Incarnation, started: Started },
    /// A heartbeat was due.
    Beat { name: ReplicaName, incarnation: Incarnation, beat: Beat },
    /// Nothing runs any more of an incarnation whose end was asked for: `exit` is how it was made to end, where that is
    /// known, and `removed` whether nothing is left of its replica.
    Ended { name: ReplicaName, incarnation: Incarnation, exit: Option<Exit>, removed: bool },
    /// The provider has looked for the replicas of an earlier balancer.
    Found(Vec<Found>),
    /// Several balancers have agreed on a wanted set; at the begin, with what runs of it.
    Wanted(Wanted, Vec<Found>),
    /// What has become of a proposal for the wanted set.
    Agreed(Result<Wanted, AgreeError>),
    /// Anything that the fleet alone needs to know.
    Event(Event),
}

/// The way for a pool's tasks to the supervisor.
#[derive(Clone, Debug)]
pub(super) struct Reporter {
    pub(super) pool: usize,
    pub(super) news: mpsc::Sender<News>,
}

impl Reporter {
    /// Looks for what an earlier balancer left, until the provider can say, and reports it.
    pub(super) fn look(self, provider: Arc<dyn Provider>, remembered: Vec<Remembered>) {
        tokio::spawn(async move {
            let found = find(&*provider, &remembered).await;
            self.tell(What::Found(found)).await;
        });
    }

    /// Reports each wanted set that several balancers agree on, for as long as the supervisor lives.
    pub(super) fn follow(self, provider: Arc<dyn Provider>) {
        tokio::spawn(async move {
            let mut wanted = provider.agreed(None).await;
            let mut running = find(&*provider, &[]).await;
            loop {
                let version = wanted.version;
                if !self.tell(What::Wanted(wanted, std::mem::take(&mut running))).await {
                    return;
                }
                wanted = provider.agreed(Some(version)).await;
            }
        });
    }

    /// Proposes a wanted set in place of that of version `base`, and reports what has become of it; if nobody waits
    /// for it, over failures.
    pub(super) fn agree(
        self,
        provider: Arc<dyn Provider>,
        base: u64,
        replicas: BTreeMap<u32, Host>,
        nobody_waits: bool,
    ) {
        tokio::spawn(async move {
            let mut result = provider.agree(base, replicas.clone()).await;
            while let (Err(AgreeError::Failed(error)), true) = (&result, nobody_waits) {
                warn!(%error, retry_in = ?LOOK_PAUSE, "The wanted set cannot be changed");
                tokio::time::sleep(LOOK_PAUSE).await;
                result = provider.agree(base, replicas.clone()).await;
            }
            self.tell(What::Agreed(result)).await;
        });
    }

    /// False when the supervisor has ended.
    async fn tell(&self, what: impl Into<What>) -> bool {
        self.news.send(News { pool: self.pool, what: what.into() }).await.is_ok()
    }
}

/// Asks until the provider can say: to start replicas without knowing which run would be to start them twice.
async fn find(provider: &dyn Provider, remembered: &[Remembered]) -> Vec<Found> {
    loop {
        match provider.find(remembered).await {
            Ok(found) => return found,
            Err(error) => warn!(%error, retry_in = ?LOOK_PAUSE, "Replicas cannot be looked for"),
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// How a run ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunEnding {
    pub(super) ending: Ending,
    /// Whether its replica is no longer wanted, and goes with it.
    pub(super) remove: bool,
}

/// A run under way.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) incarnation: Incarnation,
    /// `None` while it starts.
    pub(super) started: Option<Started>,
    /// Its last sign of life.
    pub(super) answered_at: Option<Instant>,
    /// Raised by requests that it failed.
    pub(super) suspicions: Arc<Suspicions>,
    task: JoinHandle<()>,
}

impl Run {
    /// Starts the replica, unless it was `started` already, and watches it until [`Self::end`].
    pub(super) fn begin(
        provider: Arc<dyn Provider>,
        spec: Spec,
        started: Option<Started>,
        heartbeat: watch::Receiver<HeartbeatConfig>,
        reporter: Reporter,
    ) -> Self {
        let suspicions = Arc::<Suspicions>::default();
        let incarnation = spec.incarnation;
        let run = follow(provider, spec, started, heartbeat, suspicions.clone(), reporter);
        let task = tokio::spawn(run);
        Self { incarnation, started, answered_at: None, suspicions, task }
    }

    /// Ends the replica in a task of its own, which reports [`What::Ended`]; before that its exit, if it had ended by
    /// itself: heartbeats may have noticed that before the provider told of it.
    ///
    /// The watch has ended before anything else happens, so no other news of this run comes after that.
    pub(super) fn end(
        run: Option<Self>,
        provider: Arc<dyn Provider>,
        (name, incarnation): (ReplicaName, Incarnation),
        RunEnding { ending, remove }: RunEnding,
        reporter: Reporter,
    ) {
        tokio::spawn(async move {
            if let Some(run) = run {
                run.task.abort();
                // Cancelled, or at its end already: either way it is over.
                let _ = run.task.await;
            }
            let ended = provider.end(&name, incarnation, ending).await;
            let exit = match (ended, ending) {
                (Some(Ended { exit, by_itself: true }), Ending::Now) => {
                    let name = name.clone();
                    reporter.tell(Event::Exited { name, incarnation, exit }).await;
                    None
                }
                (Some(Ended { exit, by_itself: false }), Ending::Now) => Some(exit),
                // It ended in good order, which says nothing about a failure.
                (_, Ending::Graceful(_)) | (None, Ending::Now) => None,
            };
            if remove {
                provider.remove(&name).await;
            }
            reporter.tell(What::Ended { name, incarnation, exit, removed: remove }).await;
        });
    }
}

async fn follow(
    provider: Arc<dyn Provider>,
    spec: Spec,
    started: Option<Started>,
    mut heartbeat: watch::Receiver<HeartbeatConfig>,
    suspicions: Arc<Suspicions>,
    reporter: Reporter,
) {
    let (name, incarnation) = (spec.host.name.clone(), spec.incarnation);
    let started = match started {
        Some(started) => started,
        None => match provider.spawn(&spec).await {
            Ok(started) => {
                let name = name.clone();
                reporter.tell(What::Started { name, incarnation, started }).await;
                started
            }
            Err(exit) => {
                reporter.tell(Event::SpawnFailed { name, incarnation, exit }).await;
                return;
            }
        },
    };
    let beats = async {
        loop {
            let config = heartbeat.borrow_and_update().clone();
            let mut pulse = Pulse::new(started.addr, &config, &suspicions);
            while matches!(heartbeat.has_changed(), Ok(false)) {
                let beat = pulse.beat().await;
                if !reporter.tell(What::Beat { name: name.clone(), incarnation, beat }).await {
                    return;
                }
            }
            // The keeper is gone, and nobody listens any more.
            if heartbeat.has_changed().is_err() {
                return;
            }
        }
    };
    tokio::select! {
        exit = provider.exited(&name, incarnation) => {
            let name = name.clone();
            reporter.tell(Event::Exited { name, incarnation, exit }).await;
        }
        () = beats => {}
    }
}
