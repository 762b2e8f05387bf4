//! Where a fixed set of keys lives.

use hyper::Method;

use crate::{client::Connection, request_id::request_id};

/// How many keys are asked for.
pub(super) const KEYS: u64 = 200;

/// Decides which keys; the same in every run, so that runs can be compared.
const SEED: u64 = 0x6b65_7973;

/// The replica that answered for each key; `None` for a key that nobody answered.
pub(super) struct Keys(Vec<Option<String>>);

impl Keys {
    /// Asks for one key after the other, so that they do not push each other over a replica's
    /// bound.
    pub(super) async fn ask(connection: &mut Connection) -> Self {
        let mut owners = Vec::new();
        for index in 0..KEYS {
            owners.push(connection.home(Method::GET, request_id(SEED, index)).await.ok());
        }
        Self(owners)
    }

    /// How many keys were not answered.
    pub(super) fn unanswered(&self) -> u64 {
        self.0.iter().filter(|owner| owner.is_none()).count() as u64
    }

    /// How many keys `after` has at another replica, and how many it does not have at all.
    pub(super) fn compare(&self, after: &Self) -> (u64, u64) {
        let both = self
            .0
            .iter()
            .zip(&after.0)
            .filter_map(|(before, after)| before.as_ref().zip(after.as_ref()));
        (both.filter(|(before, after)| before != after).count() as u64, after.unanswered())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_moves_only_between_two_answers() {
        let keys = |owners: &str| {
            Keys(owners.chars().map(|owner| (owner != '-').then(|| owner.to_string())).collect())
        };
        for (before, after, expected) in [
            ("123", "123", (0, 0)),
            ("123", "133", (1, 0)),
            ("12-", "-31", (1, 1)),
            ("123", "---", (0, 3)),
        ] {
            assert_eq!(keys(before).compare(&keys(after)), expected, "{before} then {after}");
        }
    }
}
