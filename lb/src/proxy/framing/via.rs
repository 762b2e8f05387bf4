//! Requests that come back: each balancer adds its pseudonym to `Via` (RFC 9110 §7.6.3), and counts it there.

use super::Fault;
use crate::metrics::Rejection;

/// What the balancer calls itself. All balancers share it, so that a loop through several is found as soon as a loop
/// through one.
const PSEUDONYM: &[u8] = b"ringmaster";

/// Balancers that a request may have passed before this one. Honest chains are shorter, and a loop costs so many times
/// its requests.
const PASSED_MAX: usize = 5;

const LOOP: Fault = Fault::new(508, Rejection::Loop, "The request came back to this balancer");

/// Counts the entries of a field that are ours, after `passed` in fields before it.
pub(super) fn count(passed: usize, value: &[u8]) -> Result<usize, Fault> {
    // A comma in a comment begins an entry here; that such a one looks like ours has no honest cause.
    let is_ours = |entry: &&[u8]| {
        let mut words = entry.split(u8::is_ascii_whitespace).filter(|it| !it.is_empty());
        words.nth(1).is_some_and(|it| it == PSEUDONYM)
    };
    let passed = passed + value.split(|&it| it == b',').filter(is_ours).count();
    if passed > PASSED_MAX { Err(LOOP) } else { Ok(passed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_entries_count() {
        for (value, expected) in [
            ("", 0),
            ("1.1 ringmaster", 1),
            ("1.1 ringmaster,2 ringmaster", 2),
            (" 1.1  ringmaster (comment) , 1.0\tringmaster", 2),
            ("1.1 varnish, HTTP/1.1 ringmaster, 1.1 ringmaster.example, ringmaster", 1),
            ("1.1 a (ringmaster), 1.1 ringmasters", 0),
        ] {
            assert_eq!(count(0, value.as_bytes()), Ok(expected), "{value}");
        }
    }

    #[test]
    fn the_sixth_of_our_own_is_a_loop() {
        let five = ["1.1 ringmaster"; 5].join(", ");
        assert_eq!(count(0, five.as_bytes()), Ok(5));
        assert_eq!(count(1, five.as_bytes()), Err(LOOP));
        assert_eq!(count(0, [&five[..]; 2].join(",").as_bytes()), Err(LOOP));
    }
}
