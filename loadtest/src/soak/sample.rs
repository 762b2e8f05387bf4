//! What the balancer takes of the machine at one moment.

use std::time::Duration;

use anyhow::Context;
use procfs::process::Process;

use crate::{csv, metrics::Metrics, target::Target};

/// One look at the balancer's process and at what it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// Since the start of the load.
    pub(super) at_s: u64,
    /// Of the balancer alone, without its replicas.
    pub(super) rss_kib: u64,
    pub(super) descriptors: u64,
    pub(super) threads: u64,
    /// Of processes; a replica that nobody waited for stays one.
    pub(super) children: u64,
    /// Of metrics.
    pub(super) series: u64,
}

const HEADER: [&str; 6] = ["at_s", "rss_kib", "descriptors", "threads", "children", "series"];

impl Sample {
    pub(super) async fn take(at: Duration, pid: i32, admin: &Target) -> anyhow::Result<Self> {
        let told = || format!("looking at process {pid}");
        let process = Process::new(pid).with_context(told)?;
        let status = process.status().with_context(told)?;
        let mut children = 0;
        for task in process.tasks().with_context(told)?.flatten() {
            // A thread may end while it is looked at, and then has none.
            children += task.children().map_or(0, |it| it.len());
        }
        Ok(Self {
            at_s: at.as_secs(),
            rss_kib: status.vmrss.with_context(told)?,
            descriptors: process.fd_count().with_context(told)? as u64,
            threads: status.threads,
            children: children as u64,
            series: Metrics::scrape(admin.clone()).await?.series() as u64,
        })
    }

    fn fields(&self) -> [u64; 6] {
        let Self { at_s, rss_kib, descriptors, threads, children, series } = *self;
        [at_s, rss_kib, descriptors, threads, children, series]
    }

    pub(super) fn to_csv(samples: &[Self]) -> anyhow::Result<String> {
        csv::write(HEADER, samples.iter().map(|it| it.fields().map(|it| it.to_string())))
    }

    pub(super) fn from_csv(text: &str) -> anyhow::Result<Vec<Self>> {
        csv::read(text, HEADER, |fields| {
            let numbers = fields.map(str::parse::<u64>);
            let [at_s, rss_kib, descriptors, threads, children, series] = numbers;
            Ok(Self {
                at_s: at_s.context("at_s")?,
                rss_kib: rss_kib.context("rss_kib")?,
                descriptors: descriptors.context("descriptors")?,
                threads: threads.context("threads")?,
                children: children.context("children")?,
                series: series.context("series")?,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_as_it_was_written() {
        let sample =
            Sample { at_s: 1, rss_kib: 2, descriptors: 3, threads: 4, children: 5, series: 6 };
        assert_eq!(Sample::from_csv(&Sample::to_csv(&[sample]).unwrap()).unwrap(), [sample]);
    }
}
