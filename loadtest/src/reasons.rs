//! Counts by reason, in the one form that people and tables read: `3 (connect) 1 (reset)`, or `0`.

use std::{collections::BTreeMap, fmt, str::FromStr};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// How many there are of each reason; a reason without any is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Reasons(BTreeMap<String, u64>);

impl Reasons {
    pub(crate) fn add(&mut self, reason: &str, count: u64) {
        if count > 0 {
            *self.0.entry(reason.to_owned()).or_default() += count;
        }
    }

    pub(crate) fn add_all(&mut self, others: &Self) {
        for (reason, count) in &others.0 {
            self.add(reason, *count);
        }
    }

    /// What came to these since they were `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let mut since = Self::default();
        for (reason, count) in &self.0 {
            let earlier = before.0.get(reason).copied().unwrap_or(0);
            since.add(reason, count.saturating_sub(earlier));
        }
        since
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

impl fmt::Display for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> =
            self.0.iter().map(|(reason, count)| format!("{count} ({reason})")).collect();
        f.pad(&if parts.is_empty() { "0".to_owned() } else { parts.join(" ") })
    }
}

impl FromStr for Reasons {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut reasons = Self::default();
        for part in text.split_terminator(')').filter(|_| text != "0") {
            let of = || format!("{text:?} is not a list such as \"3 (connect) 1 (reset)\"");
            let (count, reason) = part.trim_start().split_once(" (").with_context(of)?;
            reasons.add(reason, count.parse().with_context(of)?);
        }
        Ok(reasons)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut reasons = Reasons::default();
        for (expected, reason, count) in [
            ("0", "reset", 0),
            ("1 (reset)", "reset", 1),
            ("3 (reset)", "reset", 2),
            ("3 (reset) 4 (status 502)", "status 502", 4),
        ] {
            reasons.add(reason, count);
            assert_eq!(reasons.to_string(), expected);
            assert_eq!(expected.parse::<Reasons>().unwrap(), reasons);
        }
        assert_eq!(reasons.total(), 7);
        for bad in ["x (reset)", "3", "3 reset"] {
            assert!(bad.parse::<Reasons>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_came_since_is_what_is_added_to_the_earlier_ones() {
        let [before, after] = ["1 (a) 2 (b)", "1 (a) 5 (b) 1 (c)"].map(|it| it.parse().unwrap());
        let since = Reasons::since(&after, &before);
        assert_eq!(since.to_string(), "3 (b) 1 (c)");
        let mut sum = before;
        sum.add_all(&since);
        assert_eq!(sum, after);
    }
}
