//! What systemd, or another manager that speaks its protocol, is told of this process: sd_notify(3).
//!
//! The protocol is a datagram with lines to the socket in `NOTIFY_SOCKET`: a path, or an abstract name after an `@`.
//! Invariants: a manager that does not listen holds nothing up for longer than [`PATIENCE`], and only processes that speak
//! to the manager themselves have its variables in their environment.

use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tracing::warn;

/// Where the manager listens.
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// Variables that are meant for the process that the manager started, and for none that this one starts.
const OF_ONE_PROCESS: [&str; 7] = [
    "FDSTORE",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// How long the manager may take to make room for a datagram: far longer than it does.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the manager may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It serves, or has read its configuration again.
    Ready,
    /// It reads its configuration again.
    Reloading,
    /// It ends.
    Stopping,
    /// This process serves from now on.
    MainPid(u32),
}

/// Tells the manager, if there is one. That it cannot be told is logged, and changes nothing.
pub(crate) fn tell(state: State) {
    let Some(socket) = env::var_os(NOTIFY_SOCKET).filter(|it| !it.is_empty()) else { return };
    if let Err(error) = send(&socket, &message(state)) {
        warn!(?state, ?socket, %error, "The service manager cannot be told of this process");
    }
}

/// The variables that a process must not inherit from this one. A `successor` is the next to speak to the manager.
pub(crate) fn not_inherited(is_successor: bool) -> impl Iterator<Item = &'static str> {
    OF_ONE_PROCESS.into_iter().chain((!is_successor).then_some(NOTIFY_SOCKET))
}

fn message(state: State) -> String {
    match state {
        State::Ready => "READY=1\n".to_owned(),
        // When it began, so that systemd can tell which of its requests this one follows (Type=notify-reload).
        State::Reloading => {
            let now = clock_gettime(ClockId::Monotonic);
            let usec = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
            format!("RELOADING=1\nMONOTONIC_USEC={usec}\n")
        }
        State::Stopping => "STOPPING=1\n".to_owned(),
        State::MainPid(pid) => format!("MAINPID={pid}\n"),
    }
}

fn send(socket: &OsStr, message: &str) -> io::Result<()> {
    let addr = address(socket)?;
    let datagram = UnixDatagram::unbound()?;
    datagram.set_write_timeout(Some(PATIENCE))?;
    // Datagrams are sent whole or not at all.
    datagram.send_to_addr(message.as_bytes(), &addr).map(drop)
}

fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(socket),
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "neither an absolute path nor an abstract socket (@NAME)",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_paths_or_abstract_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("@ringmaster-test-{}", std::process::id());
        for socket in [path.as_os_str(), OsStr::new(&name)] {
            let manager = UnixDatagram::bind_addr(&address(socket).unwrap()).unwrap();
            send(socket, "READY=1\n").unwrap();
            let mut text = [0; 64];
            let length = manager.recv(&mut text).unwrap();
            assert_eq!(&text[..length], b"READY=1\n", "{socket:?}");
        }
        for socket in ["notify", "vsock:2:1234", ""] {
            let error = send(OsStr::new(socket), "READY=1\n").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{socket}");
        }
        assert!(send(OsStr::new("/no/such/socket"), "READY=1\n").is_err());
        assert!(send(OsStr::new("@ringmaster-test-nobody"), "READY=1\n").is_err());
    }

    #[test]
    fn a_manager_that_reads_nothing_does_not_hang_us() {
        let name = format!("@ringmaster-test-full-{}", std::process::id());
        let _manager = UnixDatagram::bind_addr(&address(OsStr::new(&name)).unwrap()).unwrap();
        // The kernel's queue is finite.
        let refused = (0..100_000).find_map(|_| send(OsStr::new(&name), "READY=1\n").err());
        assert_eq!(refused.map(|it| it.kind()), Some(io::ErrorKind::WouldBlock));
    }

    #[test]
    fn messages_are_lines() {
        assert_eq!(message(State::Ready), "READY=1\n");
        assert_eq!(message(State::Stopping), "STOPPING=1\n");
        assert_eq!(message(State::MainPid(7)), "MAINPID=7\n");
        let reloading = message(State::Reloading);
        let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(usec.trim_end().parse::<u64>().unwrap() > 0, "{reloading}");
    }

    #[test]
    fn only_a_successor_speaks_to_the_manager() {
        assert!(not_inherited(false).any(|it| it == NOTIFY_SOCKET));
        assert!(!not_inherited(true).any(|it| it == NOTIFY_SOCKET));
        assert!(not_inherited(true).any(|it| it == "WATCHDOG_PID"));
    }
}
