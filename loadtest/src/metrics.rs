//! What a balancer counts, as its metrics say it.

use std::time::Duration;

use anyhow::Context;

use crate::{client::Connection, target::Target};

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
        let of_name =
            |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let values = self.0.lines().filter(of_name).filter_map(|line| line.rsplit_once(' '));
        values.filter_map(|(_, value)| value.parse::<f64>().ok()).sum::<f64>() as u64
    }

    /// How many series there are.
    pub(crate) fn series(&self) -> usize {
        self.0.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count()
    }
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
        let sums = ["a_total", "b_total", "c_total"].map(|name| metrics.sum(name));
        assert_eq!((sums, metrics.series()), ([5, 5, 0], 4));
    }
}
