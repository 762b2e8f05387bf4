//! The least rate of bodies.

use std::time::Duration;

use tokio::time::Instant;

use crate::{config::ClientConfig, metrics::Rejection, proxy::framing::Fault};

/// How long a body has let us wait, and for how many bytes: time that is spent on a slow replica is not the client's.
#[derive(Debug)]
pub(super) struct Pace {
    /// What every body may take.
    allowance: Duration,
    bytes_per_second_min: u32,
    waiting_since: Option<Instant>,
    waited: Duration,
    received: u64,
}

impl Pace {
    pub(super) fn new(limits: &ClientConfig) -> Self {
        Self {
            allowance: limits.read_timeout,
            bytes_per_second_min: limits.body_bytes_per_second_min,
            waiting_since: None,
            waited: Duration::ZERO,
            received: 0,
        }
    }

    pub(super) fn begin(&mut self) {
        self.waiting_since = None;
        self.waited = Duration::ZERO;
        self.received = 0;
    }

    pub(super) fn wait(&mut self) {
        self.waiting_since.get_or_insert_with(Instant::now);
    }

    pub(super) fn came(&mut self, bytes: usize) -> Result<(), Fault> {
        self.received += bytes as u64;
        let Some(since) = self.waiting_since.take() else { return Ok(()) };
        self.waited += since.elapsed();
        let rate = u64::from(self.bytes_per_second_min);
        let is_slow = rate > 0
            && self.waited.saturating_sub(self.allowance).as_millis() as u64 * rate
                > self.received * 1_000;
        if is_slow {
            return Err(Fault::new(408, Rejection::BodyTimeout, "The body came too slowly"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_time_that_the_client_lets_pass_counts_and_bytes_buy_more() {
        let mut limits = crate::config::Config::default().client;
        limits.read_timeout = Duration::from_secs(10);
        limits.body_bytes_per_second_min = 100;
        let mut pace = Pace::new(&limits);
        // A slow replica: nobody waits for the client.
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(pace.came(1).is_ok());
        let mut wait = async |seconds, bytes| {
            pace.wait();
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            pace.came(bytes).map_err(|it| it.status)
        };
        assert_eq!(wait(10, 1).await, Ok(()), "the allowance");
        assert_eq!(wait(5, 498).await, Ok(()), "500 bytes buy five seconds");
        assert_eq!(wait(1, 99).await, Err(408));
    }
}
