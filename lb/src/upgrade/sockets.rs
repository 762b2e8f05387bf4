//! The listening sockets, for a process that takes over.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A second descriptor of each, until this process accepts no more: a socket that nobody accepts from must not stay open.
#[derive(Default)]
pub(crate) struct Sockets(Mutex<Vec<Socket>>);

/// One of them.
pub(super) struct Socket {
    pub(super) key: &'static str,
    /// As it was configured: with port 0, it listens elsewhere.
    pub(super) configured: SocketAddr,
    pub(super) listener: TcpListener,
}

impl Sockets {
    /// `listener` is what the configuration asks for by `key`.
    pub(crate) fn add(
        &self,
        key: &'static str,
        configured: SocketAddr,
        listener: &TcpListener,
    ) -> io::Result<()> {
        let listener = listener.try_clone()?;
        self.lock().push(Socket { key, configured, listener });
        Ok(())
    }

    pub(crate) fn close(&self) {
        self.lock().clear();
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<Socket>> {
        // The list is whole between any two calls.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
