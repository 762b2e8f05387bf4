//! How a story is told: a fleet, a clock that starts at 0 ms, and short words for events and commands.

use ringmaster_fleet::{
    Cause, Change, Command, Event, Exit, Fleet, Host, Incarnation, Limits, Phase, PhaseName,
    Replica, ReplicaName,
};
use std::{
    net::SocketAddr,
    sync::LazyLock,
    time::{Duration, Instant, SystemTime},
};

/// No jitter to reckon with: the back-off's least is its most, unless a story says otherwise.
pub(crate) fn limits() -> Limits {
    Limits { backoff_min: ms(200), backoff_max: ms(200), ..Limits::default() }
}

pub(crate) struct Story {
    pub(crate) fleet: Fleet,
}

impl Story {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { fleet: Fleet::new(limits, 7) }
    }

    /// A fleet in which these replicas were added and serve since 0 ms.
    pub(crate) fn serving(limits: Limits, names: &[&str]) -> Self {
        let mut story = Self::new(limits);
        story.step(0, add(names));
        for name in names {
            story.start(0, name, 1);
        }
        story
    }

    /// What the fleet commands when `event` happens at `at` milliseconds.
    pub(crate) fn step(&mut self, at: u64, event: Event) -> Vec<Command> {
        self.fleet.step(time(at), event)
    }

    /// Lets a start succeed.
    pub(crate) fn start(&mut self, at: u64, name: &str, incarnation: u64) {
        assert_eq!(self.step(at, spawned(name, incarnation)), []);
        let serves = announce(name, incarnation, Some(Starting), Some(Serving), Cause::Answered);
        assert_eq!(self.step(at, answered(name, incarnation)), [serves]);
    }

    pub(crate) fn replica(&self, name: &str) -> &Replica {
        self.fleet.get(&name_of(name)).expect("the story keeps it")
    }

    pub(crate) fn phase(&self, name: &str) -> Phase {
        self.replica(name).phase
    }

    pub(crate) fn names_serving(&self) -> Vec<&str> {
        self.fleet.serving().map(|(replica, _)| replica.name().as_str()).collect()
    }

    pub(crate) fn names_wanted(&self) -> Vec<&str> {
        self.fleet.wanted().map(|replica| replica.name().as_str()).collect()
    }
}

pub(crate) use PhaseName::{Down, Draining, Serving, Starting};

// === Events ===

pub(crate) fn add(names: &[&str]) -> Event {
    Event::Add { hosts: hosts(names) }
}

/// `addr`: where it runs still.
pub(crate) fn adopt(
    name: &str,
    number: u32,
    start: u64,
    addr: impl Into<Option<SocketAddr>>,
) -> Event {
    let host = name.parse().expect("stories use good names");
    Event::Adopt { host, number, incarnation: incarnation(start), addr: addr.into() }
}

pub(crate) fn join(name: &str, number: u32) -> Event {
    Event::Join { host: name_of(name).into(), number }
}

pub(crate) fn remove(names: &[&str]) -> Event {
    Event::Remove { names: names.iter().map(|name| name_of(name)).collect() }
}

pub(crate) fn restart(name: &str) -> Event {
    Event::Restart { name: name_of(name) }
}

pub(crate) fn spawned(name: &str, number: u64) -> Event {
    Event::Spawned { name: name_of(name), incarnation: incarnation(number), addr: addr(number) }
}

pub(crate) fn spawn_failed(name: &str, number: u64) -> Event {
    Event::SpawnFailed {
        name: name_of(name),
        incarnation: incarnation(number),
        exit: exit("no such image"),
    }
}

pub(crate) fn answered(name: &str, number: u64) -> Event {
    Event::Answered { name: name_of(name), incarnation: incarnation(number) }
}

pub(crate) fn missed(name: &str, number: u64) -> Event {
    Event::Missed { name: name_of(name), incarnation: incarnation(number) }
}

pub(crate) fn exited(name: &str, number: u64) -> Event {
    Event::Exited { name: name_of(name), incarnation: incarnation(number), exit: exit("exit 137") }
}

pub(crate) fn drained(name: &str, number: u64) -> Event {
    Event::Drained { name: name_of(name), incarnation: incarnation(number) }
}

pub(crate) fn stopped(name: &str, number: u64) -> Event {
    Event::Stopped { name: name_of(name), incarnation: incarnation(number), exit: None }
}

/// It ran until the fleet had it killed.
pub(crate) fn killed(name: &str, number: u64) -> Event {
    let exit = Some(exit("killed by signal 9"));
    Event::Stopped { name: name_of(name), incarnation: incarnation(number), exit }
}

// === Commands ===

pub(crate) fn announce(
    name: &str,
    number: u64,
    from: Option<PhaseName>,
    to: Option<PhaseName>,
    cause: Cause,
) -> Command {
    Command::Announce(Change {
        name: name_of(name),
        incarnation: incarnation(number),
        from,
        to,
        cause,
    })
}

/// A first start.
pub(crate) fn spawn(name: &str, number: u32, start: u64) -> Command {
    spawn_after(name, number, start, None)
}

/// A start after `cause` ended the run before.
pub(crate) fn spawn_after(
    name: &str,
    number: u32,
    start: u64,
    cause: impl Into<Option<Cause>>,
) -> Command {
    let host = name_of(name).into();
    Command::Spawn { host, number, incarnation: incarnation(start), after: cause.into() }
}

/// What [`exited`] causes.
pub(crate) fn exit_137() -> Cause {
    Cause::Exited("exit 137".to_owned())
}

pub(crate) fn stop(name: &str, number: u64) -> Command {
    Command::Stop { name: name_of(name), incarnation: incarnation(number) }
}

pub(crate) fn kill(name: &str, number: u64) -> Command {
    Command::Kill { name: name_of(name), incarnation: incarnation(number) }
}

// === Values ===

pub(crate) fn name_of(name: &str) -> ReplicaName {
    ReplicaName::parse(name).expect("stories use good names")
}

pub(crate) fn hosts(names: &[&str]) -> Vec<Host> {
    names.iter().map(|name| name.parse().expect("stories use good names")).collect()
}

pub(crate) fn incarnation(number: u64) -> Incarnation {
    number.into()
}

/// Each incarnation listens elsewhere.
pub(crate) fn addr(incarnation: u64) -> SocketAddr {
    format!("127.0.0.1:{}", 5_000 + incarnation).parse().expect("a socket address")
}

pub(crate) fn exit(reason: &str) -> Exit {
    Exit {
        code: None,
        reason: reason.to_owned(),
        log: vec!["last words".to_owned()],
        at: SystemTime::UNIX_EPOCH,
    }
}

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn time(at: u64) -> Instant {
    #[expect(clippy::disallowed_methods, reason = "where a story's clock begins does not matter")]
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    *BEGIN + ms(at)
}
