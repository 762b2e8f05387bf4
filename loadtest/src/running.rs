//! A process of ours under measurement: started, asked, and ended with everything that it started.

use std::{
    env,
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use procfs::{process::Process, ticks_per_second};

/// A start under valgrind takes seconds.
const START_MAX: Duration = Duration::from_secs(60);
const END_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// A child process, or one that has taken over from it; dropping it ends it and its own children.
pub(crate) struct Running {
    name: String,
    log: PathBuf,
    child: Child,
    pid: i32,
}

/// Processor time, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cpu {
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
}

impl Running {
    /// Starts `command`; what it prints goes to the file `log`.
    pub(crate) fn start(name: &str, mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("starting {name}: {:?}", command.get_program()))?;
        let pid = child.id().cast_signed();
        Ok(Self { name: name.into(), log: log.into(), child, pid })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// The process `pid` has taken over; the one before ends by itself.
    pub(crate) fn follow(&mut self, pid: i32) {
        self.pid = pid;
    }

    /// Whether it has ended; one that is not our child is gone when it is.
    pub(crate) fn has_ended(&mut self) -> bool {
        let is_child = self.pid == self.child.id().cast_signed();
        let child_ended = !matches!(self.child.try_wait(), Ok(None));
        let is_gone =
            || Process::new(self.pid).and_then(|it| it.stat()).map_or(true, |it| it.state == 'Z');
        child_ended && (is_child || is_gone())
    }

    /// Waits until `/home` at `address` is answered with 200.
    pub(crate) fn until_answers(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let began = Instant::now();
        while began.elapsed() < START_MAX && self.child.try_wait()?.is_none() {
            if answers(address).unwrap_or(false) {
                return Ok(());
            }
            thread::sleep(POLL);
        }
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        bail!("{} did not answer at {address} within {START_MAX:?}: {}", self.name, log.trim_end())
    }

    /// Processor time used so far, by the process and its children.
    pub(crate) fn cpu(&self) -> anyhow::Result<Cpu> {
        let mut ticks = (0, 0);
        for process in self.tree()? {
            let stat = process.stat()?;
            ticks = (ticks.0 + stat.utime, ticks.1 + stat.stime);
        }
        let micros = |ticks: u64| ticks * 1_000_000 / ticks_per_second();
        Ok(Cpu { user_us: micros(ticks.0), system_us: micros(ticks.1) })
    }

    /// Resident memory of the process and its children, in KiB.
    pub(crate) fn rss_kib(&self) -> anyhow::Result<u64> {
        let mut sum = 0;
        for process in self.tree()? {
            sum += process.status()?.vmrss.unwrap_or(0);
        }
        Ok(sum)
    }

    fn tree(&self) -> anyhow::Result<Vec<Process>> {
        let mut tree = vec![Process::new(self.pid())?];
        let mut next = 0;
        while next < tree.len() {
            for task in tree[next].tasks()? {
                for child in task?.children()? {
                    tree.push(Process::new(child.cast_signed())?);
                }
            }
            next += 1;
        }
        Ok(tree)
    }
}

impl Drop for Running {
    /// Politely first: a master that is killed leaves its workers behind.
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.pid()), Signal::SIGTERM);
        let began = Instant::now();
        while began.elapsed() < END_MAX {
            if self.has_ended() {
                return;
            }
            thread::sleep(POLL);
        }
        for process in self.tree().unwrap_or_default() {
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Addresses that nobody listens on; held all at once, so that no two are the same.
pub(crate) fn free_addresses<const N: usize>() -> anyhow::Result<[SocketAddr; N]> {
    let listeners: Vec<_> =
        (0..N).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
    Ok(addresses.try_into().expect("as many addresses as listeners"))
}

/// A program that is built together with this one.
pub(crate) fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let own = env::current_exe().context("finding this program's own file")?;
    let path = own.with_file_name(name);
    ensure!(path.exists(), "{} is missing: build it with the same profile", path.display());
    Ok(path)
}

fn answers(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET /home HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    Ok(&status == b"HTTP/1.1 200")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_differ() {
        let [first, second] = free_addresses().unwrap();
        assert_ne!(first, second);
    }

    #[test]
    fn a_tree_is_measured_and_ended_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; sleep 600 & wait; wait"]);
        let running = Running::start("tree", command, &dir.path().join("log")).unwrap();
        let began = Instant::now();
        while running.tree().unwrap().len() < 2 && began.elapsed() < START_MAX {
            thread::sleep(POLL);
        }
        let children: Vec<i32> = running.tree().unwrap().iter().map(|it| it.pid).collect();
        assert_eq!(children.len(), 2);
        assert!(running.rss_kib().unwrap() > 0);
        drop(running);
        for pid in children {
            let gone =
                || Process::new(pid).and_then(|it| it.stat()).map_or(true, |it| it.state == 'Z');
            let began = Instant::now();
            while !gone() && began.elapsed() < END_MAX {
                thread::sleep(POLL);
            }
            assert!(gone(), "{pid}");
        }
    }
}
