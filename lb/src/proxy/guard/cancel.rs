//! HTTP/2 requests that their clients take back.
//!
//! Pingora looks for a reset only while it reads the request's body or waits for an answer. It does neither while a request
//! waits for a replica, or while a replica does not take the body. The HTTP/2 library wakes one task on a reset of
//! the stream; before Pingora has the stream, [`Link::watch`](super::Link::watch) registers the link for that.
//!
//! The library also uses this waker to say that there is room for more of an answer. So a call of the waker means that the
//! request is cancelled only as long as there is no answer, from [`Cancellation::arm`] to [`Cancellation::disarm`]. While an
//! answer is sent, Pingora notices the reset when it writes.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;

const WOKEN: u8 = 1;
const ARMED: u8 = 2;
const CANCELLED: u8 = 4;

#[derive(Debug, Default)]
pub(super) struct Cancellation {
    state: AtomicU8,
    cancelled: Notify,
}

impl Cancellation {
    /// From here on a reset cancels the request, as does one that has already come.
    pub(super) fn arm(&self) {
        if self.state.fetch_or(ARMED, Ordering::AcqRel) & WOKEN != 0 {
            self.cancel();
        }
    }

    /// An answer begins.
    pub(super) fn disarm(&self) {
        self.state.fetch_and(!ARMED, Ordering::AcqRel);
    }

    /// The HTTP/2 library has news of the stream.
    pub(super) fn wake(&self) {
        if self.state.fetch_or(WOKEN, Ordering::AcqRel) & ARMED != 0 {
            self.cancel();
        }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.state.load(Ordering::Acquire) & CANCELLED != 0
    }

    /// Returns when the request has been cancelled.
    pub(super) async fn cancelled(&self) {
        self.cancelled.notified().await;
    }

    fn cancel(&self) {
        self.state.fetch_or(CANCELLED, Ordering::AcqRel);
        self.cancelled.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn only_a_reset_before_the_answer_cancels() {
        type Step = fn(&Cancellation);
        let (arm, disarm, wake): (Step, Step, Step) =
            (Cancellation::arm, Cancellation::disarm, Cancellation::wake);
        for (steps, is_cancelled) in [
            (&[arm][..], false),
            (&[wake], false),
            (&[arm, wake], true),
            (&[wake, arm], true),
            (&[arm, disarm, wake], false),
            (&[arm, wake, disarm], true),
        ] {
            let cancellation = Cancellation::default();
            for step in steps {
                step(&cancellation);
            }
            assert_eq!(cancellation.is_cancelled(), is_cancelled);
            assert_eq!(cancellation.cancelled().now_or_never().is_some(), is_cancelled);
        }
    }
}
