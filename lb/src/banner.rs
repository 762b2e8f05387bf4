//! What a person reads once the balancer is ready: what runs where, and what to try.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use ringmaster_fleet::PhaseName;

use crate::{
    VERSION,
    supervisor::{PoolView, ReplicaView},
};

/// More replicas of a pool than this are not listed one by one.
const REPLICAS_LISTED: usize = 10;

/// Where the balancer listens.
pub(crate) struct Addresses {
    pub(crate) proxy: SocketAddr,
    pub(crate) secure: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
}

/// The text.
pub(crate) fn text(addresses: &Addresses, pools: &[PoolView], took: Duration) -> String {
    let &Addresses { proxy, secure, admin } = addresses;
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "ringmaster {VERSION} ready in {:.1} s", took.as_secs_f64());
    let _ = writeln!(text, "  proxy  http://{proxy}");
    if let Some(secure) = secure {
        let _ = writeln!(text, "  proxy  https://{secure}");
    }
    let _ = writeln!(text, "  admin  http://{admin}");
    for pool in pools {
        let _ = writeln!(text, "{}", summary(pool));
        for replica in pool.replicas.iter().take(REPLICAS_LISTED) {
            let _ = writeln!(text, "    {}", line(replica));
        }
    }
    let victim = pools.iter().flat_map(|pool| &pool.replicas).find_map(|replica| replica.pid);
    let _ = writeln!(text, "try");
    let _ = writeln!(text, "  curl http://{}/home", reachable(proxy));
    let _ = writeln!(text, "  curl http://{}/rep", reachable(proxy));
    let _ = match victim {
        Some(pid) => writeln!(text, "  kill -9 {pid}; curl http://{}/home", reachable(proxy)),
        None => writeln!(text, "  curl http://{}/api/v1/pools", reachable(admin)),
    };
    text
}

fn summary(pool: &PoolView) -> String {
    let serving = pool.replicas.iter().filter(|it| it.phase == PhaseName::Serving).count();
    format!(
        "  pool   {}: {serving} of {} replicas serve (provider {}, algorithm {})",
        pool.name,
        pool.replicas.len(),
        pool.provider,
        pool.table.algorithm().name()
    )
}

fn line(replica: &ReplicaView) -> String {
    let mut line = format!("{:<10} {:<9}", replica.host.to_string(), replica.phase.as_str());
    if let Some(addr) = replica.addr {
        let _ = write!(line, " {addr}");
    }
    if let Some(pid) = replica.pid {
        let _ = write!(line, "  process {pid}");
    }
    line
}

/// An address to connect to: the unspecified one is only good for listening.
pub(crate) fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, addr.port())
}
