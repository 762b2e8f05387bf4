//! Another configuration while the balancer runs: read, checked, and put in the place of the one before, as a whole
//! or not at all.
//!
//! ```text
//!   SIGHUP, POST /api/v1/reload, a changed file ──▶ Reloader: read → check → supervisor: prepare
//!                                                     ├ refused: nothing has changed
//!                                                     └ pools go on or begin → publish → dropped pools drain
//! ```
//!
//! Invariants: one reload at a time; requests see a pool's settings before it is let go of, and never those of two
//! configurations.

use std::{sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use crate::{
    admin::{Access, AccessError, Rules},
    config::{Config, ConfigError, Loaded, Source, written},
    events::Reloaded,
    metrics::{Metrics, REFUSED, RELOADED},
    proxy::Settings,
    routes::{Pool, Router},
    supervisor::{AskError, Handle},
    systemd,
    tls::{self, TlsError},
};

/// What requests and operators go by, replaced by each reload.
#[derive(Clone)]
pub(crate) struct InForce {
    pub(crate) settings: Arc<ArcSwap<Settings>>,
    pub(crate) rules: Arc<ArcSwap<Rules>>,
    pub(crate) pools: Arc<ArcSwap<Vec<Arc<Pool>>>>,
}

impl InForce {
    /// What `config`, `tls` and `rules`, which come of the same file, say of `pools`.
    pub(crate) fn new(
        config: &Config,
        tls: Option<TlsAcceptor>,
        rules: Rules,
        pools: Vec<Arc<Pool>>,
    ) -> Self {
        Self {
            settings: Arc::new(ArcSwap::from_pointee(Settings::new(
                config,
                Router::new(&config.routes, &pools),
                tls,
            ))),
            rules: Arc::new(ArcSwap::from_pointee(rules)),
            pools: Arc::new(ArcSwap::from_pointee(pools)),
        }
    }
}

/// Why a configuration was not put in place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    /// There is no file to read again.
    #[error("the balancer was started without a configuration: start it with -c FILE to reload")]
    NoFile,
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The tokens that it refers to cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The certificates that it refers to cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Supervisor(#[from] AskError),
}

/// Puts configurations in place.
pub(crate) struct Reloader {
    source: Source,
    handle: Handle,
    metrics: Arc<Metrics>,
    in_force: InForce,
    current: Mutex<Loaded>,
    /// When the file was written that was read last, be it good or bad.
    seen: Mutex<Option<SystemTime>>,
}

impl Reloader {
    /// `current` was read from `source`.
    pub(crate) fn new(
        source: Source,
        current: Loaded,
        handle: Handle,
        metrics: Arc<Metrics>,
        in_force: InForce,
    ) -> Self {
        let seen = Mutex::new(current.written);
        Self { source, handle, metrics, in_force, current: Mutex::new(current), seen }
    }

    /// Reads the file again, and puts in place what it says; with `dry_run` only tells what that would change.
    pub(crate) async fn reload(&self, dry_run: bool) -> Result<Reloaded, ReloadError> {
        let mut current = self.current.lock().await;
        if dry_run {
            return self.try_reload(&mut current, dry_run).await;
        }
        systemd::tell(systemd::State::Reloading);
        let reloaded = self.try_reload(&mut current, dry_run).await;
        match &reloaded {
            Ok(Reloaded { changed, needs_restart }) => {
                self.metrics.reloaded(RELOADED);
                info!(?changed, ?needs_restart, "The configuration was reloaded");
            }
            Err(error) => {
                self.metrics.reloaded(REFUSED);
                warn!(%error, "The configuration was not reloaded; the one before stays in force");
            }
        }
        // Refused or not: the balancer serves by the configuration in force.
        systemd::tell(systemd::State::Ready);
        reloaded
    }

    async fn try_reload(
        &self,
        current: &mut Loaded,
        dry_run: bool,
    ) -> Result<Reloaded, ReloadError> {
        let path = self.source.path.as_deref().ok_or(ReloadError::NoFile)?;
        *self.seen.lock().await = written(path);
        let next = self.source.read()?;
        let changed = current.differences(&next);
        let effective = next.effective.clone();
        let (config, needs_restart) = current.config.successor(next.config);
        config.check_addresses(path)?;
        let reloaded = Reloaded { changed, needs_restart };
        let access = Access::load(&config.admin)?;
        let tls = tls::acceptor(&config.tls)?;
        if !dry_run {
            let rules =
                Rules { pools: config.pools.clone(), access, effective: effective.masked() };
            let publish = self.publisher(&config, tls, rules);
            self.handle.reconfigure(config.pools.clone(), reloaded.clone(), publish).await?;
            *current = Loaded { config, effective, written: next.written };
        }
        Ok(reloaded)
    }

    /// What puts everything but the supervisor's pools in place, once it is told of those.
    fn publisher(
        &self,
        config: &Config,
        tls: Option<TlsAcceptor>,
        rules: Rules,
    ) -> Box<dyn FnOnce(Vec<Arc<Pool>>) + Send> {
        let (config, in_force) = (config.clone(), self.in_force.clone());
        Box::new(move |pools| {
            let router = Router::new(&config.routes, &pools);
            in_force.settings.store(Arc::new(Settings::new(&config, router, tls)));
            in_force.rules.store(Arc::new(rules));
            in_force.pools.store(Arc::new(pools));
        })
    }

    /// Whether the file was written since it was read; not while it is missing, as an editor may be replacing it.
    pub(crate) async fn is_outdated(&self) -> bool {
        let Some(written) = self.source.path.as_deref().and_then(written) else { return false };
        *self.seen.lock().await != Some(written)
    }
}
