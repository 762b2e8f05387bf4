//! One balancer keeps a cluster on an engine: it holds the latest claim there, and others keep their hands off (ADR-0016).
//!
//! A holder renews its claim by the next generation. A balancer that wants the cluster finds out whether the holder still runs:
//! on the same machine from its process, elsewhere from whether the generation grows. Generations are created, never
//! changed, so of two that create the same one the engine tells who was first: there are no clocks to compare.
//!
//! Invariant: a balancer touches no container of the cluster before it holds it, or after it has lost it.

mod holder;
mod holds;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, Notify},
    time::{Instant, sleep, timeout},
};
use tracing::{error, info, warn};

use self::holder::{Verdict, judge, this_process};
pub(crate) use self::holds::Holds;
use super::{Claim, Claims, EngineError, Holder};

/// How often a claim is renewed.
const BEAT: Duration = Duration::from_secs(5);

/// A claim that was not renewed for this long is stale, if nothing else says whether its holder runs.
const STALE: Duration = Duration::from_secs(15);

/// Between two looks at a claim that may be stale.
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// How long an end may take to let go of the engine.
const RELEASE_PATIENCE: Duration = Duration::from_secs(2);

/// The process that begins to hold clusters, and how it does so.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) admin: SocketAddr,
    /// When it began, for people.
    pub(crate) since: String,
    /// The process that hands over to this one.
    pub(crate) predecessor: Option<u32>,
    /// Whether a holder that runs is replaced.
    pub(crate) take_over: bool,
}

/// Why a cluster is not held.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HoldError {
    /// Another balancer holds it.
    #[error("{0}")]
    Held(String),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// The hold of this balancer on its cluster on one engine.
pub(crate) struct Hold {
    cluster: String,
    origin: Origin,
    state: Mutex<State>,
    /// Held while claims are added and removed.
    claiming: AsyncMutex<()>,
    renewing: Once,
    /// Notified to have the claim renewed at once.
    is_due: Notify,
    /// What a claim says of this balancer.
    holder: Mutex<Holder>,
}

/// Where a hold is in its life. [`State::Lost`] and [`State::Left`] are final.
#[derive(Clone, Debug)]
enum State {
    /// Not held yet; why, if it was tried.
    Free(Option<String>),
    Held {
        generation: u64,
    },
    /// To another balancer, in one line.
    Lost(String),
    /// Another process of this balancer has it, or none: it ends.
    Left,
}

impl Hold {
    pub(crate) fn new(cluster: &str, origin: Origin) -> Self {
        let holder = this_process(&origin);
        Self {
            cluster: cluster.to_owned(),
            origin,
            state: Mutex::new(State::Free(None)),
            claiming: AsyncMutex::default(),
            renewing: Once::new(),
            is_due: Notify::new(),
            holder: Mutex::new(holder),
        }
    }

    /// Takes the cluster unless it is held; a holder that has ended is replaced.
    pub(crate) async fn acquire(&self, engine: &dyn Claims) -> Result<(), HoldError> {
        let _turn = self.claiming.lock().await;
        match self.state() {
            State::Held { .. } => return Ok(()),
            State::Lost(reason) => return Err(HoldError::Held(reason)),
            State::Left => return Err(HoldError::Held("this balancer ends".to_owned())),
            State::Free(_) => {}
        }
        let acquired = self.compete(engine).await;
        let state = match &acquired {
            Ok(generation) => State::Held { generation: *generation },
            Err(error) => State::Free(Some(error.to_string())),
        };
        self.step(state);
        acquired.map(drop)
    }

    /// The generation of the claim that was won.
    async fn compete(&self, engine: &dyn Claims) -> Result<u64, HoldError> {
        let mut seen: Option<(u64, Instant)> = None;
        let mut latest = engine.claim(&self.cluster, None).await?;
        loop {
            if let Some(Claim { generation, holder }) = &latest {
                let verdict = self.judge(holder);
                match verdict {
                    Verdict::Same => self.continue_session(holder),
                    Verdict::Ended => {}
                    _ if self.origin.take_over => {
                        warn!(cluster = self.cluster, holder = %describe(holder), "Taking the cluster over");
                    }
                    Verdict::Runs => return Err(self.held(holder)),
                    Verdict::Unknown => match seen {
                        Some((then, _)) if then != *generation => return Err(self.held(holder)),
                        Some((_, since)) if since.elapsed() >= STALE => {
                            warn!(cluster = self.cluster, holder = %describe(holder), "Taking over a stale claim");
                        }
                        Some(_) => {
                            sleep(LOOK_PAUSE).await;
                            latest = engine.claim(&self.cluster, None).await?;
                            continue;
                        }
                        None => {
                            info!(
                                cluster = self.cluster,
                                holder = %describe(holder),
                                stale_after = ?STALE,
                                "Waiting whether the holder of the cluster renews its claim"
                            );
                            seen = Some((*generation, Instant::now()));
                            continue;
                        }
                    },
                }
            }
            let generation = next(latest.as_ref().map_or(0, |it| it.generation))?;
            let mine = Claim { generation, holder: self.holder().clone() };
            latest = engine.claim(&self.cluster, Some(&mine)).await?;
            if let Some(Claim { generation, holder }) = &latest
                && holder.session == mine.holder.session
            {
                return Ok(*generation);
            }
            // Another balancer was faster, or the claim was removed.
            seen = None;
            sleep(LOOK_PAUSE).await;
        }
    }

    /// Whether containers may be touched; else why not.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        match self.state() {
            State::Held { .. } => Ok(()),
            State::Free(reason) => Err(EngineError::Refused(
                reason.unwrap_or_else(|| format!("cluster {} is not held yet", self.cluster)),
            )),
            State::Lost(reason) => Err(EngineError::Refused(reason)),
            State::Left => Err(EngineError::Refused("this balancer ends".to_owned())),
        }
    }

    /// Why containers may not be touched, if that was found out.
    pub(crate) fn trouble(&self) -> Option<String> {
        match self.state() {
            State::Held { .. } | State::Left => None,
            State::Free(reason) => reason,
            State::Lost(reason) => Some(reason),
        }
    }

    /// The balancer that has taken the cluster over, if one has.
    pub(crate) fn lost(&self) -> Option<String> {
        match self.state() {
            State::Lost(reason) => Some(reason),
            State::Free(_) | State::Held { .. } | State::Left => None,
        }
    }

    /// Renews the claim from now on, until it is lost or let go.
    pub(crate) fn keep(self: &Arc<Self>, engine: Arc<dyn Claims>) {
        self.renewing.call_once(|| {
            let this = self.clone();
            tokio::spawn(async move {
                while matches!(this.state(), State::Held { .. }) {
                    // An error means that the time has passed.
                    let _ = timeout(BEAT, this.is_due.notified()).await;
                    this.renew(&*engine).await;
                }
            });
        });
    }

    async fn renew(&self, engine: &dyn Claims) {
        let _turn = self.claiming.lock().await;
        let State::Held { generation } = self.state() else { return };
        let Ok(generation) = next(generation) else { return };
        let mine = Claim { generation, holder: self.holder().clone() };
        match engine.claim(&self.cluster, Some(&mine)).await {
            Ok(Some(Claim { generation, holder })) if holder.session == mine.holder.session => {
                self.step(State::Held { generation });
            }
            Ok(Some(Claim { holder, .. })) => {
                let reason = format!(
                    "cluster {} was taken over by another balancer: {}; this one leaves its replicas alone: end it, or \
                     give it another `cluster`",
                    self.cluster,
                    describe(&holder)
                );
                error!("{reason}");
                self.step(State::Lost(reason));
            }
            // Removed by hand in this moment: the next time will do.
            Ok(None) => {}
            // The task that listens to the engine reports the trouble.
            Err(error) => info!(cluster = self.cluster, %error, "The claim was not renewed"),
        }
    }

    /// Leaves the hold to the process that has taken over.
    fn leave(&self) {
        self.step(State::Left);
    }

    /// Lets go, so that the next balancer finds the cluster free and no network that nobody uses.
    async fn release(&self, engine: &dyn Claims) {
        if !matches!(self.state(), State::Held { .. }) {
            return;
        }
        self.step(State::Left);
        let session = self.holder().session.clone();
        let released = async {
            let _turn = self.claiming.lock().await;
            engine.release(&self.cluster, &session).await
        };
        match timeout(RELEASE_PATIENCE, released).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(cluster = self.cluster, %error, "The claim was not released"),
            Err(_) => warn!(cluster = self.cluster, "The claim was not released in time"),
        }
    }

    fn judge(&self, holder: &Holder) -> Verdict {
        judge(&self.holder(), holder, self.origin.predecessor, holder::is_running)
    }

    /// Goes on as the balancer that `holder` is a process of.
    fn continue_session(&self, holder: &Holder) {
        let mut mine = self.holder();
        mine.session.clone_from(&holder.session);
        mine.since.clone_from(&holder.since);
    }

    fn held(&self, holder: &Holder) -> HoldError {
        HoldError::Held(format!(
            "cluster {} is held by another balancer on this engine: {}; end that one, give this one another \
             `cluster`, or start it with --take-over",
            self.cluster,
            describe(holder)
        ))
    }

    fn state(&self) -> State {
        lock(&self.state).clone()
    }

    /// Final states stay.
    fn step(&self, next: State) {
        let mut state = lock(&self.state);
        if !matches!(*state, State::Lost(_) | State::Left) {
            *state = next;
        }
    }

    fn holder(&self) -> MutexGuard<'_, Holder> {
        lock(&self.holder)
    }
}

/// The holder as people know it.
fn describe(holder: &Holder) -> String {
    let Holder { pid, host, admin, since, .. } = holder;
    format!("process {pid} on {host}, admin {admin}, since {since}")
}

fn next(generation: u64) -> Result<u64, EngineError> {
    let end = || EngineError::Refused("there is no generation after the latest claim".to_owned());
    generation.checked_add(1).ok_or_else(end)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it guards is whole between any two calls, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
