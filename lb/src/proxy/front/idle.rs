//! What ends the wait for a connection's next request. It is kept with the connection: to begin to wait costs more than to
//! go on waiting.

use std::{pin::Pin, time::Duration};

use pingora::server::ShutdownWatch;
use tokio::time::{Instant, Sleep, sleep};

use crate::config::ClientConfig;

pub(super) struct Idle {
    late: Pin<Box<Sleep>>,
    closed: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Idle {
    pub(super) fn new(mut shutdown: ShutdownWatch, limits: &ClientConfig) -> Self {
        let patience = limits.keepalive_min_timeout;
        let closed = async move {
            // Fails only when the server is gone, and then it is closed, too.
            let _ = shutdown.wait_for(|&down| down).await;
            sleep(patience).await;
        };
        Self { late: Box::pin(sleep(limits.header_timeout)), closed: Box::pin(closed) }
    }

    /// Ends after `wait`, or a while after the balancer has begun to close. Not to be called again when it has.
    pub(super) async fn ends(&mut self, wait: Duration) {
        self.late.as_mut().reset(Instant::now() + wait);
        tokio::select! {
            biased;
            () = &mut self.late => {}
            () = &mut self.closed => {}
        }
    }
}
