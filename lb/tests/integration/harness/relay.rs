//! A unix socket in front of the engine's, which can be cut off: to whoever uses it, the engine is gone then.

use std::{path::PathBuf, sync::Arc};

use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{UnixListener, UnixStream},
    task::{JoinHandle, JoinSet},
};

/// The way to the engine.
pub(crate) struct Relay {
    folder: Arc<TempDir>,
    serving: Option<JoinHandle<()>>,
}

impl Relay {
    pub(crate) fn open() -> Self {
        let mut relay = Self { folder: Arc::new(tempfile::tempdir().unwrap()), serving: None };
        relay.restore();
        relay
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// Breaks all connections, and takes no more.
    pub(crate) async fn cut(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
            std::fs::remove_file(self.socket()).unwrap();
        }
    }

    pub(crate) fn restore(&mut self) {
        // The one that `docker` speaks to: on this machine, or it would have no socket.
        let host = std::env::var("DOCKER_HOST").unwrap_or_default();
        let engine = host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock").to_owned();
        let listener = UnixListener::bind(self.socket()).unwrap();
        self.serving = Some(tokio::spawn(async move {
            // Ends its tasks when it is dropped.
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let engine = engine.clone();
                connections.spawn(async move {
                    let mut engine = UnixStream::connect(engine).await?;
                    copy_bidirectional(&mut client, &mut engine).await
                });
            }
        }));
    }
}
