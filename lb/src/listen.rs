//! Listening sockets, bound before anything else starts: a port that is taken is known at once.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use procfs::{
    net::{TcpNetEntry, TcpState},
    process::{self, FDTarget},
};

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    #[error(
        "{key}: cannot listen on {addr}: the port is in use{}; end what uses it, or choose another address",
        .owner.as_deref().map(|it| format!(" by {it}")).unwrap_or_default()
    )]
    InUse { key: &'static str, addr: SocketAddr, owner: Option<String> },
    #[error(
        "{key}: cannot listen on {addr}: permission denied; a port below 1024 needs CAP_NET_BIND_SERVICE"
    )]
    Denied { key: &'static str, addr: SocketAddr },
    #[error("{key}: cannot listen on {addr}: {error}; choose an address of this machine")]
    Other { key: &'static str, addr: SocketAddr, error: io::Error },
}

/// Listens on `addr`, which the configuration sets under `key`.
pub(crate) fn bind(key: &'static str, addr: SocketAddr) -> Result<TcpListener, BindError> {
    let bound = TcpListener::bind(addr).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { key, addr, owner: owner(addr.port()) },
        io::ErrorKind::PermissionDenied => BindError::Denied { key, addr },
        _ => BindError::Other { key, addr, error },
    })
}

/// The process that listens on `port`, as far as this process may see it.
fn owner(port: u16) -> Option<String> {
    let listens =
        |entry: &TcpNetEntry| entry.state == TcpState::Listen && entry.local_address.port() == port;
    let tables = [procfs::net::tcp(), procfs::net::tcp6()];
    let inode = tables.into_iter().flatten().flatten().find(listens)?.inode;
    process::all_processes().ok()?.flatten().find_map(|process| {
        let holds = process
            .fd()
            .ok()?
            .flatten()
            .any(|fd| matches!(fd.target, FDTarget::Socket(it) if it == inode));
        let name = process.stat().ok()?.comm;
        holds.then(|| format!("{name} (process {})", process.pid))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_who_has_the_port() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap();
        let error = bind("listen", addr).unwrap_err().to_string();
        assert!(error.contains(&addr.to_string()), "{error}");
        assert!(error.contains(&format!("(process {})", std::process::id())), "{error}");
    }
}
