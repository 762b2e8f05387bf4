//! What became of one kill, and the table of all of them.

use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

use crate::{
    admin::{Admin, Replica, polls},
    csv,
};

/// One kill of a replica. Times are in microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kill {
    pub(super) replica: String,
    /// Since the start of the load.
    pub(super) at_us: u64,
    pub(super) gap: Gap,
    /// Afterwards, of the fixed set of keys: those that another replica answered than before the
    /// first kill.
    pub(super) keys_moved: u64,
    /// Those that nobody answered, now or before the first kill.
    pub(super) keys_unanswered: u64,
}

/// How long a replica was missing, counted from its kill; `None`: not seen before the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gap {
    /// Until the balancer did not list the killed incarnation as serving.
    pub(super) detected_us: Option<u64>,
    /// Until a higher incarnation served.
    pub(super) recovered_us: Option<u64>,
}

impl Gap {
    /// Watches `killed`, which is being killed, until it serves again or `limit` is over.
    pub(super) async fn watch(
        admin: &mut Admin,
        killed: &Replica,
        limit: Duration,
    ) -> anyhow::Result<Self> {
        let start = Instant::now();
        let mut polls = polls();
        let mut gap = Self::default();
        while start.elapsed() < limit {
            let replicas = admin.replicas().await?;
            let now_us = u64::try_from(start.elapsed().as_micros()).expect("limits are in seconds");
            let replica = replicas.iter().find(|replica| replica.name == killed.name);
            let serving =
                replica.filter(|replica| replica.serves()).map(|replica| replica.incarnation);
            if serving != Some(killed.incarnation) {
                gap.detected_us.get_or_insert(now_us);
            }
            if serving.is_some_and(|incarnation| incarnation > killed.incarnation) {
                gap.recovered_us = Some(now_us);
                break;
            }
            polls.tick().await;
        }
        Ok(gap)
    }
}

const HEADER: [&str; 6] =
    ["replica", "at_us", "detected_us", "recovered_us", "keys_moved", "keys_unanswered"];

impl Kill {
    pub(super) fn to_csv(kills: &[Self]) -> anyhow::Result<String> {
        let optional = |time: Option<u64>| time.map(|time| time.to_string()).unwrap_or_default();
        csv::write(
            HEADER,
            kills.iter().map(|kill| {
                [
                    kill.replica.clone(),
                    kill.at_us.to_string(),
                    optional(kill.gap.detected_us),
                    optional(kill.gap.recovered_us),
                    kill.keys_moved.to_string(),
                    kill.keys_unanswered.to_string(),
                ]
            }),
        )
    }

    pub(super) fn from_csv(text: &str) -> anyhow::Result<Vec<Self>> {
        let optional = |field: &str| (!field.is_empty()).then(|| field.parse()).transpose();
        csv::read(text, HEADER, |[replica, at, detected, recovered, moved, unanswered]| {
            Ok(Self {
                replica: replica.into(),
                at_us: at.parse().context("at_us")?,
                gap: Gap {
                    detected_us: optional(detected).context("detected_us")?,
                    recovered_us: optional(recovered).context("recovered_us")?,
                },
                keys_moved: moved.parse().context("keys_moved")?,
                keys_unanswered: unanswered.parse().context("keys_unanswered")?,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_as_it_was_written() {
        let healed = Kill {
            replica: "S1".into(),
            at_us: 1,
            gap: Gap { detected_us: Some(2), recovered_us: Some(3) },
            keys_moved: 4,
            keys_unanswered: 5,
        };
        let lost = Kill { gap: Gap { detected_us: Some(2), recovered_us: None }, ..healed.clone() };
        let text = Kill::to_csv(&[healed.clone(), lost.clone()]).unwrap();
        assert_eq!(text, format!("{}\nS1,1,2,3,4,5\nS1,1,2,,4,5\n", HEADER.join(",")));
        assert_eq!(Kill::from_csv(&text).unwrap(), [healed, lost]);
    }
}
