//! A replica's life on its socket: serve, be told to stop (or notice that nobody cares), drain.

use std::{io, pin::pin, sync::Arc, time::Duration};

use axum::serve::ListenerExt;
use tokio::{
    net::TcpListener,
    sync::{Notify, oneshot},
    time::timeout,
};

use crate::{Replica, http, say};

/// Serves `replica` on `listener` until `shutdown` completes or nobody has asked for a heartbeat
/// for `exit_without_heartbeat`. Then it accepts no more, and returns when every request in flight
/// is answered, or after `grace` at the latest.
///
/// # Cancel safety
///
/// Dropping the future stops accepting; what is in flight is finished by the tasks of its
/// connections.
pub async fn run(
    listener: TcpListener,
    replica: Replica,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let beats = Arc::new(Notify::new());
    let router = http::router(&replica, beats.clone());
    let Replica { name, behaviour, .. } = replica;
    let listener = listener.tap_io(|socket| {
        // A socket that refuses is only slower, or already closed: then its first read says so.
        let _ = socket.set_nodelay(true);
    });
    let (drain, draining) = oneshot::channel::<()>();
    let server = axum::serve(listener, router).with_graceful_shutdown(async {
        let _ = draining.await; // Ends when `drain` is dropped.
    });
    let mut server = pin!(server.into_future());

    tokio::select! {
        result = &mut server => return result,
        () = shutdown => {}
        limit = forgotten(&beats, behaviour.exit_without_heartbeat) => {
            say::log(&format!("{name}: no heartbeat for {} s: stopping", limit.as_secs()));
        }
    }
    drop(drain);
    timeout(behaviour.grace, server).await.unwrap_or_else(|_| {
        let grace = behaviour.grace.as_millis();
        say::log(&format!("{name}: requests still in flight after {grace} ms were abandoned"));
        Ok(())
    })
}

/// Completes with `limit` once no heartbeat was asked for during it.
async fn forgotten(beats: &Notify, limit: Option<Duration>) -> Duration {
    let Some(limit) = limit else {
        return std::future::pending().await;
    };
    while timeout(limit, beats.notified()).await.is_ok() {}
    limit
}
