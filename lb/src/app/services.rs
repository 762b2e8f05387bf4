//! The services of the one Pingora server, and the signals that end it.

use std::{
    net::{SocketAddr, TcpListener},
    os::fd::IntoRawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use async_trait::async_trait;
use pingora::{
    listeners::{L4BufferSettings, ListenerConfig},
    server::{ListenFds, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch},
    services::{Service, background::BackgroundService, listening},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Mutex, oneshot, watch},
    time::sleep,
};
use tracing::{info, warn};

use crate::{
    admin::{self, ListenerLimits, OpenConnections},
    engine::Holds,
    proxy::Front,
    reload::Reloader,
    supervisor::Supervisor,
    systemd,
    upgrade::{self, Sockets, Stage},
};

/// How often the configuration is looked at, if it is watched.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

/// Ends the server on SIGTERM or SIGINT, or when another process has taken over; a further signal forces what still runs.
pub(super) struct Signals {
    pub(super) forced: Arc<AtomicBool>,
    pub(super) stage: watch::Sender<Stage>,
    pub(super) sockets: Arc<Sockets>,
    pub(super) closing: mpsc::Sender<Stage>,
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let (Ok(mut terminate), Ok(mut interrupt)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            warn!("Signals cannot be received; the balancer ends");
            return ShutdownSignal::FastShutdown;
        };
        let mut stage = self.stage.subscribe();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = stage.wait_for(|it| *it == Stage::HandedOver) => {}
        }
        if upgrade::leave(&self.stage, Stage::Closing) {
            info!("Closing: no new connections; a second signal ends requests in progress");
            systemd::tell(systemd::State::Stopping);
        }
        self.sockets.close();
        // Fails only if the main thread has ended, and the process with it.
        let _ = self.closing.send(*stage.borrow());
        let forced = self.forced.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            forced.store(true, Ordering::Release);
        });
        ShutdownSignal::GracefulTerminate
    }
}

/// The proxy on sockets that are bound already.
pub(super) struct ProxyService {
    /// Taken by the one start.
    listeners: Vec<(TcpListener, SocketAddr)>,
    inner: listening::Service<Front>,
    threads: usize,
    gate: Gate,
    /// Told when it has ended.
    is_accepting: watch::Sender<bool>,
}

/// Opens when this process has taken over from another; `None` where there is none.
pub(super) type Gate = Option<oneshot::Receiver<()>>;

/// False if it will not open.
async fn opened(gate: &mut Gate) -> bool {
    match gate.take() {
        Some(gate) => gate.await.is_ok(),
        None => true,
    }
}

impl ProxyService {
    pub(super) fn new(
        listeners: Vec<(TcpListener, SocketAddr)>,
        front: Front,
        threads: usize,
        gate: Gate,
        is_accepting: watch::Sender<bool>,
    ) -> Self {
        let mut inner = listening::Service::new("proxy".to_owned(), front);
        for (_, addr) in &listeners {
            // The proxy reads and writes through buffers of its own, which idle connections do not have.
            let unbuffered = L4BufferSettings::unbuffered();
            inner.add_listener(ListenerConfig::tcp(addr.to_string()).l4_buffer(unbuffered));
        }
        Self { listeners, inner, threads, gate, is_accepting }
    }
}

#[async_trait]
impl Service for ProxyService {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        if !opened(&mut self.gate).await {
            return;
        }
        // Pingora looks for a socket among those inherited from an older process before it binds its own.
        if let Some(fds) = &fds {
            for (listener, addr) in self.listeners.drain(..) {
                fds.lock().add(addr.to_string(), listener.into_raw_fd());
            }
        }
        self.inner.start_service(fds, shutdown, listeners_per_fd).await;
        self.is_accepting.send_replace(false);
    }

    fn name(&self) -> &str {
        "proxy"
    }

    fn threads(&self) -> Option<usize> {
        Some(self.threads)
    }
}

/// The operator's listener. It answers until the process ends, so that a drain can be watched; or until another process
/// answers there.
pub(super) struct AdminService {
    pub(super) listener: Option<TcpListener>,
    pub(super) addr: SocketAddr,
    pub(super) admin: axum::Router,
    pub(super) limits: ListenerLimits,
    pub(super) open: OpenConnections,
    pub(super) stage: watch::Receiver<Stage>,
    pub(super) gate: Gate,
}

#[async_trait]
impl Service for AdminService {
    async fn start_service(&mut self, _: Option<ListenFds>, _: ShutdownWatch, _: usize) {
        let Some(listener) = self.listener.take() else { return };
        if !opened(&mut self.gate).await {
            return;
        }
        let mut stage = self.stage.clone();
        let handed_over = async move {
            if stage.wait_for(|it| *it == Stage::HandedOver).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => {
                let open = self.open.clone();
                admin::serve(listener, self.admin.clone(), self.limits, open, handed_over).await;
            }
            Err(error) => warn!(addr = %self.addr, %error, "The admin listener failed"),
        }
    }

    fn name(&self) -> &str {
        "admin"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }
}

/// Reloads the configuration on SIGHUP, and when its file changes if it is watched.
pub(super) struct ReloadService {
    pub(super) reloader: Arc<Reloader>,
    pub(super) watch: bool,
}

#[async_trait]
impl BackgroundService for ReloadService {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let Ok(mut hang_up) = signal(SignalKind::hangup()) else {
            warn!("SIGHUP cannot be received; `ringmaster reload` does the same");
            return;
        };
        let reloads = async {
            loop {
                tokio::select! {
                    _ = hang_up.recv() => {}
                    () = self.file_is_new(), if self.watch => {}
                }
                // What came of it is logged.
                let _ = self.reloader.reload(false).await;
            }
        };
        tokio::select! {
            _ = shutdown.wait_for(|&down| down) => {}
            () = reloads => {}
        }
    }
}

impl ReloadService {
    async fn file_is_new(&self) {
        while !self.reloader.is_outdated().await {
            sleep(WATCH_PAUSE).await;
        }
    }
}

/// The supervisor; it says when it has ended, and the clusters that it kept are let go.
pub(super) struct SupervisorService {
    /// Taken by the one start.
    supervisor: Mutex<Option<Supervisor>>,
    holds: Arc<Holds>,
    ended: mpsc::Sender<()>,
}

impl SupervisorService {
    pub(super) fn new(supervisor: Supervisor, holds: Arc<Holds>, ended: mpsc::Sender<()>) -> Self {
        Self { supervisor: Mutex::new(Some(supervisor)), holds, ended }
    }
}

#[async_trait]
impl BackgroundService for SupervisorService {
    async fn start(&self, shutdown: ShutdownWatch) {
        if let Some(supervisor) = self.supervisor.lock().await.take() {
            supervisor.run(shutdown).await;
            self.holds.release().await;
            // Fails only if the main thread has ended, and the process with it.
            let _ = self.ended.send(());
        }
    }
}
