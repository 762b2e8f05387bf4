//! What is known of one fault beside its requests, and the table of all of them.

use anyhow::Context;

use crate::csv;

/// One fault and its load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) fault: String,
    /// How often it happened.
    pub(crate) times: u32,
    /// Whether replicas were taken away with requests in their hands.
    pub(crate) by_force: bool,
    /// The id of its first request.
    pub(crate) first: u32,
    /// By the balancer's count: attempts at a further replica, and requests that waited for one.
    pub(crate) retried: u64,
    pub(crate) held: u64,
}

const HEADER: [&str; 6] = ["fault", "times", "by_force", "first", "retried", "held"];

impl Row {
    pub(crate) fn to_csv(rows: &[Self]) -> anyhow::Result<String> {
        let row = |it: &Self| {
            [
                it.fault.clone(),
                it.times.to_string(),
                it.by_force.to_string(),
                it.first.to_string(),
                it.retried.to_string(),
                it.held.to_string(),
            ]
        };
        csv::write(HEADER, rows.iter().map(row))
    }

    pub(crate) fn from_csv(text: &str) -> anyhow::Result<Vec<Self>> {
        csv::read(text, HEADER, |[fault, times, by_force, first, retried, held]| {
            Ok(Self {
                fault: fault.into(),
                times: times.parse().context("times")?,
                by_force: by_force.parse().context("by_force")?,
                first: first.parse().context("first")?,
                retried: retried.parse().context("retried")?,
                held: held.parse().context("held")?,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_as_it_was_written() {
        let row = |fault: &str, by_force| Row {
            fault: fault.into(),
            times: 3,
            by_force,
            first: 1,
            retried: 4,
            held: 5,
        };
        let rows = [row("kill -9", true), row("add", false)];
        assert_eq!(Row::from_csv(&Row::to_csv(&rows).unwrap()).unwrap(), rows);
    }
}
