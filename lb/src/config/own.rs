//! Whether a pool with `provider: fixed` would send requests back to this balancer.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use super::{Config, PoolConfig, ProviderConfig, fault::Fault};

impl Config {
    /// The faults of replicas that are this balancer itself.
    pub(super) fn own_addresses(&self) -> Vec<Fault> {
        let listeners = (self.listen, self.admin.listen, self.tls.listen);
        let faults = own_addresses(listeners, &self.pools);
        faults.into_iter().map(|(key, text)| Fault::new(&key, text)).collect()
    }
}

/// The keys of replicas at addresses where this balancer itself listens (`listen`, `admin.listen` and `tls.listen`), and what
/// is wrong with them.
pub(super) fn own_addresses(
    (listen, admin, tls): (SocketAddr, SocketAddr, Option<SocketAddr>),
    pools: &BTreeMap<String, PoolConfig>,
) -> Vec<(String, String)> {
    let listeners = [("listen", Some(listen)), ("admin.listen", Some(admin)), ("tls.listen", tls)];
    let own = |replica| {
        let listeners = listeners.into_iter().filter_map(|(key, listener)| Some((key, listener?)));
        listeners.into_iter().find(|(_, listener)| is_own(*listener, replica))
    };
    let mut faults = Vec::new();
    for (pool, config) in pools {
        let ProviderConfig::Fixed(fixed) = &config.provider else { continue };
        for (name, &replica) in fixed {
            let Some((key, listener)) = own(replica) else { continue };
            let text = format!(
                "{replica} is this balancer itself ({key}: {listener}); use the address of a replica"
            );
            faults.push((format!("pools.{pool}.fixed.{name}"), text));
        }
    }
    faults
}

/// Whether connections to `replica` arrive at `listener`, as far as this machine knows.
fn is_own(listener: SocketAddr, replica: SocketAddr) -> bool {
    // Connections to no address in particular go to this machine.
    let destination = match replica.ip().to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        addr => addr,
    };
    let is_port = replica.port() == listener.port() && listener.port() != 0;
    is_port
        && match listener.ip().to_canonical() {
            addr if addr == destination => true,
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => destination.is_ipv4() && is_local(destination),
            // Takes IPv4, too.
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => is_local(destination),
            _ => false,
        }
}

/// Whether the address is one of this machine's: then the kernel chooses it as the source of what is sent to it. Nothing is
/// sent. To bind to it would not tell, where `ip_nonlocal_bind` is set.
fn is_local(addr: IpAddr) -> bool {
    let any = match addr {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let source = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((addr, 9))?;
        socket.local_addr()
    };
    addr.is_loopback() || source().is_ok_and(|source| source.ip() == addr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_own_address_is_known() {
        for (listener, replica, expected) in [
            ("127.0.0.1:5000", "127.0.0.1:5000", true),
            ("127.0.0.1:5000", "127.0.0.1:5001", false),
            ("127.0.0.1:5000", "127.0.0.2:5000", false),
            ("127.0.0.1:5000", "[::ffff:127.0.0.1]:5000", true),
            ("127.0.0.1:5000", "0.0.0.0:5000", true),
            ("127.0.0.1:0", "127.0.0.1:1", false),
            ("0.0.0.0:5000", "127.0.0.1:5000", true),
            ("0.0.0.0:5000", "127.9.9.9:5000", true),
            ("0.0.0.0:5000", "0.0.0.0:5000", true),
            ("0.0.0.0:5000", "[::1]:5000", false),
            ("0.0.0.0:5000", "192.0.2.1:5000", false),
            ("0.0.0.0:5000", "192.0.2.1:80", false),
            ("[::]:5000", "[::1]:5000", true),
            ("[::]:5000", "[::]:5000", true),
            ("[::]:5000", "127.0.0.1:5000", true),
            ("[::]:5000", "[2001:db8::1]:5000", false),
            ("[::1]:5000", "[0:0::1]:5000", true),
            ("192.0.2.1:5000", "192.0.2.1:5000", true),
            ("192.0.2.1:5000", "127.0.0.1:5000", false),
        ] {
            let found = is_own(listener.parse().unwrap(), replica.parse().unwrap());
            assert_eq!(found, expected, "{replica} at {listener}");
        }
    }

    #[test]
    fn addresses_of_this_machine_s_networks_are_its_own() {
        // Its source towards other networks, if it has one.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("192.0.2.1:9").is_ok() {
            let addr = socket.local_addr().unwrap().ip();
            assert!(is_local(addr), "{addr}");
            assert!(is_own("0.0.0.0:5000".parse().unwrap(), (addr, 5000).into()));
        }
    }
}
