//! The default file, what files mean, and that every text is answered.

mod refused;

use std::{collections::BTreeSet, path::Path};

use http::{HeaderValue, StatusCode};
use proptest::prelude::*;
use ringmaster_fleet::{Hashes, Naming, Probing, RespawnName};
use serde_yaml::Value;

use super::*;

const DEFAULT_FILE: &str = include_str!("../../../conf/ringmaster.yaml");

fn faults(text: &str) -> Vec<String> {
    Config::parse(text).unwrap_err().to_string().lines().map(str::to_owned).collect()
}

fn pool(text: &str) -> PoolConfig {
    let mut config = Config::parse(text).unwrap();
    config.pools.pop_first().unwrap().1
}

#[test]
fn the_default_file_says_what_an_empty_one_says() {
    assert_eq!(Config::parse(DEFAULT_FILE).unwrap(), Config::default());
    for empty in ["", "\n# Nothing.\n", "{}", "---\n", "~", "admin:\nclient: {}\nroutes:\npools:\n"]
    {
        assert_eq!(Config::parse(empty).unwrap(), Config::default(), "{empty:?}");
    }
}

/// Puts an unknown key into each mapping of the default file: its fault lists the keys that are known there.
#[test]
fn the_default_file_has_exactly_the_known_keys() {
    const UNKNOWN: &str = "no-such-key-anywhere";
    fn mappings(path: &str, value: &mut Value, found: &mut Vec<String>) {
        match value {
            Value::Mapping(entries) => {
                let keys: BTreeSet<_> = entries.keys().filter_map(Value::as_str).collect();
                // The keys of these are names.
                let is_named = matches!(
                    path,
                    ".pools"
                        | ".pools.default.fixed"
                        | ".pools.default.docker.environment"
                        | ".pools.default.heartbeat.headers"
                );
                if !is_named {
                    found.push(format!("{path}: {keys:?}"));
                }
                for (key, value) in entries.iter_mut() {
                    mappings(&format!("{path}.{}", key.as_str().unwrap()), value, found);
                }
                if !is_named {
                    entries.insert(UNKNOWN.into(), true.into());
                }
            }
            Value::Sequence(items) => {
                let items = items.iter_mut().enumerate();
                items.for_each(|(index, it)| mappings(&format!("{path}[{index}]"), it, found));
            }
            _ => {}
        }
    }
    let mut file = serde_yaml::from_str(DEFAULT_FILE).unwrap();
    let mut written = Vec::new();
    mappings("", &mut file, &mut written);
    let mut known: Vec<_> = faults(&serde_yaml::to_string(&file).unwrap())
        .iter()
        .map(|fault| {
            let (path, keys) = fault.split_once(": unknown key; keys are: ").unwrap();
            let path = path.strip_suffix(UNKNOWN).unwrap().trim_end_matches('.');
            let path = if path.is_empty() { String::new() } else { format!(".{path}") };
            format!("{path}: {:?}", keys.split(", ").collect::<BTreeSet<_>>())
        })
        .collect();
    written.sort();
    known.sort();
    assert_eq!(known, written);
}

#[test]
fn limits_of_a_life_are_those_of_the_fleet() {
    assert_eq!(pool("").limits, Limits::default());
}

#[test]
fn a_file_says_what_it_means() {
    let config = Config::parse(
        r#"
listen: "[::1]:0"
admin:
  listen: "[::1]:0"
  trust: []
  reserved_paths: [/rep]
  tokens_file: secrets/tokens
  lockout: { failures: 3, window_ms: 1000, duration_ms: 2000 }
  header_timeout_ms: 500
  connections_max: 2
pools:
  web:
    replicas: 2
    replicas_max: 2000
    names: [S5, "S4:5000"]
    naming: random
    respawn_name: fresh
    algorithm: ring
    slots: 1000
    virtual_nodes: 2
    hashes: classic
    probing: quadratic
    key: header:X-User
    bounded_load: { factor: 0 }
    slow_start_ms: 30000
    backoff: { min_ms: 5, max_ms: 5 }
    heartbeat:
      host: web.example:8080
      headers: { X-Forwarded-Proto: https, X-Count: "1" }
      statuses: [200-204, 301, "401"]
  spare: { provider: fixed, fixed: { b: "10.0.0.2:80", a: "[::1]:80" } }
routes:
  - { host: Example.com, path_prefix: /api/, pool: spare }
  - { pool: web }
"#,
    )
    .unwrap();
    assert_eq!(config.listen, "[::1]:0".parse().unwrap());
    assert_eq!(config.admin.listen, config.listen);
    assert_eq!(config.admin.trust, []);
    assert_eq!(config.admin.reserved_paths, ["/rep"]);
    assert_eq!(config.admin.tokens_file, Some("secrets/tokens".into()));
    let (window, duration) = (Duration::from_secs(1), Duration::from_secs(2));
    assert_eq!(config.admin.lockout, LockoutConfig { failures: 3, window, duration });
    assert_eq!(config.admin.header_timeout, Duration::from_millis(500));
    assert_eq!(config.admin.connections_max, 2);
    let route = |host: Option<&str>, path_prefix: &str, pool: &str| RouteConfig {
        host: host.map(str::to_owned),
        path_prefix: path_prefix.to_owned(),
        pool: pool.to_owned(),
    };
    let expected = [route(Some("example.com"), "/api/", "spare"), route(None, "/", "web")];
    assert_eq!(config.routes, expected);

    let web = &config.pools["web"];
    assert_eq!(web.names, ["S5".parse().unwrap(), "S4:5000".parse().unwrap()]);
    let (hashes, probing) = (Hashes::Classic, Probing::Quadratic);
    let ring = Algorithm::Ring { slots: 1_000, virtual_nodes: 2, hashes, probing };
    assert_eq!(web.algorithm, ring);
    assert_eq!(web.key, KeySource::Header(HeaderName::from_static("x-user")));
    assert_eq!(web.bounded_load, None);
    assert_eq!(web.slow_start, Duration::from_secs(30));
    let limits = Limits {
        replicas_max: 500,
        naming: Naming::Random,
        respawn_name: RespawnName::Fresh,
        backoff_min: Duration::from_millis(5),
        backoff_max: Duration::from_millis(5),
        ..Limits::default()
    };
    assert_eq!(web.limits, limits);

    let fields = [("host", "web.example:8080"), ("x-forwarded-proto", "https"), ("x-count", "1")];
    let fields = fields
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    assert_eq!(web.heartbeat.fields, HeaderMap::from_iter(fields));
    assert_eq!(web.heartbeat.statuses.to_string(), "200-204, 301, 401");
    for (status, is_good) in [(199, false), (200, true), (204, true), (205, false), (301, true)] {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(web.heartbeat.statuses.contain(status), is_good, "{status}");
    }

    let spare = &config.pools["spare"];
    let addresses = [("a", "[::1]:80"), ("b", "10.0.0.2:80")]
        .map(|(name, address)| (ReplicaName::parse(name).unwrap(), address.parse().unwrap()));
    assert_eq!(spare.provider, ProviderConfig::Fixed(addresses.into()));
    assert_eq!((spare.replicas, spare.limits.replicas_max), (2, 2));
}

#[test]
fn containers_are_described_in_full() {
    let pool = pool(
        r#"
pools:
  web:
    provider: docker
    docker:
      image: registry.local:5000/team/web:1.2@sha256:0123
      command: [serve, --port, "80"]
      environment: { MODE: "true", SERVER_ID: seven }
      network: front
      port: 80
      memory_mb: 6
      cpu_millis: 10
      pids: 1
      read_only: false
      socket: /run/other.sock
"#,
    );
    let expected = DockerConfig {
        image: "registry.local:5000/team/web:1.2@sha256:0123".to_owned(),
        command: ["serve", "--port", "80"].map(str::to_owned).to_vec(),
        environment: [("MODE", "true"), ("SERVER_ID", "seven")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        network: "front".to_owned(),
        port: 80,
        memory_mb: 6,
        cpu_millis: 10,
        pids: 1,
        read_only: false,
        socket: Some("/run/other.sock".into()),
        spawner: None,
        server_id: ServerId::Number,
    };
    assert_eq!(pool.provider, ProviderConfig::Docker(expected));
    assert_eq!((pool.replicas, pool.limits.replicas_max), (3, 1_000));
}

#[test]
fn services_are_described_as_containers_are() {
    let file =
        |provider| format!("pools: {{ a: {{ provider: {provider}, docker: {{ image: b }} }} }}");
    let ProviderConfig::Docker(expected) = pool(&file("docker")).provider else { panic!() };
    assert_eq!(pool(&file("swarm")).provider, ProviderConfig::Swarm(expected));
}

#[test]
fn every_provider_of_ours_knows_what_replicas_call_themselves() {
    let image = "docker: { image: b }";
    for (key, expected) in
        [("", ServerId::Number), ("number", ServerId::Number), ("name", ServerId::Name)]
    {
        let provider =
            |text: &str| pool(&format!("pools: {{ a: {{ server_id: {key}, {text} }} }}")).provider;
        assert_eq!(provider(""), ProviderConfig::Process(expected));
        for kind in ["docker", "swarm"] {
            match provider(&format!("provider: {kind}, {image}")) {
                ProviderConfig::Docker(it) | ProviderConfig::Swarm(it) => {
                    assert_eq!(it.server_id, expected);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_pool_without_a_bound_for_its_hashes_is_remarked_on() {
    for (pool, count) in [
        ("algorithm: ring, hashes: classic", 1),
        ("algorithm: ring, hashes: modular", 1),
        ("algorithm: ring, hashes: classic, bounded_load: { factor: 1.25 }", 0),
        ("algorithm: ring", 0),
        ("bounded_load: { factor: 0 }", 0),
    ] {
        let config = Config::parse(&format!("pools: {{ a: {{ {pool} }} }}")).unwrap();
        assert_eq!(config.remarks().len(), count, "{pool}: {:?}", config.remarks());
    }
}

#[test]
fn the_only_pool_gets_what_no_route_says() {
    let config = Config::parse("pools: {web: }\nroutes: [{path_prefix: /a}]").unwrap();
    assert_eq!(config.routes[0].pool, "web");
    let config = Config::parse("pools: {web: }").unwrap();
    assert_eq!(config.routes.len(), 1);
    assert!(config.routes[0].takes("any.host", "/any/path"));
    assert_eq!(config.routes[0].pool, "web");
}

#[test]
fn never_more_replicas_than_there_is_room_for() {
    for (keys, replicas_max) in [
        ("algorithm: ring", 56),
        ("algorithm: ring, replicas: 56", 56),
        ("algorithm: ring, replicas_max: 50", 50),
        ("algorithm: ring, slots: 65536", 1_000),
        ("slots: 3", 3),
        ("algorithm: maglev, slots: 7", 7),
        ("algorithm: round_robin, replicas_max: 65535", 65_535),
        ("replicas: 0, replicas_max: 1", 1),
    ] {
        assert_eq!(
            pool(&format!("pools: {{a: {{{keys}}}}}")).limits.replicas_max,
            replicas_max,
            "{keys}"
        );
    }
}

#[test]
fn routes_take_whole_segments_of_their_host() {
    let route = |host: Option<&str>, path_prefix: &str| RouteConfig {
        host: host.map(str::to_owned),
        path_prefix: path_prefix.to_owned(),
        pool: String::new(),
    };
    for (route, host, path, expected) in [
        (route(None, "/"), "", "/", true),
        (route(None, "/"), "a", "/x", true),
        (route(None, "/api"), "a", "/api", true),
        (route(None, "/api"), "a", "/api/x", true),
        (route(None, "/api"), "a", "/apix", false),
        (route(None, "/api/"), "a", "/api", true),
        (route(None, "/api/"), "a", "/ap", false),
        (route(Some("a.b"), "/"), "A.B", "/", true),
        (route(Some("a.b"), "/"), "a", "/", false),
        (route(Some("a.b"), "/"), "", "/", false),
        (route(Some("[::1]"), "/"), "[::1]", "/", true),
        (route(Some("[::1]"), "/"), "[0:0:0:0:0:0:0:1]", "/", true),
        (route(Some("[2001:db8::a]"), "/"), "[2001:DB8:0::A]", "/", true),
        (route(Some("[::1]"), "/"), "[::2]", "/", false),
        (route(Some("[::1]"), "/"), "a", "/", false),
    ] {
        assert_eq!(route.takes(host, path), expected, "{route:?} {host} {path}");
    }
}

#[test]
fn a_loaded_file_is_named_in_every_line() {
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf");
    assert_eq!(Config::load(&conf.join("ringmaster.yaml")).unwrap(), Config::default());

    let missing = conf.join("missing.yaml");
    let error = Config::load(&missing).unwrap_err().to_string();
    let expected = format!("{}: cannot be read: ", missing.display());
    assert!(error.starts_with(&expected), "{error}");

    let faults = vec![Fault::new("a.b", "1: bad".into()), Fault::new("", "worse".into())];
    let error = ConfigError::new(Some(Path::new("conf/x.yaml")), faults);
    assert_eq!(error.to_string(), "conf/x.yaml: a.b: 1: bad\nconf/x.yaml: worse");
}

/// Pieces of files, good and bad.
fn token() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "\n",
        "\n  ",
        "\n    ",
        ": ",
        ":",
        "- ",
        "{",
        "}",
        "[",
        "]",
        ", ",
        "#",
        "&a ",
        "*a",
        "!t ",
        "!!str ",
        "\"",
        "'",
        "|",
        ">",
        "---",
        "? ",
        "<<: ",
        "~",
        "null",
        "true",
        "0",
        "-1",
        "65536",
        "1e400",
        ".nan",
        ".inf",
        "9999999999999999999999",
        "0x10",
        "\t",
        "\u{0}",
        "\u{feff}",
        "é",
        "listen",
        "threads",
        "pools",
        "default",
        "fixed",
        "provider",
        "replicas",
        "names",
        "algorithm",
        "ring",
        "maglev",
        "slots",
        "virtual_nodes",
        "heartbeat",
        "timeout_ms",
        "interval_ms",
        "routes",
        "host",
        "path_prefix",
        "pool",
        "/",
        "127.0.0.1:1",
        "bounded_load",
        "factor",
        "key",
        "header:",
        "client",
        "uri_bytes_max",
        "replicas_max",
    ];
    proptest::sample::select(PIECES).prop_map(str::to_owned)
}

/// Whatever `text` is, it is answered: by a configuration that keeps its promises, or by lines.
fn check(text: &str) {
    match Config::parse(text) {
        Ok(config) => {
            assert!(!config.pools.is_empty() && !config.routes.is_empty());
            assert!(config.routes.iter().all(|route| config.pools.contains_key(&route.pool)));
            for pool in config.pools.values() {
                assert!(pool.heartbeat.timeout < pool.heartbeat.interval);
                assert!(pool.names.len() <= pool.replicas);
                assert!(pool.replicas <= pool.limits.replicas_max);
                assert_eq!(pool.algorithm.check(pool.limits.replicas_max), Ok(()));
                assert!(pool.limits.backoff_min <= pool.limits.backoff_max);
            }
        }
        Err(error) => {
            let error = error.to_string();
            assert!(!error.is_empty());
            assert!(
                error
                    .lines()
                    .all(|line| !line.trim().is_empty() && !line.contains(char::is_control)),
                "{error:?}"
            );
        }
    }
}

#[test]
fn the_command_line_adds_trusted_networks_at_each_reading() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.yaml");
    let trust = vec!["10.1.2.3/32".parse().unwrap()];
    let source = Source { path: Some(path.clone()), trust };
    for (text, expected) in [
        ("admin: { trust: [127.0.0.1/32] }", &["127.0.0.1/32", "10.1.2.3/32"][..]),
        ("admin: { trust: [] }", &["10.1.2.3/32"]),
        ("", &["127.0.0.0/8", "::1/128", "10.1.2.3/32"]),
    ] {
        std::fs::write(&path, text).unwrap();
        let Loaded { config, effective, .. } = source.read().unwrap();
        let trusted: Vec<_> = config.admin.trust.iter().map(ToString::to_string).collect();
        assert_eq!(trusted, expected, "{text}");
        assert_eq!(effective.masked()["admin"]["trust"], serde_json::json!(expected), "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_is_too_strange(tokens in proptest::collection::vec(token(), 0..40)) {
        check(&tokens.concat());
    }

    #[test]
    fn no_change_of_the_default_file_is_too_strange(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), 0..4, token()), 1..6),
    ) {
        let mut lines: Vec<String> =
            DEFAULT_FILE.lines().filter(|it| !it.trim_start().starts_with('#')).map(str::to_owned).collect();
        for (index, kind, token) in changes {
            let index = index.index(lines.len());
            match kind {
                0 => drop(lines.remove(index)),
                1 => lines.insert(index, lines[index].clone()),
                2 => lines[index] += &token,
                _ => {
                    let key = lines[index].split(": ").next().unwrap_or("").to_owned();
                    lines[index] = format!("{key}: {token}");
                }
            }
        }
        check(&lines.join("\n"));
    }
}
