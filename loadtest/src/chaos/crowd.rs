//! More connections than there is room for.

use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
};

use super::account::Seen;
use crate::target::Target;

/// A connection that is not taken within this finds a full queue; on this machine a free place takes microseconds.
const QUEUE_IS_FULL: Duration = Duration::from_millis(250);

/// More connections than any queue has places.
const QUEUE_MAX: usize = 8192;

/// Connections to `address` until no more are taken.
pub(super) fn fill_queue(address: SocketAddr) -> anyhow::Result<Vec<TcpStream>> {
    let mut queue = Vec::new();
    while queue.len() < QUEUE_MAX {
        match TcpStream::connect_timeout(&address, QUEUE_IS_FULL) {
            Ok(stream) => queue.push(stream),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => return Ok(queue),
            Err(error) => return Err(error).with_context(|| format!("connecting to {address}")),
        }
    }
    bail!("{address} took {QUEUE_MAX} connections, and would take more")
}

/// As many connections, each with one request; an error unless some are refused.
pub(super) async fn crowd(
    target: &Target,
    count: usize,
) -> anyhow::Result<(Vec<tokio::net::TcpStream>, Seen)> {
    let mut clients = JoinSet::new();
    for _ in 0..count {
        let target = target.clone();
        clients.spawn(async move {
            let mut stream = target.connect().await?;
            let request = format!("GET /home HTTP/1.1\r\nHost: {}\r\n\r\n", target.authority());
            stream.write_all(request.as_bytes()).await?;
            let mut status = [0; 12];
            stream.read_exact(&mut status).await?;
            anyhow::Ok((stream, &status == b"HTTP/1.1 200"))
        });
    }
    let (mut admitted, mut seen) = (Vec::new(), Seen::default());
    for client in clients.join_all().await {
        match client {
            Ok((stream, true)) => {
                seen.ok += 1;
                admitted.push(stream);
            }
            Ok((_, false)) => seen.errors += 1,
            // A refused one may be closed before its answer is read.
            Err(_) => seen.unanswered += 1,
        }
    }
    ensure!(
        admitted.len() < count,
        "all of {count} connections were admitted: there are more descriptors than that"
    );
    Ok((admitted, seen))
}

/// Lets this process have as many descriptors as it may: queues are filled from here.
pub(super) fn raise_descriptors() -> anyhow::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit of descriptors")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_queue_is_full_when_nobody_takes_from_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let queue = fill_queue(listener.local_addr().unwrap()).unwrap();
        assert!(!queue.is_empty());
    }
}
