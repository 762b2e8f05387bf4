//! [`Lockout`]: addresses that guess tokens are not listened to for a while.
//!
//! Invariants: a failure counts for one window, which begins with the first; at most [`ADDRESSES_MAX`] addresses are
//! remembered, so that guessing from many costs no more memory.

use crate::config::LockoutConfig;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// The one whose failures are the oldest is forgotten for one more.
const ADDRESSES_MAX: usize = 4_096;

/// Who failed lately.
pub(super) struct Lockout {
    config: LockoutConfig,
    failures: HashMap<IpAddr, Failures>,
}

/// Of one address.
struct Failures {
    since: Instant,
    count: u32,
    /// Set by the last failure that is let through.
    locked_until: Option<Instant>,
}

impl Lockout {
    pub(super) fn new(config: LockoutConfig) -> Self {
        Self { config, failures: HashMap::new() }
    }

    /// For how long `addr` is still locked out, if it is.
    pub(super) fn remaining(&self, addr: IpAddr, now: Instant) -> Option<Duration> {
        let until = self.failures.get(&network(addr))?.locked_until?;
        until.checked_duration_since(now).filter(|wait| !wait.is_zero())
    }

    /// Counts a failure; whether it locks `addr` out.
    pub(super) fn fail(&mut self, addr: IpAddr, now: Instant) -> bool {
        if self.config.failures == 0 {
            return false;
        }
        let addr = network(addr);
        if !self.failures.contains_key(&addr) {
            self.make_room(now);
        }
        let fresh = || Failures { since: now, count: 0, locked_until: None };
        let failures = self.failures.entry(addr).or_insert_with(fresh);
        if failures.is_over(&self.config, now) {
            *failures = fresh();
        }
        failures.count += 1;
        let locks = failures.count == self.config.failures;
        if locks {
            failures.locked_until = Some(now + self.config.duration);
        }
        locks
    }

    fn make_room(&mut self, now: Instant) {
        if self.failures.len() < ADDRESSES_MAX {
            return;
        }
        self.failures.retain(|_, failures| !failures.is_over(&self.config, now));
        if self.failures.len() == ADDRESSES_MAX {
            let oldest = self.failures.iter().min_by_key(|(_, failures)| failures.since);
            if let Some(oldest) = oldest.map(|(&addr, _)| addr) {
                self.failures.remove(&oldest);
            }
        }
    }
}

impl Failures {
    fn is_over(&self, config: &LockoutConfig, now: Instant) -> bool {
        now >= self.locked_until.unwrap_or(self.since + config.window)
    }
}

/// What one client has: an IPv4 address, or an IPv6 network of 64 bits.
fn network(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(_) => addr,
        IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "192.0.2.1";

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Three failures within a minute cost five.
    fn lockout(failures: u32) -> Lockout {
        let (window, duration) = (Duration::from_secs(60), Duration::from_secs(300));
        Lockout::new(LockoutConfig { failures, window, duration })
    }

    #[test]
    fn failures_lock_an_address_out_and_time_lets_it_in() {
        let mut lockout = lockout(3);
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        assert!(!lockout.fail(addr(A), at(0)));
        assert!(!lockout.fail(addr(A), at(59)));
        // The first no longer counts.
        assert!(!lockout.fail(addr(A), at(60)));
        assert!(!lockout.fail(addr(A), at(61)));
        assert_eq!(lockout.remaining(addr(A), at(61)), None);
        assert!(lockout.fail(addr(A), at(62)));
        assert_eq!(lockout.remaining(addr(A), at(62)), Some(Duration::from_secs(300)));
        assert_eq!(lockout.remaining(addr("192.0.2.2"), at(62)), None);
        // One that was let through before the lock neither lengthens it nor begins another.
        assert!(!lockout.fail(addr(A), at(63)));
        assert_eq!(lockout.remaining(addr(A), at(361)), Some(Duration::from_secs(1)));
        assert_eq!(lockout.remaining(addr(A), at(362)), None);
        assert!(!lockout.fail(addr(A), at(362)));
    }

    #[test]
    fn a_network_of_64_bits_is_one_client() {
        let mut lockout = lockout(2);
        let now = Instant::now();
        lockout.fail(addr("2001:db8:0:1::1"), now);
        assert!(lockout.fail(addr("2001:db8:0:1:ffff::2"), now));
        assert!(lockout.remaining(addr("2001:db8:0:1::3"), now).is_some());
        assert_eq!(lockout.remaining(addr("2001:db8:0:2::1"), now), None);
    }

    #[test]
    fn zero_failures_lock_nobody_out() {
        let mut lockout = lockout(0);
        let now = Instant::now();
        for _ in 0..100 {
            assert!(!lockout.fail(addr(A), now));
        }
        assert_eq!(lockout.remaining(addr(A), now), None);
        assert!(lockout.failures.is_empty());
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_oldest() {
        let mut lockout = lockout(1);
        let start = Instant::now();
        let nth = |n: u32| IpAddr::from(n.to_be_bytes());
        let full = ADDRESSES_MAX as u32;
        for n in 0..=full {
            lockout.fail(nth(n), start + Duration::from_millis(n.into()));
        }
        let now = start + Duration::from_secs(10);
        assert_eq!(lockout.failures.len(), ADDRESSES_MAX);
        assert_eq!(lockout.remaining(nth(0), now), None);
        assert!(lockout.remaining(nth(1), now).is_some());
        assert!(lockout.remaining(nth(full), now).is_some());
        // Those whose time is over go first, all of them.
        lockout.fail(nth(full + 1), start + Duration::from_secs(1_000));
        assert_eq!(lockout.failures.len(), 1);
    }
}
