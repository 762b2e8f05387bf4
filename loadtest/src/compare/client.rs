//! A blocking client that is cheap and exact: the async one's timer is no finer than a millisecond.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

use crate::request_id::request_id;

const TIMEOUT: Duration = Duration::from_secs(30);

/// One keep-alive connection that asks for `/home`.
pub(super) struct Connection {
    stream: TcpStream,
    host: String,
    buffer: Vec<u8>,
}

/// How long requests took, in microseconds, and how many failed.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    pub(super) took_us: Vec<u64>,
    pub(super) failed: u64,
}

impl Connection {
    pub(super) fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self { stream, host: address.to_string(), buffer: vec![0; 4096] })
    }

    /// Sends one request and reads its answer to the end; an error if it is not a 200.
    pub(super) fn home(&mut self, id: u32) -> anyhow::Result<()> {
        let request =
            format!("GET /home HTTP/1.1\r\nHost: {}\r\nX-Request-Id: {id}\r\n\r\n", self.host);
        self.stream.write_all(request.as_bytes())?;
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..])?;
            ensure!(read > 0, "closed before the end of the answer, or the answer is too long");
            filled += read;
            if let Some(length) = answer_length(&self.buffer[..filled])? {
                ensure!(length == filled, "{filled} bytes of an answer of {length}");
                return Ok(());
            }
        }
    }
}

/// The length of the whole answer, once it has all come; an error unless it is a 200 that says its length.
fn answer_length(bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end])?;
    ensure!(
        head.starts_with("HTTP/1.1 200"),
        "answered {}",
        head.lines().next().unwrap_or_default()
    );
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
    };
    let Some(body) = head.lines().find_map(field) else { bail!("an answer without a length") };
    let length = end + 4 + body?;
    Ok((bytes.len() >= length).then_some(length))
}

/// Sends `requests` in all over `connections` connections, each as soon as the one before is answered.
pub(super) fn closed_loop(
    address: SocketAddr,
    connections: u64,
    requests: u64,
) -> anyhow::Result<()> {
    thread::scope(|scope| {
        let workers: Vec<_> = (0..connections)
            .map(|worker| {
                scope.spawn(move || {
                    let mut connection = Connection::open(address)?;
                    for index in (worker..requests).step_by(connections as usize) {
                        connection.home(request_id(1, index))?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|it| it.join().expect("a worker does not panic"))
    })
    .context("a load of a fixed number of requests")
}

/// Sends `rate` requests a second for `time` over `connections` connections, each at its own time whatever the target
/// does. A latency counts from when its request was due.
pub(super) fn open_loop(
    address: SocketAddr,
    connections: u64,
    rate: u64,
    time: Duration,
) -> Latencies {
    let requests = rate * time.as_millis() as u64 / 1_000;
    let ready = Barrier::new(connections as usize);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..connections)
            .map(|worker| {
                let ready = &ready;
                scope.spawn(move || {
                    let mut connection = Connection::open(address).ok();
                    ready.wait();
                    let origin = Instant::now();
                    let mut latencies = Latencies::default();
                    for index in (worker..requests).step_by(connections as usize) {
                        let due = origin + Duration::from_nanos(index * 1_000_000_000 / rate);
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                        if connection
                            .as_mut()
                            .is_some_and(|it| it.home(request_id(2, index)).is_ok())
                        {
                            latencies.took_us.push(due.elapsed().as_micros() as u64);
                        } else {
                            latencies.failed += 1;
                            connection = Connection::open(address).ok();
                        }
                    }
                    latencies
                })
            })
            .collect();
        let each = workers.into_iter().map(|it| it.join().expect("a worker does not panic"));
        each.fold(Latencies::default(), |mut all, part| {
            all.took_us.extend(part.took_us);
            all.failed += part.failed;
            all
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_it_says() {
        let whole = b"HTTP/1.1 200 OK\r\nCONTENT-length: 3\r\n\r\nabc";
        for end in 0..whole.len() {
            assert_eq!(answer_length(&whole[..end]).unwrap(), None, "{end}");
        }
        assert_eq!(answer_length(whole).unwrap(), Some(whole.len()));
        for bad in ["HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"] {
            assert!(answer_length(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
