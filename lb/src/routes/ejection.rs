//! Passive ejection: who fails the requests it is given is passed over for a while, whatever its heartbeats say.
//!
//! Whether a replica is well is the fleet's to decide; this is only where requests go meanwhile. An ejection ends by
//! itself, and each further one lasts twice as long until the replica has been good for as long as the longest.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{in_flight::take, load::Load};
use crate::config::EjectionConfig;

/// What made a replica be ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EjectionCause {
    /// Connections to it failed, one after the other.
    Connect,
    /// Too many of its last answers were 500 or above.
    ServerErrors,
}

/// The record of one replica. Its counts are hints: when two requests end in the same instant, one may be lost.
#[derive(Debug, Default)]
pub(super) struct Record {
    connect_failures: AtomicU32,
    answers: AtomicU32,
    server_errors: AtomicU32,
    is_ejected: AtomicBool,
    /// The end of the last ejection, in milliseconds of this process.
    until: AtomicU64,
    /// Ejections in a row.
    times: AtomicU32,
}

impl Record {
    /// Whether it is passed over just now.
    pub(super) fn is_ejected(&self, load: &Load, now: impl Fn() -> u64) -> bool {
        if !self.is_ejected.load(Ordering::Acquire) {
            return false;
        }
        if now() < self.until.load(Ordering::Acquire) {
            return true;
        }
        self.readmit(load);
        false
    }

    /// How much longer it is passed over.
    pub(super) fn ejected_for(&self, now: u64) -> Option<Duration> {
        let rest = self.until.load(Ordering::Acquire).saturating_sub(now);
        (self.is_ejected.load(Ordering::Acquire) && rest > 0).then(|| Duration::from_millis(rest))
    }

    /// Ends an ejection. To be called when the replica is gone, too.
    pub(super) fn readmit(&self, load: &Load) {
        if self.is_ejected.swap(false, Ordering::AcqRel) {
            load.ejected.fetch_sub(1, Ordering::AcqRel);
        }
    }

    pub(super) fn connect_failed(&self, config: &EjectionConfig) -> Option<EjectionCause> {
        let failures = self.connect_failures.fetch_add(1, Ordering::Relaxed) + 1;
        let max = config.connect_failures;
        (max > 0 && failures >= max).then_some(EjectionCause::Connect)
    }

    pub(super) fn answered(&self, status: u16, config: &EjectionConfig) -> Option<EjectionCause> {
        if self.connect_failures.load(Ordering::Relaxed) > 0 {
            self.connect_failures.store(0, Ordering::Relaxed);
        }
        if config.server_error_percent == 0 {
            return None;
        }
        if status >= 500 {
            self.server_errors.fetch_add(1, Ordering::Relaxed);
        }
        if self.answers.fetch_add(1, Ordering::Relaxed) + 1 < config.answers {
            return None;
        }
        self.answers.store(0, Ordering::Relaxed);
        let errors = u64::from(self.server_errors.swap(0, Ordering::Relaxed));
        let is_bad =
            errors * 100 >= u64::from(config.server_error_percent) * u64::from(config.answers);
        is_bad.then_some(EjectionCause::ServerErrors)
    }

    /// Ejects it, unless it is or `serving` has as many ejected as may be.
    pub(super) fn eject(
        &self,
        config: &EjectionConfig,
        load: &Load,
        serving: u32,
        now: u64,
    ) -> bool {
        let max = u64::from(serving) * u64::from(config.max_percent) / 100;
        if self.is_ejected.load(Ordering::Acquire) || !take(&load.ejected, max as u32) {
            return false;
        }
        let (base, longest) = (config.base.as_millis() as u64, config.max.as_millis() as u64);
        if now > self.until.load(Ordering::Acquire) + longest {
            self.times.store(0, Ordering::Relaxed);
        }
        let doublings = self.times.fetch_add(1, Ordering::Relaxed).min(31);
        let lasts = base.saturating_mul(1 << doublings).min(longest);
        self.until.store(now + lasts, Ordering::Release);
        self.connect_failures.store(0, Ordering::Relaxed);
        if self.is_ejected.swap(true, Ordering::AcqRel) {
            // Another request did the same in this instant.
            load.ejected.fetch_sub(1, Ordering::AcqRel);
            return false;
        }
        true
    }
}

/// Milliseconds of this process.
pub(super) fn now() -> u64 {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    BEGIN.get_or_init(Instant::now).elapsed().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: EjectionConfig = EjectionConfig {
        connect_failures: 3,
        server_error_percent: 50,
        answers: 4,
        base: Duration::from_millis(100),
        max: Duration::from_millis(1_000),
        max_percent: 50,
        fail_open: true,
    };

    #[test]
    fn each_ejection_lasts_longer_until_the_replica_was_good_for_long() {
        let (record, load) = (Record::default(), Load::default());
        let mut now = 10_000;
        for lasts in [100, 200, 400, 800, 1_000, 1_000] {
            assert!(record.eject(&CONFIG, &load, 2, now));
            assert!(!record.eject(&CONFIG, &load, 2, now), "it is already");
            assert!(record.is_ejected(&load, || now + lasts - 1));
            assert_eq!(record.ejected_for(now + lasts - 1), Some(Duration::from_millis(1)));
            now += lasts;
            assert_eq!(record.ejected_for(now), None);
            assert!(!record.is_ejected(&load, || now));
            assert_eq!(load.ejected.load(Ordering::Relaxed), 0);
        }
        now += 1_001;
        assert!(record.eject(&CONFIG, &load, 2, now));
        assert!(!record.is_ejected(&load, || now + 100), "as the first time");
    }

    #[test]
    fn only_a_part_of_the_pool_is_ejected() {
        let load = Load::default();
        let records: Vec<_> = (0..5).map(|_| Record::default()).collect();
        let ejected = records.iter().filter(|it| it.eject(&CONFIG, &load, 5, 1)).count();
        assert_eq!(ejected, 2, "half of five, rounded down");
        records[0].readmit(&load);
        assert!(records[4].eject(&CONFIG, &load, 5, 1), "a place is free again");
    }

    #[test]
    fn failures_count_in_a_row_and_errors_by_their_share() {
        let record = Record::default();
        for _ in 0..2 {
            assert_eq!(record.connect_failed(&CONFIG), None);
        }
        assert_eq!(record.answered(200, &CONFIG), None);
        for _ in 0..2 {
            assert_eq!(record.connect_failed(&CONFIG), None, "counted anew");
        }
        assert_eq!(record.connect_failed(&CONFIG), Some(EjectionCause::Connect));
        let mut outcomes = Vec::new();
        for status in [503, 500, 200, 200, 500, 200, 200] {
            outcomes.push(record.answered(status, &CONFIG));
        }
        let expected = [None, None, Some(EjectionCause::ServerErrors), None, None, None, None];
        assert_eq!(outcomes, expected, "two of four, the first one above, then one of four");
    }
}
