//! The body of an HTTP/2 request on its way to a replica, and its least rate.
//!
//! The bytes of one connection belong to many requests, so a body is not watched as it comes, but as it goes on. What it
//! lets the balancer wait for counts only while a replica is there to take it.

use std::{
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::sleep;

use crate::config::ClientConfig;

/// How often it is looked at within the longest silence.
const LOOKS: u32 = 8;

const WAITING: u8 = 0;
const MOVING: u8 = 1;
const DONE: u8 = 2;

/// How far it has come.
#[derive(Debug, Default)]
pub(in super::super) struct Upload {
    state: AtomicU8,
    moved: AtomicU64,
}

impl Upload {
    /// A replica is there to take it.
    pub(in super::super) fn begin(&self) {
        // A retry does not begin a body anew that has come as a whole.
        let _ = self.state.compare_exchange(WAITING, MOVING, Ordering::AcqRel, Ordering::Acquire);
    }

    /// So many bytes have come; the sum of all.
    pub(in super::super) fn came(&self, bytes: usize, is_last: bool) -> u64 {
        if is_last {
            self.state.store(DONE, Ordering::Release);
        }
        self.moved.fetch_add(bytes as u64, Ordering::AcqRel) + bytes as u64
    }

    /// Returns when the client has been silent for `read_timeout`, or has sent less than the least rate after it.
    pub(in super::super) async fn too_slow(&self, limits: &ClientConfig) {
        let pause = limits.read_timeout / LOOKS;
        let rate = u64::from(limits.body_bytes_per_second_min);
        let (mut seen, mut silent, mut waited) = (0, 0, Duration::ZERO);
        loop {
            sleep(pause).await;
            match self.state.load(Ordering::Acquire) {
                WAITING => continue,
                DONE => return std::future::pending().await,
                _ => waited += pause,
            }
            let moved = self.moved.load(Ordering::Acquire);
            silent = if moved == seen { silent + 1 } else { 0 };
            seen = moved;
            let due = waited.saturating_sub(limits.read_timeout).as_millis() as u64 * rate;
            if silent >= LOOKS || due > moved * 1_000 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    fn limits() -> ClientConfig {
        let mut limits = crate::config::Config::default().client;
        limits.read_timeout = Duration::from_secs(8);
        limits.body_bytes_per_second_min = 100;
        limits
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_given_up_and_one_that_is_done_is_not() {
        let (upload, limits) = (Upload::default(), limits());
        let mut watch = std::pin::pin!(upload.too_slow(&limits));
        let minute = Duration::from_secs(60);
        assert!(timeout(minute, &mut watch).await.is_err(), "no replica is there");
        upload.begin();
        assert!(timeout(Duration::from_secs(10), &mut watch).await.is_ok());
        upload.came(1, true);
        assert!(timeout(minute, upload.too_slow(&limits)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_only_drips_is_given_up() {
        let (upload, limits) = (Upload::default(), limits());
        upload.begin();
        let drip = async |bytes| loop {
            sleep(Duration::from_secs(1)).await;
            upload.came(bytes, false);
        };
        let minute = Duration::from_secs(60);
        tokio::select! {
            () = upload.too_slow(&limits) => panic!("100 bytes a second are enough"),
            () = drip(100) => {}
            () = sleep(minute) => {}
        }
        upload.moved.store(0, Ordering::Release);
        tokio::select! {
            () = upload.too_slow(&limits) => {}
            () = drip(10) => {}
            () = sleep(minute) => panic!("10 bytes a second are too few"),
        }
    }
}
