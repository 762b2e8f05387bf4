//! What is known of one fault beside its requests, and the table of all of them.

use anyhow::Context;

use super::account::{Account, Counts, Seen};
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
    pub(crate) account: Account,
}

const HEADER: [&str; 14] = [
    "fault",
    "times",
    "by_force",
    "first",
    "ok",
    "upstream_errors",
    "failed",
    "rejected",
    "retried",
    "held",
    "others_ok",
    "others_errors",
    "others_unanswered",
    "is_partial",
];

impl Row {
    pub(crate) fn to_csv(rows: &[Self]) -> anyhow::Result<String> {
        csv::write(HEADER, rows.iter().map(Self::to_fields))
    }

    pub(crate) fn from_csv(text: &str) -> anyhow::Result<Vec<Self>> {
        csv::read(text, HEADER, Self::from_fields)
    }

    fn to_fields(&self) -> [String; 14] {
        let Account { counts, others, is_partial } = &self.account;
        [
            self.fault.clone(),
            self.times.to_string(),
            self.by_force.to_string(),
            self.first.to_string(),
            counts.ok.to_string(),
            counts.upstream_errors.to_string(),
            counts.failed.to_string(),
            counts.rejected.to_string(),
            counts.retried.to_string(),
            counts.held.to_string(),
            others.ok.to_string(),
            others.errors.to_string(),
            others.unanswered.to_string(),
            is_partial.to_string(),
        ]
    }

    fn from_fields(fields: [&str; 14]) -> anyhow::Result<Self> {
        let [fault, times, by_force, first, counts @ .., ok, errors, unanswered, is_partial] =
            fields;
        let [counted_ok, upstream_errors, failed, rejected, retried, held] = counts;
        let number = |text: &str, of| text.parse().context(of);
        Ok(Self {
            fault: fault.into(),
            times: times.parse().context("times")?,
            by_force: by_force.parse().context("by_force")?,
            first: first.parse().context("first")?,
            account: Account {
                counts: Counts {
                    ok: number(counted_ok, "ok")?,
                    upstream_errors: number(upstream_errors, "upstream_errors")?,
                    failed: failed.parse().context("failed")?,
                    rejected: rejected.parse().context("rejected")?,
                    retried: retried.parse().context("retried")?,
                    held: number(held, "held")?,
                },
                others: Seen {
                    ok: number(ok, "others_ok")?,
                    errors: number(errors, "others_errors")?,
                    unanswered: number(unanswered, "others_unanswered")?,
                },
                is_partial: is_partial.parse().context("is_partial")?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_as_it_was_written() {
        let reasons = |text: &str| text.parse().unwrap();
        let counts = Counts {
            ok: 4,
            upstream_errors: 5,
            failed: reasons("6 (connect) 7 (not_retryable)"),
            rejected: reasons("0"),
            retried: reasons("8 (reset)"),
            held: 9,
        };
        let others = Seen { ok: 10, errors: 11, unanswered: 12 };
        let row = |fault: &str, by_force| Row {
            fault: fault.into(),
            times: 3,
            by_force,
            first: 1,
            account: Account { counts: counts.clone(), others, is_partial: !by_force },
        };
        let rows = [row("kill -9", true), row("add", false)];
        assert_eq!(Row::from_csv(&Row::to_csv(&rows).unwrap()).unwrap(), rows);
    }
}
