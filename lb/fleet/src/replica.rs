//! [`Replica`]: what is known of one replica, and the [`Phase`] of its life that it is in.
//!
//! Only [`Fleet::step`](crate::Fleet::step) moves a replica from phase to phase.

mod change;

pub use self::change::{Cause, Change};
use crate::{Host, ReplicaName};
use std::{
    fmt,
    net::SocketAddr,
    time::{Instant, SystemTime},
};

/// One replica that the fleet keeps, or is about to part with.
#[derive(Clone, Debug, PartialEq)]
pub struct Replica {
    /// Its name, and its port where a client gave one; for life, whatever address it has.
    pub host: Host,
    /// The lowest positive integer that was free when it was added, or the one it had before its adoption; for
    /// life.
    pub number: u32,
    /// The latest start of it.
    pub incarnation: Incarnation,
    /// Where in its life it is.
    pub phase: Phase,
    /// Failures in a row, each before it had served for [`Limits::healthy_after`](crate::Limits::healthy_after).
    pub attempts: u32,
    /// Why its latest run failed, until the next run starts. Settled once that run is known to have stopped: a replica
    /// that seemed to hang may turn out to have exited.
    pub failure: Option<Cause>,
    /// The failed replica that it stands in for, until that one is gone.
    pub replaces: Option<ReplicaName>,
    /// How its latest run or start ended that is known to have ended.
    pub last_exit: Option<Exit>,
}

impl Replica {
    /// Its name.
    pub fn name(&self) -> &ReplicaName {
        &self.host.name
    }

    /// Whether it belongs to the wanted set: the ring has a place for it, even while it does not serve.
    pub fn is_wanted(&self) -> bool {
        match self.phase {
            Phase::Starting { .. } | Phase::Serving { .. } | Phase::Down { .. } => true,
            // One that restarts keeps its place, so that its keys come home.
            Phase::Draining { then, .. } => then == AfterDrain::Restart,
        }
    }
}

/// One start of a replica. News of an incarnation that is not the latest is ignored.
///
/// It grows with every start. A name that is given again goes on above the incarnations that have left the
/// fleet or were adopted by it, so late news of a removed replica is not taken for news of its namesake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(u64);

impl Incarnation {
    /// The one after this; the first of all is 1, after the default.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// As a number, for people and labels.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// As [`Incarnation::get`] gave it: from a label, or from the file of an earlier balancer.
impl From<u64> for Incarnation {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where in its life a replica is, with what is true only there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Asked for; it must answer a heartbeat before `deadline`.
    Starting {
        /// Where to send the heartbeats, once the provider has told.
        addr: Option<SocketAddr>,
        /// When the start counts as failed.
        deadline: Instant,
    },
    /// May be given requests.
    Serving {
        /// Where it listens.
        addr: SocketAddr,
        /// When it answered its first heartbeat.
        since: Instant,
        /// Heartbeats missed in a row, below `heartbeat_missed_max`.
        missed: u32,
    },
    /// Given no new requests; those in flight may end.
    Draining {
        /// Where it listens, if that was ever known.
        addr: Option<SocketAddr>,
        /// When it is stopped even if requests are in flight.
        until: Instant,
        /// What happens once it has stopped.
        then: AfterDrain,
        /// Whether its end was asked for, and only the confirmation is missing.
        stopping: bool,
    },
    /// Failed. It starts again when `retry_at` has passed *and* the old incarnation is known to have stopped,
    /// so a name never has two live incarnations.
    Down {
        /// The end of the back-off.
        retry_at: Instant,
        /// Whether the failed incarnation is known to have stopped.
        stopped: bool,
    },
}

impl Phase {
    /// The phase without its particulars.
    pub fn name(&self) -> PhaseName {
        match self {
            Self::Starting { .. } => PhaseName::Starting,
            Self::Serving { .. } => PhaseName::Serving,
            Self::Draining { .. } => PhaseName::Draining,
            Self::Down { .. } => PhaseName::Down,
        }
    }

    /// Where the replica listens, as far as that is known.
    pub fn addr(&self) -> Option<SocketAddr> {
        match *self {
            Self::Starting { addr, .. } | Self::Draining { addr, .. } => addr,
            Self::Serving { addr, .. } => Some(addr),
            Self::Down { .. } => None,
        }
    }

    /// When time alone moves a replica out of this phase, if it does.
    pub(crate) fn due(&self) -> Option<Instant> {
        match *self {
            Self::Starting { deadline, .. } => Some(deadline),
            Self::Draining { until, stopping, .. } => (!stopping).then_some(until),
            Self::Down { retry_at, stopped } => stopped.then_some(retry_at),
            Self::Serving { .. } => None,
        }
    }
}

/// What happens to a replica once it has drained and stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterDrain {
    /// It is gone.
    Remove,
    /// It starts anew under its name.
    Restart,
}

/// The name of a [`Phase`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PhaseName {
    /// [`Phase::Starting`]
    Starting,
    /// [`Phase::Serving`]
    Serving,
    /// [`Phase::Draining`]
    Draining,
    /// [`Phase::Down`]
    Down,
}

impl PhaseName {
    /// As in events, metrics and answers: `starting`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Down => "down",
        }
    }
}

/// How a run or a start of a replica ended, for people to read. The shell fills it; the fleet only keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit code, where there was one.
    pub code: Option<i32>,
    /// In words: `exit 1`, `killed by signal 9`.
    pub reason: String,
    /// The last lines that it logged.
    pub log: Vec<String>,
    /// When it ended.
    pub at: SystemTime,
}
