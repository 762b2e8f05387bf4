//! Whether a balancer is idle while nothing is asked of it: it has no request in hand, keeps no connection that its
//! client has closed, and takes next to no processor time.
//!
//! Every test that starts a balancer ends with this check ([`super::Balancer::stop`]). What counts is processor time and
//! not time, and a balancer that is still busy is looked at again until the deadline: a busy machine fails no test.
//! Connections that a test keeps open are its own, whatever it does with them.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt::Write,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use tokio::time::{sleep, timeout};

use super::http::Connection;

/// How long the threads are watched, and how often within that.
const WINDOW: Duration = Duration::from_millis(250);
const LOOKS: u32 = 10;

/// The share of one processor that all threads may take together: heartbeats take a part of it, in an unoptimised build.
const PROCESSOR_SHARE_MAX: f64 = 0.1;

/// Between two looks at a balancer that is not idle yet.
const PAUSE: Duration = Duration::from_millis(20);

/// Each of their series is 0 when nothing is asked.
const GAUGES: [&str; 4] = [
    "ringmaster_requests_in_flight",
    "ringmaster_requests_open",
    "ringmaster_requests_waiting",
    "ringmaster_retries_in_flight",
];

/// Connections of clients, as the balancer counts them.
const CONNECTIONS: &str = "ringmaster_connections ";

/// TCP states of `/proc/net/tcp`.
const LISTEN: u8 = 0x0a;

/// What is checked.
pub(crate) struct Subject {
    pub(crate) pid: u32,
    /// Where its metrics are.
    pub(crate) admin: SocketAddr,
    /// What is sent along for them.
    pub(crate) token: Option<String>,
    /// Where clients connect to.
    pub(crate) clients: Vec<SocketAddr>,
}

impl Subject {
    /// Waits until it is idle; after `deadline` with everything that keeps it from that.
    pub(crate) async fn idle_within(&self, deadline: Duration) -> Result<(), String> {
        let began = Instant::now();
        loop {
            // The processor last, as the other looks take some of it.
            let mut faults = self.in_hand().await;
            if faults.is_empty() || began.elapsed() >= deadline {
                faults.extend(busy(self.pid).await);
            }
            if faults.is_empty() {
                return Ok(());
            }
            if began.elapsed() >= deadline {
                let faults = faults.join("\n  ");
                return Err(format!("process {} is not idle:\n  {faults}", self.pid));
            }
            sleep(PAUSE).await;
        }
    }

    /// Requests and connections that it still has.
    async fn in_hand(&self) -> Vec<String> {
        let (left, open) = match (sockets(self.pid), sockets(std::process::id())) {
            (Ok(theirs), Ok(ours)) => (self.left_open(&theirs, &ours), self.open(&theirs)),
            (Err(error), _) | (_, Err(error)) => {
                return vec![format!("its sockets cannot be read: {error}")];
            }
        };
        let metrics = match timeout(super::DEADLINE, self.metrics()).await {
            Ok(Ok(text)) => above_zero(&text, open),
            Ok(Err(error)) => vec![format!("it does not tell its metrics: {error:#}")],
            Err(_) => vec!["it does not tell its metrics in time".to_owned()],
        };
        [left, metrics].concat()
    }

    /// Its ends of connections whose other ends nobody has any more.
    fn left_open(&self, theirs: &[Socket], ours: &[Socket]) -> Vec<String> {
        let held: HashSet<_> = ours.iter().map(|it| (it.remote, it.local)).collect();
        let listeners = self.clients.iter().chain([&self.admin]);
        let kept = theirs.iter().filter(|it| listeners.clone().any(|addr| it.is_at(*addr)));
        kept.filter(|it| !held.contains(&(it.local, it.remote)))
            .map(|it| {
                format!("the connection {} → {} was closed by its client", it.remote, it.local)
            })
            .collect()
    }

    /// How many connections of clients it has.
    fn open(&self, theirs: &[Socket]) -> usize {
        theirs.iter().filter(|it| self.clients.iter().any(|addr| it.is_at(*addr))).count()
    }

    async fn metrics(&self) -> anyhow::Result<String> {
        let bearer = self.token.as_ref().map(|it| format!("Bearer {it}"));
        let headers: Vec<_> = bearer.iter().map(|it| ("authorization", it.as_str())).collect();
        let mut connection = Connection::open(self.admin).await?;
        let answer = connection.send("GET", "/metrics", &headers, "").await?;
        anyhow::ensure!(answer.status == 200, "{}: {}", answer.status, answer.body);
        Ok(answer.body)
    }
}

/// The series of `metrics` that are not 0, or above the number of connections that are `open`.
pub(crate) fn above_zero(metrics: &str, open: usize) -> Vec<String> {
    let is_fault = |line: &&str| {
        if let Some(count) = line.strip_prefix(CONNECTIONS) {
            return count.parse::<usize>().is_ok_and(|it| it > open);
        }
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        GAUGES.contains(&name) && !line.ends_with(" 0")
    };
    let faults = metrics.lines().filter(is_fault);
    faults
        .map(|line| match line.starts_with(CONNECTIONS) {
            true => format!("{line}, of which {open} are open"),
            false => line.to_owned(),
        })
        .collect()
}

// === Threads ===

#[derive(Clone, Debug)]
struct Thread {
    name: String,
    /// On a processor so far.
    ran: Duration,
    /// Has a processor, or waits for one.
    is_runnable: bool,
}

/// What its threads do, if that is more than an idle process does. One that never waits for anything is seen whatever part
/// of a processor it gets.
async fn busy(pid: u32) -> Option<String> {
    let watch = async {
        let began = Instant::now();
        let before = threads(pid)?;
        let mut after = before.clone();
        let runnable = |threads: &BTreeMap<u32, Thread>| -> BTreeSet<u32> {
            threads.iter().filter(|(_, it)| it.is_runnable).map(|(id, _)| *id).collect()
        };
        let mut always = runnable(&before);
        for _ in 0..LOOKS {
            sleep(WINDOW / LOOKS).await;
            after = threads(pid)?;
            always = &always & &runnable(&after);
        }
        io::Result::Ok((began.elapsed(), before, after, always))
    };
    let (took, before, after, always) = match watch.await {
        Ok(watched) => watched,
        Err(error) => return Some(format!("its threads cannot be read: {error}")),
    };
    let mut ran: Vec<_> = after
        .iter()
        .map(|(id, it)| {
            let since = before.get(id).map_or(Duration::ZERO, |it| it.ran);
            (it.ran.saturating_sub(since), *id, &it.name)
        })
        .collect();
    ran.sort();
    let sum: Duration = ran.iter().map(|(ran, ..)| *ran).sum();
    if always.is_empty() && sum <= took.mul_f64(PROCESSOR_SHARE_MAX) {
        return None;
    }
    let mut text = format!("it ran for {} ms of {} ms:", sum.as_millis(), took.as_millis());
    for (ran, id, name) in
        ran.iter().rev().filter(|(ran, id, _)| !ran.is_zero() || always.contains(id))
    {
        let waited = if always.contains(id) { " and waited for nothing" } else { "" };
        let _ = write!(text, " thread {id} ({name}) for {} µs{waited},", ran.as_micros());
    }
    Some(text.trim_end_matches(',').to_owned())
}

fn threads(pid: u32) -> io::Result<BTreeMap<u32, Thread>> {
    let mut threads = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let folder = entry?.path();
        let id = folder.file_name().and_then(|it| it.to_str()?.parse().ok());
        // It may end meanwhile.
        if let (Some(id), Some(thread)) = (id, thread(&folder)) {
            threads.insert(id, thread);
        }
    }
    Ok(threads)
}

fn thread(folder: &std::path::Path) -> Option<Thread> {
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    // The name in parentheses may hold anything; the state follows it.
    let (head, rest) = stat.rsplit_once(") ")?;
    let (_, name) = head.split_once('(')?;
    let schedule = fs::read_to_string(folder.join("schedstat")).ok()?;
    let ran = Duration::from_nanos(schedule.split(' ').next()?.parse().ok()?);
    Some(Thread { name: name.to_owned(), ran, is_runnable: rest.starts_with('R') })
}

// === Sockets ===

/// A TCP socket that a process has.
#[derive(Clone, Copy, Debug)]
struct Socket {
    local: SocketAddr,
    remote: SocketAddr,
}

impl Socket {
    /// Whether it came from a socket that listens on `addr`.
    fn is_at(&self, addr: SocketAddr) -> bool {
        let is_address = addr.ip().is_unspecified() || addr.ip().to_canonical() == self.local.ip();
        is_address && addr.port() == self.local.port()
    }
}

/// The sockets of the network that `pid` is in, but those that only listen, and those that nobody has any more.
fn sockets(pid: u32) -> io::Result<Vec<Socket>> {
    let mut sockets = Vec::new();
    for file in ["tcp", "tcp6"] {
        let text = match fs::read_to_string(format!("/proc/{pid}/net/{file}")) {
            // There is no IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && file == "tcp6" => continue,
            read => read?,
        };
        sockets.extend(text.lines().skip(1).filter_map(socket));
    }
    Ok(sockets)
}

fn socket(line: &str) -> Option<Socket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, local, remote, state, _, _, _, _, _, inode, ..] = fields[..] else { return None };
    let is_held = inode != "0" && u8::from_str_radix(state, 16).ok()? != LISTEN;
    is_held.then_some(Socket { local: address(local)?, remote: address(remote)? })
}

/// As the kernel writes it: the words of the address in the byte order of the machine, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::new();
    for at in (0..ip.len()).step_by(8) {
        let word = u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let ip: IpAddr = match <[u8; 4]>::try_from(&bytes[..]) {
        Ok(bytes) => Ipv4Addr::from(bytes).into(),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[..]).ok()?).into(),
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}
