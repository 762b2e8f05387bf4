//! Who a replica is, and how it behaves.

use std::{sync::Arc, time::Duration};

use crate::ServedLog;

/// One replica.
#[derive(Clone, Debug)]
pub struct Replica {
    /// Its name: `id` in the answer of `/home`.
    pub name: String,
    /// What stands in the message of `/home`.
    pub id: String,
    /// What it does beside answering.
    pub behaviour: Behaviour,
}

impl Replica {
    /// A well-behaved replica called `name`, whose id is its number: the digits that end the name,
    /// or the whole name where there are none.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let number = &name[stem.len()..];
        let id = if number.is_empty() { &name } else { number }.to_owned();
        Self { name, id, behaviour: Behaviour::default() }
    }
}

/// What a replica does beside answering; the default does nothing odd.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// How long every `/home` takes. Heartbeats are never delayed.
    pub delay: Duration,
    /// Where every `/home` is written down before it is answered. With it, `POST` is answered like `GET`.
    pub served_log: Option<Arc<ServedLog>>,
    /// How many heartbeats are answered before all further ones get 500; `None`: all are answered.
    pub fail_heartbeat_after: Option<u64>,
    /// How long the replica lives without being asked for a heartbeat; `None`: for ever. A failed
    /// heartbeat counts too, because it shows that somebody still looks after this replica.
    pub exit_without_heartbeat: Option<Duration>,
    /// How long requests in flight may take to finish once the replica stops.
    pub grace: Duration,
}

impl Behaviour {
    /// The default of `grace`, in milliseconds.
    pub(crate) const GRACE_MS: u64 = 10_000;
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            served_log: None,
            fail_heartbeat_after: None,
            exit_without_heartbeat: None,
            grace: Duration::from_millis(Self::GRACE_MS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_the_number_that_ends_the_name() {
        let cases = [
            ("Server3", "3"),
            ("S10", "10"),
            ("4b7-2", "2"),
            ("blue", "blue"),
            ("7", "7"),
            ("S0x", "S0x"),
        ];
        for (name, id) in cases {
            assert_eq!(Replica::new(name).id, id, "{name}");
        }
    }
}
