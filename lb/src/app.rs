//! The only wiring: makes every part, gives each its handle, and runs them as services of one Pingora server.
//!
//! The process ends when the supervisor has ended, which is after the last request and the last replica; Pingora's
//! own grace period would always be waited for in full. One that takes over from another serves from the moment on at
//! which it keeps the replicas.

mod nursery;
mod services;
mod state;

use std::{
    env,
    io::Write,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::AtomicBool,
        mpsc::{self as blocking, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use pingora::{
    proxy::http_proxy,
    server::{RunArgs, Server, configuration::ServerConf},
    services::background::background_service,
};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{info, warn};

use self::{
    nursery::{Known, Nursery, seed},
    services::{AdminService, Gate, ProxyService, ReloadService, Signals, SupervisorService},
    state::remember,
};
use crate::{
    admin::{self, Access, AdminState, ListenerLimits, OpenConnections, Rules, rfc3339},
    banner::{self, Addresses},
    config::{ATTEMPTS_MAX, Config, Loaded, Source},
    descriptors,
    engine::{Holds, Origin},
    events, listen,
    metrics::Metrics,
    privileges,
    proxy::{AccessLog, Connections, Front, Ledger, Proxy},
    reload::{InForce, Reloader},
    routes::Pool,
    supervisor::{Handle, Memory, OnBegun, OnReady, Supervisor},
    systemd, tls,
    upgrade::{Predecessor, Sockets, Stage, Upgrader, own_program},
};

/// Questions that may wait for the supervisor; more are told that it is busy.
const ASKS_MAX: usize = 256;

/// Reports of heartbeats and exits that may wait; more make their reporters wait.
const NEWS_MAX: usize = 1024;

/// How long the supervisor may take past the grace period before the process ends without it.
const OVERTIME: Duration = Duration::from_secs(3);

/// Runs the balancer until it is told to end, and has.
///
/// With `take_over`, a cluster that another balancer holds is taken from it.
pub(crate) fn run(loaded: Loaded, source: Source, take_over: bool) -> anyhow::Result<()> {
    let began = Instant::now();
    let Loaded { config, effective, .. } = loaded.clone();
    let program = env::current_exe().context("finding this program's own file")?;
    let mut predecessor = Predecessor::meet(&config.cluster)?;
    let sockets = Arc::new(Sockets::default());
    let mut bind = |key, addr| bind(key, addr, predecessor.as_mut(), &sockets);
    let (listener, addr) = bind("listen", config.listen)?;
    let secure = config.tls.listen.map(|addr| bind("tls.listen", addr)).transpose()?;
    let secure_addr = secure.as_ref().map(|(_, addr)| *addr);
    let (admin_listener, admin_addr) = bind("admin.listen", config.admin.listen)?;
    info!(proxy = %addr, tls = secure_addr.map(display), admin = %admin_addr, "Listening");
    privileges::warn_of_root();
    let access = Access::load(&config.admin)?;
    let tls = tls::acceptor(&config.tls)?;
    let lock = predecessor.as_mut().and_then(Predecessor::lock);
    let (memory, recollection) = remember(&config, lock)?;
    let holds = Arc::new(Holds::new(
        &config.cluster,
        Origin {
            admin: admin_addr,
            since: rfc3339(SystemTime::now()),
            predecessor: predecessor.as_ref().map(Predecessor::pid),
            take_over,
        },
    ));
    // A process that hands over holds them until it stands still.
    if predecessor.is_none() {
        acquire(&holds, &config)?;
    }

    let metrics = Arc::new(Metrics::new()?);
    let (handle, asks) = Handle::new(ASKS_MAX);
    let (reporter, news) = mpsc::channel(NEWS_MAX);
    // The supervisor alone publishes, so the history ends with it.
    let (publisher, events) = events::channel();
    let nursery = Nursery {
        cluster: config.cluster.clone(),
        holds: holds.clone(),
        metrics: metrics.clone(),
        scribe: memory.as_ref().map(Memory::scribe),
        news: reporter,
        events: publisher.clone(),
        program,
    };
    let access_log = config.access_log.then(|| start_access_log(&metrics)).transpose()?;
    let legacy = predecessor.as_mut().map(Predecessor::legacy).transpose()?;
    let keepers = nursery.keepers(&config.pools, recollection, legacy.unwrap_or_default())?;

    let pools = keepers.iter().map(|it| it.pool().clone()).collect();
    let rules = Rules { pools: config.pools.clone(), access, effective: effective.masked() };
    let in_force = InForce::new(&config, tls, rules, pools);
    let connections = Connections::default();
    let ledger = Ledger::new(metrics.requests(), access_log.clone());
    let render = render(metrics.clone(), in_force.pools.clone(), connections.clone());
    let reloader =
        Arc::new(Reloader::new(source, loaded, handle.clone(), metrics, in_force.clone()));
    let rules = in_force.rules.clone();
    let (stage, is_accepting) = (watch::Sender::new(Stage::Running), watch::Sender::new(true));
    let upgrader = Arc::new(Upgrader {
        handle: handle.clone(),
        cluster: config.cluster.clone(),
        program: own_program().context("finding what this process was started from")?,
        arguments: env::args_os().skip(1).collect(),
        sockets: sockets.clone(),
        holds: holds.clone(),
        lock: Mutex::new(memory.as_ref().map(Memory::lock).transpose()?),
        stage: stage.clone(),
        is_accepting: is_accepting.subscribe(),
        is_busy: AtomicBool::new(false),
    });
    let admin =
        admin::router(AdminState::new(handle, rules, reloader.clone(), upgrader, render, events));
    let proxy = Proxy::new(in_force.settings.clone(), admin.clone(), ledger.clone(), seed());

    let forced = Arc::new(AtomicBool::new(false));
    let operators = OpenConnections::default();
    let is_first = predecessor.is_none();
    let (on_begun, [proxy_gate, admin_gate]) = gates(predecessor);
    let supervisor = Supervisor {
        keepers,
        make_keeper: Box::new(move |index, name, config| {
            nursery.keeper(index, name, config, Known::default())
        }),
        events: publisher,
        asks,
        news,
        connections_open: {
            let connections = connections.clone();
            Box::new(move || connections.count())
        },
        forced: forced.clone(),
        grace: config.grace_period,
        operators_open: {
            let operators = operators.clone();
            Box::new(move || operators.count())
        },
        leaving_grace: config.upgrade_grace_period,
        on_begun,
        on_ready: Some(greeting(
            Addresses { proxy: addr, secure: secure_addr, admin: admin_addr },
            began,
        )),
        freezing: None,
        is_frozen: false,
    };
    let (ended_sender, ended) = blocking::channel();
    let (closing_sender, closing) = blocking::channel();

    let mut server = Server::new_with_opt_and_conf(None, server_conf(&config));
    server.bootstrap();
    let proxy = http_proxy(&server.configuration, proxy);
    let secure_port = secure_addr.map(|it| it.port());
    let front = Front::new(proxy, in_force.settings, connections, ledger, secure_port);
    let listeners = [(listener, addr)].into_iter().chain(secure).collect();
    server.add_service(ProxyService::new(
        listeners,
        front,
        threads(&config),
        proxy_gate,
        is_accepting,
    ));
    server.add_service(AdminService {
        listener: Some(admin_listener),
        addr: admin_addr,
        admin,
        limits: ListenerLimits::of(&config.admin),
        open: operators,
        stage: stage.subscribe(),
        gate: admin_gate,
    });
    let supervisor = SupervisorService::new(supervisor, holds, ended_sender);
    server.add_service(background_service("supervisor", supervisor));
    let reload = ReloadService { reloader, watch: config.watch_config };
    server.add_service(background_service("reload", reload));
    let signals = Signals { forced, stage, sockets, closing: closing_sender };
    // Its runtimes end with the process; waiting for them would be waiting out Pingora's grace period.
    thread::Builder::new()
        .name("server".to_owned())
        .spawn(move || server.run(RunArgs { shutdown_signal: Box::new(signals) }))
        .context("starting the server's thread")?;
    if is_first {
        systemd::tell(systemd::State::Ready);
    }
    let Ok(stage) = closing.recv() else { bail!("the server ended by itself") };
    let (mut memory, mut grace) = (memory, config.grace_period);
    if stage == Stage::HandedOver {
        grace = config.upgrade_grace_period;
        // Should the process that has taken over crash, the next one must find the file free.
        if let Some(memory) = memory.take() {
            memory.close(false);
        }
    }
    wait(&ended, grace)?;
    if let Some(memory) = memory {
        memory.close(config.state_file.is_none());
    }
    if let Some(access_log) = access_log {
        access_log.flush();
    }
    Ok(())
}

/// Takes the cluster on the engine of every pool of containers; an error if another balancer holds it.
fn acquire(holds: &Holds, config: &Config) -> anyhow::Result<()> {
    // The server's own runtimes do not run yet.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(holds.acquire(config))?)
}

fn start_access_log(metrics: &Metrics) -> anyhow::Result<AccessLog> {
    AccessLog::start(metrics.access_log_dropped()).context("starting the access log's thread")
}

/// Listens on `configured`, by the socket of the process that hands over if it has one.
fn bind(
    key: &'static str,
    configured: SocketAddr,
    predecessor: Option<&mut Predecessor>,
    sockets: &Sockets,
) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = match predecessor.and_then(|it| it.socket(key, configured)) {
        Some(listener) => listener,
        None => listen::bind(key, configured)?,
    };
    sockets.add(key, configured, &listener)?;
    let addr = listener.local_addr()?;
    Ok((listener, addr))
}

/// Where another process serves, this one begins to once it keeps the replicas, and tells the other one.
fn gates(predecessor: Option<Predecessor>) -> (Option<OnBegun>, [Gate; 2]) {
    let Some(predecessor) = predecessor else { return (None, [None, None]) };
    let (open_proxy, proxy) = oneshot::channel();
    let (open_admin, admin) = oneshot::channel();
    let on_begun = move || {
        // Then it has ended, or is about to end this process.
        if let Err(error) = predecessor.serving() {
            warn!(%error, "The process that hands over does not listen");
        }
        // The services may have ended already.
        let _ = open_proxy.send(());
        let _ = open_admin.send(());
    };
    (Some(Box::new(on_begun)), [Some(proxy), Some(admin)])
}

/// Prints what runs where, once it does.
fn greeting(addresses: Addresses, began: Instant) -> OnReady {
    Box::new(move |pools| {
        let text = banner::text(&addresses, pools, began.elapsed());
        // Who starts it without a standard output does not want to read it.
        let _ = std::io::stdout().write_all(text.as_bytes());
    })
}

/// Waits for the end of the supervisor, whose clients have so long.
fn wait(ended: &blocking::Receiver<()>, grace: Duration) -> anyhow::Result<()> {
    match ended.recv_timeout(grace + OVERTIME) {
        Ok(()) => Ok(()),
        Err(RecvTimeoutError::Timeout) => {
            bail!("replicas were left running: they did not stop within the grace period")
        }
        Err(RecvTimeoutError::Disconnected) => bail!("the supervisor ended before its replicas"),
    }
}

/// The metrics as text; what changes with every request is gathered when it is asked for.
fn render(
    metrics: Arc<Metrics>,
    pools: Arc<ArcSwap<Vec<Arc<Pool>>>>,
    connections: Connections,
) -> Arc<admin::RenderMetrics> {
    Arc::new(move || {
        metrics.set_connections(connections.count());
        for pool in pools.load().iter() {
            metrics.set_ejected(&pool.name, pool.ejected_now());
            let (open, waiting, retrying) = pool.requests();
            metrics.set_requests(&pool.name, open, waiting, retrying);
            metrics.set_in_flight(&pool.name, &pool.loads());
        }
        metrics.render().unwrap_or_else(|error| {
            warn!(%error, "The metrics cannot be rendered");
            String::new()
        })
    })
}

fn threads(config: &Config) -> usize {
    match config.threads {
        0 => thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

fn server_conf(config: &Config) -> ServerConf {
    let threads = threads(config);
    ServerConf {
        threads,
        listener_tasks_per_fd: threads,
        // Pingora takes it times the threads.
        upstream_keepalive_pool_size: (descriptors::upstream_idle_max() / threads).max(1),
        // Pingora counts attempts; each pool has its own limit below this one.
        // One more for a kept connection that was closed meanwhile.
        max_retries: ATTEMPTS_MAX + 1,
        grace_period_seconds: Some(
            (config.grace_period.max(config.upgrade_grace_period) + OVERTIME).as_secs(),
        ),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    }
}
