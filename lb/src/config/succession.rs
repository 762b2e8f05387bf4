//! What of another configuration may take effect while the balancer runs.

use std::mem;

use super::{Config, PoolConfig, ProviderConfig, TlsConfig};

impl Config {
    /// `next` as far as it may follow this configuration without a new start: keys that only a start reads keep
    /// their values, and those that were to change are named.
    pub(crate) fn successor(&self, mut next: Self) -> (Self, Vec<String>) {
        let mut kept = Vec::new();
        keep(&mut kept, "listen", &self.listen, &mut next.listen);
        keep(&mut kept, "threads", &self.threads, &mut next.threads);
        keep(&mut kept, "grace_period_ms", &self.grace_period, &mut next.grace_period);
        keep(
            &mut kept,
            "upgrade_grace_period_ms",
            &self.upgrade_grace_period,
            &mut next.upgrade_grace_period,
        );
        keep(&mut kept, "state_file", &self.state_file, &mut next.state_file);
        keep(&mut kept, "watch_config", &self.watch_config, &mut next.watch_config);
        keep(&mut kept, "access_log", &self.access_log, &mut next.access_log);
        keep(&mut kept, "cluster", &self.cluster, &mut next.cluster);
        keep(&mut kept, "admin.listen", &self.admin.listen, &mut next.admin.listen);
        keep_tls(&mut kept, &self.tls, &mut next.tls);
        for (name, pool) in &self.pools {
            if let Some(next) = next.pools.get_mut(name) {
                keep_provider(&mut kept, name, pool, next);
            }
        }
        (next, kept)
    }
}

fn keep_tls(kept: &mut Vec<String>, old: &TlsConfig, next: &mut TlsConfig) {
    keep(kept, "tls.listen", &old.listen, &mut next.listen);
    if next.listen.is_some() && next.certificates.is_empty() {
        next.certificates.clone_from(&old.certificates);
    }
}

/// A pool stays with its kind of provider, and with the engine that holds its containers; services, which other
/// balancers keep, too, stay as they are.
fn keep_provider(kept: &mut Vec<String>, pool: &str, old: &PoolConfig, next: &mut PoolConfig) {
    if let (ProviderConfig::Docker(old), ProviderConfig::Docker(next)) =
        (&old.provider, &mut next.provider)
    {
        keep(kept, &format!("pools.{pool}.docker.socket"), &old.socket, &mut next.socket);
        keep(kept, &format!("pools.{pool}.docker.spawner"), &old.spawner, &mut next.spawner);
    }
    if let (ProviderConfig::Swarm(old), ProviderConfig::Swarm(next)) =
        (&old.provider, &mut next.provider)
    {
        keep(kept, &format!("pools.{pool}.server_id"), &old.server_id, &mut next.server_id);
        keep(kept, &format!("pools.{pool}.docker"), old, next);
    }
    if mem::discriminant(&old.provider) != mem::discriminant(&next.provider) {
        kept.push(format!("pools.{pool}.provider"));
        // Counts, names and limits of one kind may break the rules of the other.
        *next = old.clone();
    }
}

fn keep<T: PartialEq + Clone>(kept: &mut Vec<String>, key: &str, old: &T, next: &mut T) {
    if old != next {
        kept.push(key.to_owned());
        next.clone_from(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_start_reads_is_kept_and_named() {
        let old = Config::parse("pools: { a: {}, b: {} }\nroutes: [{ pool: a }]").unwrap();
        let next = Config::parse(
            "
            listen: 127.0.0.1:1
            threads: 3
            grace_period_ms: 7
            upgrade_grace_period_ms: 7
            state_file: /x
            watch_config: true
            cluster: other
            access_log: true
            explain_header: true
            admin: { listen: 127.0.0.1:2, trust: [] }
            tls: { listen: 127.0.0.1:4, certificates: [{ certificate: c, key: k }] }
            pools:
              a: { provider: fixed, fixed: { S1: '127.0.0.1:3' } }
              c: {}
            routes: [{ pool: c }]
            ",
        )
        .unwrap();
        let (successor, kept) = old.successor(next.clone());
        let keys = [
            "listen",
            "threads",
            "grace_period_ms",
            "upgrade_grace_period_ms",
            "state_file",
            "watch_config",
            "access_log",
            "cluster",
            "admin.listen",
            "tls.listen",
        ];
        assert_eq!(kept, [&keys[..], &["pools.a.provider"]].concat());
        assert_eq!(successor.listen, old.listen);
        assert_eq!(successor.pools["a"], old.pools["a"]);
        assert!(successor.explain_header && successor.admin.trust.is_empty());
        assert_eq!((&successor.routes, successor.pools.len()), (&next.routes, 2));
        assert_eq!(old.successor(old.clone()), (old, vec![]));
    }

    #[test]
    fn who_serves_tls_keeps_a_certificate() {
        let text = "tls: { listen: 127.0.0.1:4, certificates: [{ certificate: c, key: k }] }";
        let old = Config::parse(text).unwrap();
        let (successor, kept) = old.successor(Config::default());
        assert_eq!(kept, ["tls.listen"]);
        assert_eq!(successor.tls, old.tls);
    }

    #[test]
    fn containers_stay_with_their_engine() {
        let parse = |docker: &str| {
            let text = format!("pools: {{ a: {{ provider: docker, docker: {{ {docker} }} }} }}");
            Config::parse(&text).unwrap()
        };
        let (successor, kept) =
            parse("image: i, socket: /s").successor(parse("image: j, spawner: /t"));
        assert_eq!(kept, ["pools.a.docker.socket", "pools.a.docker.spawner"]);
        assert_eq!(successor, parse("image: j, socket: /s"));
    }
}
