//! [`Limits`]: every number and policy that the life of a replica obeys.

use std::time::Duration;

/// The back-off may exceed its nominal value by this part, so that replicas which failed together do not
/// start together.
const JITTER: f64 = 0.2;

/// The numbers and policies of a [`Fleet`](crate::Fleet). Durations are positive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// So many missed heartbeats in a row are a failure; at least 1.
    pub heartbeat_missed_max: u32,
    /// A replica must answer its first heartbeat within this time.
    pub start_timeout: Duration,
    /// Requests in flight may take so long to end before their replica is stopped all the same.
    pub drain_timeout: Duration,
    /// The wait after the first failure of a crash loop; it doubles with each further one.
    pub backoff_min: Duration,
    /// The longest wait between two starts; not below `backoff_min`.
    pub backoff_max: Duration,
    /// A replica that fails after it has served for this long starts again without a wait, and its earlier failures
    /// no longer count. One that fails sooner is in a crash loop.
    pub healthy_after: Duration,
    /// How many replicas may be wanted at the same time.
    pub replicas_max: usize,
    /// How names are generated.
    pub naming: Naming,
    /// Under which name a failed replica comes back.
    pub respawn_name: RespawnName,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            heartbeat_missed_max: 3,
            start_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(10),
            backoff_min: Duration::from_millis(200),
            backoff_max: Duration::from_secs(30),
            healthy_after: Duration::from_secs(10),
            replicas_max: 1_000,
            naming: Naming::Sequential,
            respawn_name: RespawnName::Keep,
        }
    }
}

impl Limits {
    /// How long a crash loop pauses after a failure that followed `failures` earlier ones. `jitter` lies in 0..1.
    pub(crate) fn backoff(&self, failures: u32, jitter: f64) -> Duration {
        let doubled = self.backoff_min.saturating_mul(2u32.saturating_pow(failures));
        doubled.min(self.backoff_max).mul_f64(1.0 + JITTER * jitter).min(self.backoff_max)
    }
}

/// How names are generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// `Server` and the lowest number that makes a free name.
    Sequential,
    /// `Server` and six digits drawn by chance.
    Random,
    /// A random UUID (version 4), in lower case.
    Uuid,
}

/// Under which name a replica that served and failed comes back; one that never served keeps its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RespawnName {
    /// Its own: no key moves.
    Keep,
    /// A generated one, as the classic scheme has it: its keys move.
    Fresh,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_from_the_least_to_the_most() {
        let limits = Limits::default();
        let waits: Vec<_> =
            (0..10).map(|failures| limits.backoff(failures, 0.0).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(limits.backoff(u32::MAX, 0.0), limits.backoff_max);
    }

    #[test]
    fn jitter_adds_a_fifth_at_most_and_never_exceeds_the_most() {
        let limits = Limits::default();
        assert_eq!(limits.backoff(0, 0.5), Duration::from_millis(220));
        assert_eq!(limits.backoff(0, 1.0), Duration::from_millis(240));
        assert_eq!(limits.backoff(7, 1.0), limits.backoff_max);
    }
}
