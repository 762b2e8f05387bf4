//! The section of one pool: its keys, defaults and rules.

use std::{collections::BTreeSet, fmt::Display, time::Duration};

use ringmaster_fleet::{Algorithm, Bound, Hashes, Host, Limits, Naming, Probing, RespawnName};

use super::{
    ATTEMPTS_MAX, DockerConfig, EjectionConfig, HoldConfig, KeySource, PoolConfig, ProviderConfig,
    ServerId, UpstreamConfig, docker, forms, heartbeat::heartbeat, names as rules, reader::Reader,
};

/// Replicas of a pool whose provider can run any number of them.
const REPLICAS: usize = 3;
/// The default bound, as a multiple of the mean load.
const FACTOR: f64 = 1.25;
/// At a hundred times the mean load the bound doesn't bind.
const FACTOR_MAX: f64 = 100.0;
/// More requests than one replica can have in flight.
const FLOOR_MAX: u32 = 1_000_000;
/// Each held request keeps a connection open.
const HELD_MAX: usize = 1_000_000;

/// As many as a process can have connections.
const REQUESTS_MAX: u32 = 1_000_000;
/// One GiB.
const HELD_BYTES_MAX: usize = 1 << 30;

/// Reads one pool.
pub(super) fn pool(pool: &mut Reader<'_>) -> PoolConfig {
    let provider = provider(pool);
    let (replicas, names) = replicas(pool, &provider);
    let algorithm = algorithm(pool, replicas);
    let replicas_max = replicas_max(pool, replicas, &algorithm, &provider);
    let (heartbeat, heartbeat_missed_max) = pool.section("heartbeat", heartbeat);
    let limits = Limits { replicas_max, heartbeat_missed_max, ..limits(pool, &provider) };
    PoolConfig {
        provider,
        replicas,
        names,
        algorithm,
        key: pool.text("key", KeySource::RequestId, &forms::KEY),
        bounded_load: pool.section("bounded_load", |it| bounded_load(it, &algorithm)),
        slow_start: pool.duration_or_zero("slow_start_ms", Duration::ZERO),
        heartbeat,
        limits,
        stop_grace: pool.duration("stop_grace_ms", Duration::from_secs(5)),
        requests_max: pool.number("requests_max", 10_000, 1..=REQUESTS_MAX),
        hold: pool.section("hold", hold),
        ejection: pool.section("ejection", ejection),
        upstream: pool.section("upstream", upstream),
    }
}

fn provider(pool: &mut Reader<'_>) -> ProviderConfig {
    #[derive(Clone, Copy, PartialEq)]
    enum Kind {
        Process,
        Docker,
        Swarm,
        Fixed,
    }
    let kinds = [
        ("process", Kind::Process),
        ("docker", Kind::Docker),
        ("swarm", Kind::Swarm),
        ("fixed", Kind::Fixed),
    ];
    let kind = pool.choice("provider", Kind::Process, &kinds);
    let docker = pool.section("docker", docker::docker);
    let is_swarm = kind == Kind::Swarm;
    let has_containers = kind == Kind::Docker || is_swarm;
    pool.rule(has_containers || docker.is_none(), &["docker", "provider"], || {
        "only for providers docker and swarm".to_owned()
    });
    pool.rule(!has_containers || docker.is_some(), &["docker.image", "docker"], || {
        format!("missing; provider {} needs one", if is_swarm { "swarm" } else { "docker" })
    });
    let has_spawner = docker.as_ref().is_some_and(|it| it.spawner.is_some());
    pool.rule(!is_swarm || !has_spawner, &["docker.spawner", "provider"], || {
        "not for provider swarm, which speaks to a manager's engine itself".to_owned()
    });
    let is_fixed = kind == Kind::Fixed;
    let fixed = pool.texts_by_text("fixed", &forms::NAME, &forms::ADDRESS);
    pool.rule(is_fixed || fixed.is_empty(), &["fixed", "provider"], || {
        "only for provider fixed".to_owned()
    });
    pool.rule(!is_fixed || !fixed.is_empty(), &["fixed"], || {
        "no address; provider fixed needs at least one".to_owned()
    });
    rule_unique(pool, "fixed", fixed.values());
    pool.rule(!is_fixed || !pool.gives("server_id"), &["server_id", "provider"], || {
        "not for provider fixed, whose replicas are started by somebody else".to_owned()
    });
    let has_id = docker.as_ref().is_some_and(|it| it.environment.contains_key("SERVER_ID"));
    pool.rule(!has_id || !pool.gives("server_id"), &["server_id", "docker.environment"], || {
        "not together with docker.environment.SERVER_ID, which says it, too".to_owned()
    });
    let server_ids = [("number", ServerId::Number), ("name", ServerId::Name)];
    let server_id = pool.choice("server_id", ServerId::Number, &server_ids);
    let docker = docker.map(|it| DockerConfig { server_id, ..it });
    match (kind, docker) {
        (Kind::Fixed, _) => ProviderConfig::Fixed(fixed),
        (Kind::Docker, Some(docker)) => ProviderConfig::Docker(docker),
        (Kind::Swarm, Some(docker)) => ProviderConfig::Swarm(docker),
        // Without an image there is a fault, and any provider will do.
        (Kind::Process, _) | (Kind::Docker | Kind::Swarm, None) => {
            ProviderConfig::Process(server_id)
        }
    }
}

/// How many replicas the pool begins with, and their names as far as they are given.
fn replicas(pool: &mut Reader<'_>, provider: &ProviderConfig) -> (usize, Vec<Host>) {
    let default = match provider {
        ProviderConfig::Process(_) | ProviderConfig::Docker(_) | ProviderConfig::Swarm(_) => {
            REPLICAS
        }
        ProviderConfig::Fixed(fixed) => fixed.len(),
    };
    let replicas = pool.number("replicas", default, 0..=Algorithm::MEMBERS_MAX);
    let names = pool.texts("names", Vec::new(), &forms::REPLICA);
    pool.rule(names.len() <= replicas, &["names", "replicas", "fixed"], || {
        format!("{} names are more than replicas ({replicas})", names.len())
    });
    rule_unique(pool, "names", names.iter().map(|host| &host.name));
    for (at, host) in names.iter().enumerate() {
        let checked = match provider {
            ProviderConfig::Docker(_) => rules::container(&host.name),
            ProviderConfig::Swarm(_) => {
                rules::service(&host.name, names[..at].iter().map(|host| &host.name))
            }
            ProviderConfig::Process(_) | ProviderConfig::Fixed(_) => Ok(()),
        };
        if let Err(rule) = checked {
            pool.rule(false, &["names", "provider"], || rule);
        }
    }
    if let ProviderConfig::Fixed(fixed) = provider {
        pool.rule(replicas <= fixed.len(), &["replicas", "fixed"], || {
            format!("{replicas} is more than the addresses in fixed ({})", fixed.len())
        });
        let strangers =
            listed(names.iter().map(|host| &host.name).filter(|name| !fixed.contains_key(name)));
        pool.rule(strangers.is_empty(), &["names", "fixed"], || {
            format!("{strangers}: not in fixed")
        });
    }
    (replicas, names)
}

fn algorithm(pool: &mut Reader<'_>, replicas: usize) -> Algorithm {
    let choices = [
        Algorithm::Rendezvous { slots: Algorithm::RENDEZVOUS_SLOTS },
        Algorithm::Ring {
            slots: Algorithm::RING_SLOTS,
            virtual_nodes: Algorithm::RING_VIRTUAL_NODES,
            hashes: Hashes::Xxh3,
            probing: Probing::Linear,
        },
        Algorithm::Maglev { slots: Algorithm::MAGLEV_SLOTS },
        Algorithm::RoundRobin,
        Algorithm::LeastRequests,
    ];
    let chosen = pool.choice("algorithm", choices[0], &choices.map(|it| (it.name(), it)));
    let is_ring = matches!(chosen, Algorithm::Ring { .. });
    for (key, is_used) in [
        ("slots", chosen.is_keyed()),
        ("virtual_nodes", is_ring),
        ("hashes", is_ring),
        ("probing", is_ring),
    ] {
        pool.rule(is_used || !pool.gives(key), &[key, "algorithm"], || {
            format!("not for algorithm {}", chosen.name())
        });
    }
    let slots = match chosen {
        Algorithm::Rendezvous { slots }
        | Algorithm::Ring { slots, .. }
        | Algorithm::Maglev { slots } => slots,
        Algorithm::RoundRobin | Algorithm::LeastRequests => 0,
    };
    let slots = pool.number("slots", slots, 1..=Algorithm::SLOTS_MAX);
    let virtual_nodes = Algorithm::RING_VIRTUAL_NODES;
    let virtual_nodes = pool.number("virtual_nodes", virtual_nodes, 1..=Algorithm::SLOTS_MAX);
    let hashes =
        [("classic", Hashes::Classic), ("modular", Hashes::Modular), ("xxh3", Hashes::Xxh3)];
    let hashes = pool.choice("hashes", Hashes::Xxh3, &hashes);
    let probing = [("linear", Probing::Linear), ("quadratic", Probing::Quadratic)];
    let probing = pool.choice("probing", Probing::Linear, &probing);
    let algorithm = match chosen {
        Algorithm::Rendezvous { .. } => Algorithm::Rendezvous { slots },
        Algorithm::Ring { .. } => Algorithm::Ring { slots, virtual_nodes, hashes, probing },
        Algorithm::Maglev { .. } => Algorithm::Maglev { slots },
        Algorithm::RoundRobin => Algorithm::RoundRobin,
        Algorithm::LeastRequests => Algorithm::LeastRequests,
    };
    if let Err(error) = algorithm.check(replicas) {
        let keys = ["algorithm", "slots", "virtual_nodes", "replicas", "fixed"];
        pool.rule(false, &keys, || format!("{}: {error}", algorithm.name()));
    }
    algorithm
}

/// How many replicas there may be: never more than the table has room for or than there are addresses, so
/// that a later addition is refused for the same reason, and before anything is started.
fn replicas_max(
    pool: &mut Reader<'_>,
    replicas: usize,
    algorithm: &Algorithm,
    provider: &ProviderConfig,
) -> usize {
    let default = Limits::default().replicas_max;
    let configured = pool.number("replicas_max", default, 1..=Algorithm::MEMBERS_MAX);
    pool.rule(replicas <= configured, &["replicas", "replicas_max", "fixed"], || {
        format!("{replicas} is more than replicas_max ({configured})")
    });
    let runnable = match provider {
        ProviderConfig::Process(_) | ProviderConfig::Docker(_) | ProviderConfig::Swarm(_) => {
            configured
        }
        ProviderConfig::Fixed(fixed) => configured.min(fixed.len()),
    };
    let fits = |members: &usize| algorithm.check(*members).is_ok();
    (replicas..=runnable).rev().find(fits).unwrap_or(replicas)
}

/// `None` if it is switched off, as it is by default where requests are to land where a fixed formula puts them.
fn bounded_load(bounded_load: &mut Reader<'_>, algorithm: &Algorithm) -> Option<Bound> {
    let default = if is_formula(algorithm) { 0.0 } else { FACTOR };
    let name = format!("0 (off) or a number from 1 to {FACTOR_MAX}");
    let accepts = |factor| factor == 0.0 || (1.0..=FACTOR_MAX).contains(&factor);
    let factor = bounded_load.decimal("factor", default, &name, accepts);
    let floor = bounded_load.number("floor", 8, 1..=FLOOR_MAX);
    (factor > 0.0).then_some(Bound { factor, floor })
}

/// Whether keys go where a published formula says, as the schemes that are to be reproduced have it.
pub(super) fn is_formula(algorithm: &Algorithm) -> bool {
    matches!(algorithm, Algorithm::Ring { hashes: Hashes::Classic | Hashes::Modular, .. })
}

/// The limits that `pool` itself does not set: those of a replica's life.
fn limits(pool: &mut Reader<'_>, provider: &ProviderConfig) -> Limits {
    let default = Limits::default();
    let namings =
        [("sequential", Naming::Sequential), ("random", Naming::Random), ("uuid", Naming::Uuid)];
    let respawn_names = [("keep", RespawnName::Keep), ("fresh", RespawnName::Fresh)];
    let respawn_name = pool.choice("respawn_name", default.respawn_name, &respawn_names);
    let is_fixed = matches!(provider, ProviderConfig::Fixed(_));
    pool.rule(
        !is_fixed || respawn_name == RespawnName::Keep,
        &["respawn_name", "provider"],
        || "fresh: not for provider fixed, where names belong to addresses".to_owned(),
    );
    let (backoff_min, backoff_max, healthy_after) = pool.section("backoff", backoff);
    let is_swarm = matches!(provider, ProviderConfig::Swarm(_));
    pool.rule(
        !is_swarm || respawn_name == RespawnName::Keep,
        &["respawn_name", "provider"],
        || "fresh: not for provider swarm, where other balancers keep the same names".to_owned(),
    );
    Limits {
        start_timeout: pool.duration("start_timeout_ms", default.start_timeout),
        drain_timeout: pool.duration("drain_timeout_ms", default.drain_timeout),
        backoff_min,
        backoff_max,
        healthy_after,
        naming: pool.choice("naming", default.naming, &namings),
        respawn_name,
        ..default
    }
}

/// The shortest wait, the longest, and the health that ends a series of failures.
fn backoff(backoff: &mut Reader<'_>) -> (Duration, Duration, Duration) {
    let default = Limits::default();
    let min = backoff.duration("min_ms", default.backoff_min);
    let max = backoff.duration("max_ms", default.backoff_max);
    backoff.rule(min <= max, &["min_ms", "max_ms"], || {
        format!("{} is more than backoff.max_ms ({})", min.as_millis(), max.as_millis())
    });
    (min, max, backoff.duration("healthy_after_ms", default.healthy_after))
}

fn hold(hold: &mut Reader<'_>) -> HoldConfig {
    HoldConfig {
        timeout: hold.duration("timeout_ms", Duration::from_secs(2)),
        requests_max: hold.number("requests_max", 1_000, 1..=HELD_MAX),
        bytes_max: hold.number("bytes_max", 64 << 20, 1..=HELD_BYTES_MAX),
    }
}

fn ejection(ejection: &mut Reader<'_>) -> EjectionConfig {
    let config = EjectionConfig {
        connect_failures: ejection.number("connect_failures", 5, 0..=REQUESTS_MAX),
        server_error_percent: ejection.number("server_error_percent", 0, 0..=100),
        answers: ejection.number("answers", 20, 1..=REQUESTS_MAX),
        base: ejection.duration("base_ms", Duration::from_secs(1)),
        max: ejection.duration("max_ms", Duration::from_secs(60)),
        max_percent: ejection.number("max_percent", 50, 0..=100),
        fail_open: ejection.choice("when_all", true, &[("open", true), ("refuse", false)]),
    };
    ejection.rule(config.base <= config.max, &["base_ms", "max_ms"], || {
        let (base, max) = (config.base.as_millis(), config.max.as_millis());
        format!("{base} is more than ejection.max_ms ({max})")
    });
    config
}

fn upstream(upstream: &mut Reader<'_>) -> UpstreamConfig {
    let minute = Duration::from_secs(60);
    UpstreamConfig {
        connect_timeout: upstream.duration("connect_timeout_ms", Duration::from_secs(1)),
        read_timeout: upstream.duration("read_timeout_ms", minute),
        write_timeout: upstream.duration("write_timeout_ms", minute),
        idle_timeout: upstream.duration("idle_timeout_ms", minute),
        attempts_max: upstream.number("attempts_max", 3, 1..=ATTEMPTS_MAX),
        in_flight_max: upstream.number("in_flight_max", 2_000, 1..=REQUESTS_MAX),
        retry_budget_percent: upstream.number("retry_budget_percent", 20, 0..=100),
        retry_budget_min: upstream.number("retry_budget_min", 3, 0..=REQUESTS_MAX),
    }
}

/// No item may be there twice.
fn rule_unique<T: Ord + Display>(
    pool: &mut Reader<'_>,
    key: &'static str,
    items: impl Iterator<Item = T>,
) {
    let mut seen = BTreeSet::new();
    let repeated: BTreeSet<T> = items.filter_map(|item| seen.replace(item)).collect();
    pool.rule(repeated.is_empty(), &[key], || {
        format!("{}: there more than once", listed(&repeated))
    });
}

fn listed<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}
