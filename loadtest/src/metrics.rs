//! What a balancer counts, as its metrics say it.

use std::time::Duration;

use anyhow::Context;

use crate::{client::Connection, reasons::Reasons, target::Target};

const TIMEOUT: Duration = Duration::from_secs(30);

/// One scrape, in Prometheus' text format.
pub(crate) struct Metrics(String);

impl Metrics {
    /// Scrapes a balancer's admin listener, over a connection of its own: one that is kept between scrapes is closed
    /// for having been idle, perhaps just when it is used again.
    pub(crate) async fn scrape(admin: Target) -> anyhow::Result<Self> {
        let body = Connection::new(admin, TIMEOUT)
            .get("/metrics")
            .await
            .context("asking the balancer for /metrics")?;
        Ok(Self(String::from_utf8(body.into()).context("reading /metrics")?))
    }

    /// The sum of all series of a counter.
    pub(crate) fn sum(&self, name: &str) -> u64 {
        self.of(name).map(|(_, value)| value as u64).sum()
    }

    /// The sums of a counter by its label `reason`, of those series that have `label` with this value.
    pub(crate) fn by_reason(&self, name: &str, label: Option<(&str, &str)>) -> Reasons {
        let mut reasons = Reasons::default();
        for (labels, value) in self.of(name) {
            if label.is_none_or(|(label, wanted)| value_of(labels, label) == Some(wanted)) {
                reasons.add(value_of(labels, "reason").unwrap_or_default(), value as u64);
            }
        }
        reasons
    }

    /// The series of this name: their labels and values.
    fn of(&self, name: &str) -> impl Iterator<Item = (&str, f64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']))?;
            let (labels, value) = rest.rsplit_once(' ')?;
            Some((labels, value.parse().ok()?))
        })
    }

    /// How many series there are.
    pub(crate) fn series(&self) -> usize {
        self.0.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count()
    }
}

/// The value of `label` among `labels`; none that is asked for here has an escaped character in it.
fn value_of<'a>(labels: &'a str, label: &str) -> Option<&'a str> {
    let at = |start: &str| labels.split_once(&format!("{start}{label}=\"")).map(|(_, rest)| rest);
    at("{").or_else(|| at(","))?.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_the_sum_of_its_own_series() {
        let metrics = Metrics(
            "# HELP a_total x\n# TYPE a_total counter\n\
             a_total{pool=\"p q\",reason=\"r\"} 2\na_total{pool=\"q\"} 3\na_total_more 7\n\
             b_total 5\n"
                .into(),
        );
        assert_eq!(metrics.by_reason("a_total", Some(("pool", "p q"))).to_string(), "2 (r)");
        let sums = ["a_total", "b_total", "c_total"].map(|name| metrics.sum(name));
        assert_eq!((sums, metrics.series()), ([5, 5, 0], 4));
    }
}
