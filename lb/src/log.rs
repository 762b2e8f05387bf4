//! The log: lines on standard error.
//!
//! Invariant: by default, no client and no replica decides how much is logged. Ringmaster counts what happens to requests
//! and connections instead of logging it, libraries that log it are silenced here, and the rest of them have a budget.

use std::{
    env,
    io::{self, IsTerminal, Write},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing::{Level, Metadata, warn};
use tracing_subscriber::{
    EnvFilter,
    filter::filter_fn,
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// What sets the levels.
const VARIABLE: &str = "RUST_LOG";

/// The default of `RUST_LOG`: Ringmaster at level INFO, libraries at WARN, except targets that write a line for what clients and
/// replicas do:
///
/// * `h2` warns of frames that clients must not send.
/// * `pingora_core::apps` reports each broken client connection as an error.
/// * `pingora_core::connectors` reports each kept connection that its replica closed at the wrong moment, or sent
///   something over, as an error; requests go out over another one.
/// * `pingora_core::protocols` warns of lengths in heads; its errors are invariants.
/// * `pingora_pool` warns of what replicas send over kept connections.
/// * `pingora_proxy` reports each failed request; all of them are counted, by reason.
/// * `rustls` warns of handshakes that clients get wrong.
const LEVELS: &str = "warn,ringmaster=info,h2=error,pingora_core::apps=off,pingora_core::connectors=off,\
                      pingora_core::protocols=error,pingora_pool=error,pingora_proxy=off,rustls=off";

/// The most lines of libraries that are written in each period.
const LINES_MAX: u32 = 100;
const PERIOD: Duration = Duration::from_secs(10);

/// Starts it. To be called once.
pub(crate) fn start() {
    let wanted = env::var(VARIABLE).ok().filter(|it| !it.trim().is_empty());
    let wanted = wanted.map(|it| EnvFilter::try_new(&it).map_err(|error| (it, error)));
    let (levels, budget, fault) = match wanted {
        // An operator who asks for lines gets all of them.
        Some(Ok(levels)) => (levels, None, None),
        Some(Err(fault)) => (EnvFilter::new(LEVELS), Some(Budget::new()), Some(fault)),
        None => (EnvFilter::new(LEVELS), Some(Budget::new()), None),
    };
    let output = Output { budget: budget.map(Mutex::new) };
    let lines = fmt::layer().with_writer(output).with_ansi(io::stderr().is_terminal());
    tracing_subscriber::registry().with(levels).with(filter_fn(has_no_secrets)).with(lines).init();
    if let Some((value, error)) = fault {
        warn!(%value, %error, "{VARIABLE} cannot be read; the default levels are used");
    }
}

/// Below INFO, Pingora prints whole requests, with the clients' tokens and cookies.
fn has_no_secrets(line: &Metadata<'_>) -> bool {
    *line.level() <= Level::INFO || !line.target().starts_with("pingora")
}

/// Standard error, on which lines of libraries may have a budget.
struct Output {
    budget: Option<Mutex<Budget>>,
}

/// Standard error for one line, or nothing.
struct Line(Option<io::Stderr>);

impl<'a> MakeWriter<'a> for Output {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(Some(io::stderr()))
    }

    fn make_writer_for(&'a self, line: &Metadata<'_>) -> Line {
        let Some(budget) =
            self.budget.as_ref().filter(|_| !line.target().starts_with("ringmaster"))
        else {
            return self.make_writer();
        };
        // It is whole between any two calls.
        let verdict = budget.lock().unwrap_or_else(PoisonError::into_inner).spend(Instant::now());
        match verdict {
            Verdict::Write => self.make_writer(),
            Verdict::Drop => Line(None),
            Verdict::DropAndSay => {
                warn!(
                    "Libraries log more than {LINES_MAX} lines in {} s; the rest is dropped. {VARIABLE} shows all",
                    PERIOD.as_secs()
                );
                Line(None)
            }
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Some(stderr) => stderr.write(bytes),
            None => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.as_mut().map_or(Ok(()), io::Stderr::flush)
    }
}

/// Lines that may be written until the period ends.
struct Budget {
    began: Instant,
    spent: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Write,
    Drop,
    /// The first that is dropped in its period.
    DropAndSay,
}

impl Budget {
    fn new() -> Self {
        Self { began: Instant::now(), spent: 0 }
    }

    fn spend(&mut self, now: Instant) -> Verdict {
        if now.duration_since(self.began) >= PERIOD {
            (self.began, self.spent) = (now, 0);
        }
        self.spent = self.spent.saturating_add(1);
        match self.spent {
            0..=LINES_MAX => Verdict::Write,
            spent if spent == LINES_MAX + 1 => Verdict::DropAndSay,
            _ => Verdict::Drop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_levels_are_understood() {
        // `EnvFilter::new` would leave out what it does not understand.
        EnvFilter::try_new(LEVELS).unwrap();
    }

    #[test]
    fn a_budget_is_spent_and_renewed() {
        let mut budget = Budget::new();
        let began = budget.began;
        for period in 0..3 {
            let now = began + PERIOD * period;
            for _ in 0..LINES_MAX {
                assert_eq!(budget.spend(now), Verdict::Write);
            }
            assert_eq!(budget.spend(now), Verdict::DropAndSay);
            assert_eq!(budget.spend(now + PERIOD - Duration::from_millis(1)), Verdict::Drop);
        }
    }
}
