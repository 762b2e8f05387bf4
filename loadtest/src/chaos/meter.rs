//! Reads what a balancer counts, from process to process.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::account::{Account, Counts, Seen};
use crate::{metrics::Metrics, target::Target};

/// A request is counted a moment after its client has the answer; on a busy machine that may be a long one.
const COUNTED_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// The balancer's account since the last time that it was asked for.
pub(super) struct Meter {
    admin: Target,
    /// What the process had counted when it was read last.
    last: Counts,
    account: Account,
}

impl Meter {
    /// Of a balancer that has answered at least one request, and has no other in hand.
    pub(super) async fn start(admin: Target) -> anyhow::Result<Self> {
        let mut meter = Self { admin, last: Counts::default(), account: Account::default() };
        let began = Instant::now();
        while meter.last.ok == 0 && began.elapsed() < COUNTED_MAX {
            meter.read().await?;
            sleep(POLL).await;
        }
        meter.account = Account::default();
        Ok(meter)
    }

    pub(super) async fn read(&mut self) -> anyhow::Result<()> {
        let counts = Counts::of(&Metrics::scrape(self.admin.clone()).await?);
        self.account.counts.add(&counts.since(&self.last));
        self.last = counts;
        Ok(())
    }

    /// Another process counts from now on, and what this one counts after its last reading is never known.
    pub(super) fn was_taken_over(&mut self) {
        self.last = Counts::default();
        self.account.is_partial = true;
    }

    /// Other clients than the load's own sent requests, too.
    pub(super) fn others(&mut self, seen: Seen) {
        self.account.others.add(seen);
    }

    /// The account of a load that has ended, of which its clients saw this; waits until all of it is counted, and no more
    /// comes.
    pub(super) async fn account(&mut self, seen: Seen) -> anyhow::Result<Account> {
        let began = Instant::now();
        loop {
            let before = self.last.clone();
            self.read().await?;
            let is_over = self.last == before && self.account.disagreement(seen).is_none();
            if is_over || began.elapsed() > COUNTED_MAX {
                return Ok(std::mem::take(&mut self.account));
            }
            sleep(POLL).await;
        }
    }
}
