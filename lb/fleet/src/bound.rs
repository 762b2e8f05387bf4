//! How many requests one replica may have in flight.
//!
//! Consistent hashing with bounded loads: who is at the bound is passed over, and the key goes to the next
//! candidate. Source: Mirrokni, Thorup, Zadimoghaddam, arXiv:1608.01350.

use std::time::Duration;

/// The share of the bound that a replica begins with.
const RAMP_MIN: f64 = 0.1;

/// How far above the mean the load of one replica may go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// The bound as a multiple of the mean load; above 1.
    pub factor: f64,
    /// Requests that a replica may always have in flight: with few requests the mean says little.
    pub floor: u32,
}

impl Bound {
    /// The requests that a replica may have in flight: it takes another one only while it has fewer.
    ///
    /// `in_flight_total` counts those of all `serving` replicas, without the one to be placed. `share` is
    /// the replica's [`ramp`]. The result is at least 1. If every share is 1, the bounds add up to more
    /// than `in_flight_total`, so somebody has room; smaller shares don't promise that.
    pub fn cap(&self, in_flight_total: u32, serving: u32, share: f64) -> u32 {
        let mean = (f64::from(in_flight_total) + 1.0) / f64::from(serving.max(1));
        let full = (self.factor * mean).ceil().max(f64::from(self.floor));
        ((full * share) as u32).max(1)
    }
}

/// The share of the bound, above 0 and at most 1, that a replica has at this age: it grows linearly from
/// 0.1 to 1 over `slow_start`, and is 1 if that is zero.
pub fn ramp(age: Duration, slow_start: Duration) -> f64 {
    if age >= slow_start {
        return 1.0;
    }
    RAMP_MIN + (1.0 - RAMP_MIN) * age.div_duration_f64(slow_start)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Bound = Bound { factor: 1.25, floor: 8 };

    #[test]
    fn the_bound_follows_the_mean_above_the_floor() {
        for (total, serving, share, cap) in [
            (0, 1, 1.0, 8),
            (99, 10, 1.0, 13),            // 1.25 × 10 = 12.5, rounded up.
            (100, 10, 1.0, 13),           // 1.25 × 10.1 = 12.6.
            (103, 10, 1.0, 13),           // 1.25 × 10.4 = 13 exactly.
            (104, 10, 1.0, 14),           // 1.25 × 10.5 = 13.1.
            (103, 10, 0.5, 6),            // 13 × 0.5 = 6.5, rounded down.
            (0, 10, 0.1, 1),              // 8 × 0.1 = 0.8, but never nothing.
            (7, 0, 1.0, 10),              // Nobody serves: as if one did.
            (u32::MAX, 1, 1.0, u32::MAX), // Saturates.
        ] {
            assert_eq!(BOUND.cap(total, serving, share), cap, "{total} over {serving}");
        }
    }

    #[test]
    fn somebody_always_has_room() {
        let bound = Bound { factor: 1.01, floor: 0 };
        for serving in 1..50 {
            for total in 0..500 {
                assert!(bound.cap(total, serving, 1.0) * serving > total, "{total} over {serving}");
            }
        }
    }

    #[test]
    fn the_share_grows_linearly() {
        let ms = Duration::from_millis;
        assert_eq!(ramp(ms(0), ms(0)), 1.0);
        assert_eq!(ramp(ms(0), ms(1_000)), 0.1);
        assert!((ramp(ms(500), ms(1_000)) - 0.55).abs() < 1e-12);
        assert_eq!(ramp(ms(1_000), ms(1_000)), 1.0);
        assert_eq!(ramp(ms(9_000), ms(1_000)), 1.0);
    }
}
