//! Which id a request carries: uniform over the 6-digit numbers, and the same for the same seed.

use std::ops::RangeInclusive;

/// All 6-digit numbers.
pub(crate) const REQUEST_IDS: RangeInclusive<u32> = 100_000..=999_999;

/// The id of request `index`: output number `index` of SplitMix64 (Steele, Lea, Flood: "Fast
/// splittable pseudorandom number generators", OOPSLA 2014) started at `seed`.
///
/// Each id depends on its index alone, so the set of ids does not depend on which connection sends
/// which.
pub(crate) fn request_id(seed: u64, index: u64) -> u32 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    let (first, last) = (*REQUEST_IDS.start(), *REQUEST_IDS.end());
    // The high half of the product is uniform over the range, up to 2^-44.
    let offset = (u128::from(z) * u128::from(last - first + 1)) >> 64;
    first + u32::try_from(offset).expect("the offset is below the length of the range")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_six_digits_and_spread_evenly() {
        let mut per_first_digit = [0; 10];
        for index in 0..90_000 {
            let id = request_id(1, index);
            assert!(REQUEST_IDS.contains(&id), "{id}");
            per_first_digit[(id / 100_000) as usize] += 1;
        }
        // 10,000 each; the standard deviation is 94.
        assert!(
            per_first_digit[1..].iter().all(|n| (9_500..10_500).contains(n)),
            "{per_first_digit:?}"
        );
    }

    #[test]
    fn the_seed_decides() {
        let ids = |seed| (0..100).map(|index| request_id(seed, index)).collect::<Vec<_>>();
        assert_eq!(ids(7), ids(7));
        assert_ne!(ids(7), ids(8));
    }

    #[test]
    fn the_sequence_is_that_of_splitmix64() {
        // The first outputs for seed 1234567 are 6457827717110365317 and 3203168211198807973,
        // scaled here.
        assert_eq!([request_id(1_234_567, 0), request_id(1_234_567, 1)], [415_071, 256_279]);
    }
}
