//! The configuration: what may be set, its defaults, and a validated, immutable [`Config`].
//!
//! Past this module nobody checks a value again: a [`Config`] exists only if every rule held.
//! Every key is documented in `conf/ringmaster.yaml`, which a test holds equal to [`Config::default`].

mod docker;
mod effective;
mod fault;
mod forms;
#[cfg(any(fuzzing, test))]
mod fuzz;
mod heartbeat;
pub(crate) mod names;
mod nearest;
mod own;
mod pool;
mod reader;
mod sections;
mod succession;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use ringmaster_fleet::{Algorithm, Bound, Host, Limits, ReplicaName};

#[cfg(any(fuzzing, test))]
pub(crate) use self::fuzz::fuzz;
use self::{effective::Effective, fault::Fault};
pub(crate) use self::{fault::ConfigError, heartbeat::Statuses};
use crate::encoding;

/// The most replicas that may be tried for one request.
pub(crate) const ATTEMPTS_MAX: usize = 8;

/// Everything the balancer was told at its start.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    /// Where clients are served.
    pub(crate) listen: SocketAddr,
    /// Worker threads of the proxy; 0 stands for one per core.
    pub(crate) threads: usize,
    /// How long requests in progress may take to finish after SIGTERM.
    pub(crate) grace_period: Duration,
    /// How long they may take once another process has taken over.
    pub(crate) upgrade_grace_period: Duration,
    /// Where the wanted set is kept for a later balancer; `None` for a file that lasts until a clean end.
    pub(crate) state_file: Option<PathBuf>,
    /// Whether a change of the file is a reload.
    pub(crate) watch_config: bool,
    /// Whether each request is written to the access log.
    pub(crate) access_log: bool,
    /// Whether answers say which replica was chosen, and why, in `X-Ringmaster`.
    pub(crate) explain_header: bool,
    /// Whose `X-Forwarded-*` and `X-Request-Id` headers are believed.
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) admin: AdminConfig,
    pub(crate) tls: TlsConfig,
    pub(crate) client: ClientConfig,
    /// In the labels of containers: those of other clusters are not touched.
    pub(crate) cluster: String,
    /// The first match wins.
    pub(crate) routes: Vec<RouteConfig>,
    pub(crate) pools: BTreeMap<String, PoolConfig>,
}

/// The operator's door.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AdminConfig {
    pub(crate) listen: SocketAddr,
    /// Addresses that may call without a token.
    pub(crate) trust: Vec<IpNet>,
    /// Paths that the proxy's own listener answers itself.
    pub(crate) reserved_paths: Vec<String>,
    /// One `ROLE TOKEN` a line.
    pub(crate) tokens_file: Option<PathBuf>,
    pub(crate) lockout: LockoutConfig,
    /// For the whole head of a request, and between two of them.
    pub(crate) header_timeout: Duration,
    /// On the admin listener; more wait until one ends.
    pub(crate) connections_max: usize,
}

/// When an address that presents bad tokens is not listened to any longer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LockoutConfig {
    /// So many within `window` lock it out; 0 for never.
    pub(crate) failures: u32,
    pub(crate) window: Duration,
    pub(crate) duration: Duration,
}

/// Clients over TLS.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TlsConfig {
    /// Where they are served; nowhere when `None`.
    pub(crate) listen: Option<SocketAddr>,
    /// At least one where there is a `listen`. The first is for clients that name no host, or an unknown one.
    pub(crate) certificates: Vec<CertificateConfig>,
    /// Whether clients may choose HTTP/2.
    pub(crate) http2: bool,
    pub(crate) handshake_timeout: Duration,
}

/// A chain of certificates and its private key, both PEM.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CertificateConfig {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// What a client may take: time and bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClientConfig {
    /// From a request's first byte to the end of its head; for a new connection, from its opening.
    pub(crate) header_timeout: Duration,
    /// How long a connection may stay open between two requests.
    pub(crate) keepalive_timeout: Duration,
    /// How long an idle connection is kept all the same when the balancer closes.
    pub(crate) keepalive_min_timeout: Duration,
    /// The longest silence while a request's body is read.
    pub(crate) read_timeout: Duration,
    /// The least rate of a body that has taken longer than `read_timeout`; 0 for none.
    pub(crate) body_bytes_per_second_min: u32,
    /// The longest a write to the client may block.
    pub(crate) write_timeout: Duration,
    pub(crate) uri_bytes_max: usize,
    /// The whole head, request line included.
    pub(crate) header_bytes_max: usize,
    pub(crate) headers_max: usize,
    pub(crate) underscores_in_headers: Underscores,
    pub(crate) body_bytes_max: u64,
    pub(crate) requests_per_connection_max: u32,
    pub(crate) connections_max: usize,
    /// Of one address, or of one IPv6 network of 64 bits.
    pub(crate) connections_per_client_max: usize,
    pub(crate) http2: Http2Config,
}

/// What becomes of header fields with an underscore in their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Underscores {
    Drop,
    /// But for those that may be taken for a field that the balancer sets, removes or acts on.
    Pass,
    Refuse,
}

/// What one HTTP/2 connection may take besides.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Http2Config {
    /// Requests at the same time.
    pub(crate) streams_max: u32,
    /// Requests that the client gives up.
    pub(crate) resets_per_minute_max: u32,
    /// Frames that carry no request and no body.
    pub(crate) control_frames_per_minute_max: u32,
}

/// Which requests go to which pool.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RouteConfig {
    /// The host name, lower case, without a port and without the dot of the root; any when `None`. An IPv6 address is in
    /// brackets, in its shortest form.
    pub(crate) host: Option<String>,
    /// Matches whole path segments: `/api` takes `/api` and `/api/x`, not `/apix`.
    pub(crate) path_prefix: String,
    pub(crate) pool: String,
}

/// One set of interchangeable replicas.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PoolConfig {
    pub(crate) provider: ProviderConfig,
    /// The replicas wanted at the start, explicit names first.
    pub(crate) replicas: usize,
    pub(crate) names: Vec<Host>,
    pub(crate) algorithm: Algorithm,
    pub(crate) key: KeySource,
    /// `None` when bounded load is off.
    pub(crate) bounded_load: Option<Bound>,
    pub(crate) slow_start: Duration,
    pub(crate) heartbeat: HeartbeatConfig,
    /// `replicas_max` is at most what the table has room for, and what a fixed provider has addresses for.
    pub(crate) limits: Limits,
    /// From SIGTERM to SIGKILL.
    pub(crate) stop_grace: Duration,
    /// From their routing to their end, held ones included.
    pub(crate) requests_max: u32,
    pub(crate) hold: HoldConfig,
    pub(crate) ejection: EjectionConfig,
    pub(crate) upstream: UpstreamConfig,
}

/// Who runs the replicas.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ProviderConfig {
    /// Processes of this binary on free loopback ports.
    Process(ServerId),
    /// Containers of an engine.
    Docker(DockerConfig),
    /// Services of a Swarm, on an overlay network. Without a spawner.
    Swarm(DockerConfig),
    /// Addresses that somebody else runs.
    Fixed(BTreeMap<ReplicaName, SocketAddr>),
}

/// What the containers are made from, and where.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DockerConfig {
    pub(crate) image: String,
    /// In place of the image's own; empty to keep it.
    pub(crate) command: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    /// Created if it is missing.
    pub(crate) network: String,
    /// That the replicas listen on, unless their own name says another.
    pub(crate) port: u16,
    pub(crate) memory_mb: u64,
    /// Thousandths of a core.
    pub(crate) cpu_millis: u64,
    pub(crate) pids: u64,
    /// Whether they cannot write to their root file system.
    pub(crate) read_only: bool,
    /// The engine's; if `None`, what `DOCKER_HOST` says, or Docker's default.
    pub(crate) socket: Option<PathBuf>,
    /// Of a process that speaks to the engine in our place.
    pub(crate) spawner: Option<PathBuf>,
    /// `SERVER_ID`, unless `environment` has it.
    pub(crate) server_id: ServerId,
}

/// What a replica is told to call itself in its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerId {
    Number,
    Name,
}

/// What a request is placed by.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum KeySource {
    /// `X-Request-Id`, else a random 6-digit id.
    RequestId,
    ClientIp,
    Path,
    Header(HeaderName),
    Cookie(String),
    Query(String),
}

/// How replicas are probed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HeartbeatConfig {
    pub(crate) path: String,
    /// In addition to a probe's own, or in their place: `Host`, which is the replica's address unless configured, and the
    /// configured headers.
    pub(crate) fields: HeaderMap,
    /// That an answer must have one of.
    pub(crate) statuses: Statuses,
    pub(crate) interval: Duration,
    /// Always less than `interval`.
    pub(crate) timeout: Duration,
}

/// How requests wait while no replica serves.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HoldConfig {
    pub(crate) timeout: Duration,
    pub(crate) requests_max: usize,
    /// Their heads, and what is kept of their bodies.
    pub(crate) bytes_max: usize,
}

/// When a replica is passed over for what it did to requests, whatever its heartbeats say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EjectionConfig {
    /// Failed connections in a row; 0 for never.
    pub(crate) connect_failures: u32,
    /// The part of its last `answers` that are 500 or above; 0 for never.
    pub(crate) server_error_percent: u32,
    pub(crate) answers: u32,
    /// The first ejection; each further one is twice as long, up to `max`.
    pub(crate) base: Duration,
    pub(crate) max: Duration,
    /// Of the replicas that serve.
    pub(crate) max_percent: u32,
    /// Whether ejected ones are used when there is no other.
    pub(crate) fail_open: bool,
}

/// How replicas are spoken to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UpstreamConfig {
    pub(crate) connect_timeout: Duration,
    /// The longest silence of a replica.
    pub(crate) read_timeout: Duration,
    pub(crate) write_timeout: Duration,
    /// How long an unused connection is kept.
    pub(crate) idle_timeout: Duration,
    /// Replicas tried for one request, the first included.
    pub(crate) attempts_max: usize,
    /// Requests that one replica may have in hand.
    pub(crate) in_flight_max: u32,
    /// The part of the requests in hand that may be retries, and how many may be whatever that part is.
    pub(crate) retry_budget_percent: u32,
    pub(crate) retry_budget_min: u32,
}

/// A configuration, and every key with its value as operators may read them.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    pub(crate) effective: Effective,
    /// When the file was written, as far as that is known.
    pub(crate) written: Option<SystemTime>,
}

/// Where the configuration comes from, at the start and at each reload.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    /// Without a file, the defaults hold.
    pub(crate) path: Option<PathBuf>,
    /// What the command line adds to `admin.trust`.
    pub(crate) trust: Vec<IpNet>,
}

impl Source {
    /// Reads it as it is now.
    pub(crate) fn read(&self) -> Result<Loaded, ConfigError> {
        let mut loaded = Loaded::read(self.path.as_deref())?;
        loaded.config.admin.trust.extend(&self.trust);
        loaded.effective.extend("/admin/trust", self.trust.iter().map(IpNet::to_string));
        Ok(loaded)
    }
}

impl Loaded {
    /// Reads a file; without one, the defaults.
    pub(crate) fn read(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else {
            let config = Config::default();
            return Ok(Self { config, effective: Effective::of(""), written: None });
        };
        let written = written(path);
        let text = fs::read_to_string(path)
            .map_err(|error| vec![Fault::new("", format!("cannot be read: {error}"))]);
        let read = |text: String| {
            let text = encoding::without_mark(&text);
            let config = reader::read_file(text, sections::config)?;
            Ok(Self { config, effective: Effective::of(text), written })
        };
        text.and_then(read).map_err(|faults| ConfigError::new(Some(path), faults))
    }

    /// The keys whose values differ in `next`.
    pub(crate) fn differences(&self, next: &Self) -> Vec<String> {
        self.effective.differences(&next.effective)
    }
}

/// When a file was written last.
pub(crate) fn written(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|it| it.modified()).ok()
}

impl Config {
    /// Reads a file.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        Ok(Loaded::read(Some(path))?.config)
    }

    /// What follows from the file and might not be expected, a line each.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let is_unbounded =
            |pool: &PoolConfig| pool.bounded_load.is_none() && pool::is_formula(&pool.algorithm);
        let unbounded = self.pools.iter().filter(|(_, pool)| is_unbounded(pool));
        let remark = |(name, _): (&String, &PoolConfig)| {
            format!(
                "pools.{name}.bounded_load.factor: 0, so that requests land where pools.{name}.hashes puts them"
            )
        };
        unbounded.map(remark).collect()
    }

    /// Reads what would be in a file.
    pub(crate) fn parse(text: &str) -> Result<Self, ConfigError> {
        reader::read_file(text, sections::config).map_err(|faults| ConfigError::new(None, faults))
    }
}

impl Default for Config {
    /// What an empty file says.
    fn default() -> Self {
        Self::parse("").expect("the defaults follow every rule")
    }
}

impl Config {
    /// Refuses replicas that are this balancer itself. A file has been checked for them; what a reload makes of it, with the
    /// listeners of the start, has not.
    pub(crate) fn check_addresses(&self, path: &Path) -> Result<(), ConfigError> {
        let faults = self.own_addresses();
        if faults.is_empty() { Ok(()) } else { Err(ConfigError::new(Some(path), faults)) }
    }
}

impl RouteConfig {
    /// Whether it takes a request to `path` on `host`, which comes without a port and without the dot of the root, in any
    /// case and, if it is an IPv6 address, in any form.
    pub(crate) fn takes(&self, host: &str, path: &str) -> bool {
        let below = path.strip_prefix(self.path_prefix.trim_end_matches('/'));
        below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
            && self
                .host
                .as_ref()
                .is_none_or(|it| it.eq_ignore_ascii_case(host) || is_same(it, host))
    }
}

/// Whether two hosts are the same IPv6 address.
fn is_same(own: &str, host: &str) -> bool {
    own.starts_with('[') && forms::ipv6(own).is_some_and(|own| forms::ipv6(host) == Some(own))
}
