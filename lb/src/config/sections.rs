//! The file's sections, but for pools: their keys, defaults and rules.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    AdminConfig, CertificateConfig, ClientConfig, Config, Http2Config, KeySource, LockoutConfig,
    PoolConfig, RouteConfig, TlsConfig, Underscores, fault::quoted, forms, own::own_addresses,
    pool, reader::Reader,
};

/// More would only wait for a core.
const THREADS_MAX: usize = 1_024;
/// More would be clients of the wrong listener.
const ADMIN_CONNECTIONS_MAX: usize = 65_536;
/// Pingora reads no longer head.
const HEADER_BYTES_MAX: usize = 1_048_575;
/// Pingora takes no more header fields.
const HEADERS_MAX: usize = 256;
/// One TiB.
const BODY_BYTES_MAX: u64 = 1 << 40;

/// One MiB a second: more than some honest networks carry.
const BODY_RATE_MAX: u32 = 1 << 20;
/// More would take more memory than the body of any request.
const STREAMS_MAX: u32 = 10_000;
/// More is no limit.
const FRAMES_PER_MINUTE_MAX: u32 = 10_000_000;
/// More than a process can have file descriptors for.
const CONNECTIONS_MAX: usize = 1_000_000;

/// Reads the top of the file.
pub(super) fn config(file: &mut Reader<'_>) -> Config {
    let listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5000));
    let listen = file.text("listen", listen, &forms::LISTEN);
    let threads = file.number("threads", 0, 0..=THREADS_MAX);
    let grace_period = file.duration("grace_period_ms", Duration::from_secs(10));
    let upgrade_grace_period = file.duration("upgrade_grace_period_ms", Duration::from_secs(600));
    let state_file = file.text("state_file", None, &forms::FILE);
    let watch_config = file.flag("watch_config", false);
    let access_log = file.flag("access_log", false);
    let explain_header = file.flag("explain_header", false);
    let trusted_proxies = file.texts("trusted_proxies", loopback(), &forms::NETWORK);
    let cluster = file.text("cluster", "default".to_owned(), &forms::CLUSTER);
    let admin = file.section("admin", admin);
    let tls = file.section("tls", tls);
    let client = file.section("client", client);
    let pools = file.sections_by_name("pools", "default", pool::pool);
    file.rule(!pools.is_empty(), &["pools"], || "no pool; at least one is needed".to_owned());
    let routes = routes(file, &pools);
    file.rule(admin.listen != listen || listen.port() == 0, &["admin.listen", "listen"], || {
        format!("{listen} is where clients are served (listen)")
    });
    // Connections are told apart by the port that they came to.
    for (key, other) in [("listen", listen), ("admin.listen", admin.listen)] {
        let shared = tls.listen.map(|it| it.port()).filter(|&it| it == other.port() && it != 0);
        file.rule(shared.is_none(), &["tls.listen", key], || {
            format!("port {} is that of {key}; choose another", other.port())
        });
    }
    rule_keys(file, &pools, &client);
    for (key, text) in own_addresses((listen, admin.listen, tls.listen), &pools) {
        file.rule(false, &[&key, "listen", "admin.listen", "tls.listen"], || text);
    }
    Config {
        listen,
        threads,
        grace_period,
        upgrade_grace_period,
        state_file,
        watch_config,
        access_log,
        explain_header,
        trusted_proxies,
        cluster,
        admin,
        tls,
        client,
        routes,
        pools,
    }
}

/// A key that is dropped before anybody looks for it is none.
fn rule_keys(file: &mut Reader<'_>, pools: &BTreeMap<String, PoolConfig>, client: &ClientConfig) {
    let is_passed = client.underscores_in_headers == Underscores::Pass;
    for (pool, config) in pools {
        let KeySource::Header(name) = &config.key else { continue };
        let key = format!("pools.{pool}.key");
        let is_there = is_passed || !name.as_str().contains('_');
        file.rule(is_there, &[&key, "client.underscores_in_headers"], || {
            format!("header:{name} has an underscore; it needs client.underscores_in_headers: pass")
        });
    }
}

fn admin(admin: &mut Reader<'_>) -> AdminConfig {
    let reserved_paths = forms::RESERVED_PATHS.map(str::to_owned).to_vec();
    AdminConfig {
        listen: admin.text("listen", SocketAddr::from((Ipv4Addr::LOCALHOST, 5001)), &forms::LISTEN),
        trust: admin.texts("trust", loopback(), &forms::NETWORK),
        reserved_paths: admin.texts("reserved_paths", reserved_paths, &forms::RESERVED_PATH),
        tokens_file: admin.text("tokens_file", None, &forms::FILE),
        lockout: admin.section("lockout", lockout),
        header_timeout: admin.duration("header_timeout_ms", Duration::from_secs(10)),
        connections_max: admin.number("connections_max", 256, 1..=ADMIN_CONNECTIONS_MAX),
    }
}

fn lockout(lockout: &mut Reader<'_>) -> LockoutConfig {
    LockoutConfig {
        failures: lockout.number("failures", 10, 0..=1_000),
        window: lockout.duration("window_ms", Duration::from_secs(60)),
        duration: lockout.duration("duration_ms", Duration::from_secs(300)),
    }
}

fn tls(tls: &mut Reader<'_>) -> TlsConfig {
    let config = TlsConfig {
        listen: tls.text("listen", None, &forms::LISTEN_OR_NOT),
        certificates: tls.sections("certificates", certificate).unwrap_or_default(),
        http2: tls.flag("http2", true),
        handshake_timeout: tls.duration("handshake_timeout_ms", Duration::from_secs(10)),
    };
    let is_complete = config.listen.is_none() || !config.certificates.is_empty();
    tls.rule(is_complete, &["certificates", "listen"], || {
        "no certificate; tls.listen needs at least one".to_owned()
    });
    config
}

fn certificate(pair: &mut Reader<'_>) -> CertificateConfig {
    let mut file = |key: &'static str| {
        let path = pair.text(key, None, &forms::FILE);
        pair.rule(path.is_some(), &[key], || "missing; name a PEM file".to_owned());
        path.unwrap_or_default()
    };
    CertificateConfig { certificate: file("certificate"), key: file("key") }
}

fn client(client: &mut Reader<'_>) -> ClientConfig {
    let seconds = Duration::from_secs;
    let underscores =
        [("drop", Underscores::Drop), ("pass", Underscores::Pass), ("refuse", Underscores::Refuse)];
    let config = ClientConfig {
        header_timeout: client.duration("header_timeout_ms", seconds(10)),
        keepalive_timeout: client.duration("keepalive_timeout_ms", seconds(60)),
        keepalive_min_timeout: client.duration_or_zero("keepalive_min_timeout_ms", seconds(5)),
        read_timeout: client.duration("read_timeout_ms", seconds(30)),
        body_bytes_per_second_min: client.number(
            "body_bytes_per_second_min",
            500,
            0..=BODY_RATE_MAX,
        ),
        write_timeout: client.duration("write_timeout_ms", seconds(30)),
        uri_bytes_max: client.number("uri_bytes_max", 8_192, 1..=HEADER_BYTES_MAX),
        header_bytes_max: client.number("header_bytes_max", 32_768, 1..=HEADER_BYTES_MAX),
        headers_max: client.number("headers_max", 100, 1..=HEADERS_MAX),
        underscores_in_headers: client.choice(
            "underscores_in_headers",
            Underscores::Drop,
            &underscores,
        ),
        body_bytes_max: client.number("body_bytes_max", 1 << 30, 1..=BODY_BYTES_MAX),
        requests_per_connection_max: client.number(
            "requests_per_connection_max",
            10_000,
            1..=u32::MAX,
        ),
        connections_max: client.number("connections_max", 8_000, 1..=CONNECTIONS_MAX),
        connections_per_client_max: client.number(
            "connections_per_client_max",
            1_000,
            1..=CONNECTIONS_MAX,
        ),
        http2: client.section("http2", http2),
    };
    let (header, uri) = (config.header_bytes_max, config.uri_bytes_max);
    client.rule(uri <= header, &["header_bytes_max", "uri_bytes_max"], || {
        format!("{header} is less than uri_bytes_max ({uri}), which it includes")
    });
    config
}

fn http2(http2: &mut Reader<'_>) -> Http2Config {
    let per_minute = 1..=FRAMES_PER_MINUTE_MAX;
    Http2Config {
        streams_max: http2.number("streams_max", 100, 1..=STREAMS_MAX),
        resets_per_minute_max: http2.number("resets_per_minute_max", 1_000, per_minute.clone()),
        control_frames_per_minute_max: http2.number(
            "control_frames_per_minute_max",
            10_000,
            per_minute,
        ),
    }
}

/// Without routes, everything goes to the only pool.
fn routes(file: &mut Reader<'_>, pools: &BTreeMap<String, PoolConfig>) -> Vec<RouteConfig> {
    let names = pools.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let only = (pools.len() == 1).then(|| names.clone());
    let Some(routes) = file.sections("routes", |it| route(it, only.clone(), pools, &names)) else {
        file.rule(pools.len() < 2, &["routes"], || {
            format!("missing; say which requests go to which of the pools {names}")
        });
        let everything = |pool| RouteConfig { host: None, path_prefix: "/".to_owned(), pool };
        return only.map(everything).into_iter().collect();
    };
    file.rule(!routes.is_empty(), &["routes"], || "no route; at least one is needed".to_owned());
    for (index, route) in routes.iter().enumerate() {
        let host = route.host.as_deref().unwrap_or("");
        let earlier = routes[..index].iter().position(|it| it.takes(host, &route.path_prefix));
        let Some(earlier) = earlier.map(|it| format!("routes[{it}]")) else { continue };
        file.rule(false, &[&format!("routes[{index}]"), &earlier], || {
            format!("never reached; {earlier} comes first and takes its requests")
        });
    }
    routes
}

fn route(
    route: &mut Reader<'_>,
    only: Option<String>,
    pools: &BTreeMap<String, PoolConfig>,
    names: &str,
) -> RouteConfig {
    let host = route.text("host", None, &forms::ROUTE_HOST);
    let path_prefix = route.text("path_prefix", "/".to_owned(), &forms::PATH);
    let pool = route.text("pool", only, &forms::POOL);
    let is_known = pool.as_ref().is_some_and(|name| pools.contains_key(name));
    route.rule(is_known || pools.is_empty(), &["pool"], || match &pool {
        Some(name) => format!("{} is not a pool; pools are: {names}", quoted(name)),
        None => format!("missing; pools are: {names}"),
    });
    RouteConfig { host, path_prefix, pool: pool.unwrap_or_default() }
}

fn loopback() -> Vec<IpNet> {
    vec![
        Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8).into(),
        Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128).into(),
    ]
}
