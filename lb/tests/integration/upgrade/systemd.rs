//! What the service manager is told, and which of its variables go further.

use std::{
    fs,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram as StdUnixDatagram},
    },
    path::Path,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::net::UnixDatagram;

use super::successor::Service;
use crate::harness::{DEADLINE, http};

/// A manager's end of `NOTIFY_SOCKET`.
struct Manager(UnixDatagram);

impl Manager {
    fn listen(socket: &str) -> Self {
        let addr = match socket.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(socket),
        };
        let socket = StdUnixDatagram::bind_addr(&addr.unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self(UnixDatagram::from_std(socket).unwrap())
    }

    async fn told(&self) -> String {
        let mut text = [0; 256];
        let read = tokio::time::timeout(DEADLINE, self.0.recv(&mut text)).await.expect("in time");
        String::from_utf8(text[..read.unwrap()].to_vec()).unwrap()
    }

    /// Waits for the messages of one reload.
    async fn told_of_a_reload(&self) {
        let began = self.told().await;
        let usec = began.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&began);
        assert!(usec.trim_end().parse::<u64>().unwrap() > 0, "{began}");
        assert_eq!(self.told().await, "READY=1\n");
    }
}

fn has_variable(pid: u32, name: &str) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let prefix = format!("{name}=");
    environment.split(|&byte| byte == 0).any(|it| it.starts_with(prefix.as_bytes()))
}

const OF_THE_FIRST: [&str; 4] = ["WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS"];

async fn tells(socket: &str) {
    let systemd = Manager::listen(socket);
    let mut environment = vec![("NOTIFY_SOCKET", Path::new(socket))];
    environment.extend(OF_THE_FIRST.map(|name| (name, Path::new("1"))));
    let mut service = Service::start_in(&environment, "").await;
    assert_eq!(systemd.told().await, "READY=1\n");
    let replicas = http::get(service.admin, "/api/v1/pools/default/replicas").await.json();
    for replica in replicas["replicas"].as_array().unwrap() {
        let pid = replica["pid"].as_u64().unwrap() as u32;
        for name in OF_THE_FIRST.iter().chain(&["NOTIFY_SOCKET"]) {
            assert!(!has_variable(pid, name), "a replica has {name}");
        }
        assert!(has_variable(pid, "PATH"), "all other variables are inherited");
    }

    for _ in 0..2 {
        service.upgrade("").await;
        assert_eq!(systemd.told().await, format!("MAINPID={}\n", service.pid()));
        assert!(has_variable(service.pid(), "NOTIFY_SOCKET"));
        for name in OF_THE_FIRST {
            assert!(!has_variable(service.pid(), name), "the successor has {name}");
        }
    }

    // A dry run is no reload. A refused one is over as soon as it is refused.
    for (yaml, query, status) in
        [("", "?dry_run=true", 200), ("", "", 200), ("threads: many", "", 400)]
    {
        service.rewrite_config(yaml);
        let path = format!("/api/v1/reload{query}");
        let answer = http::send(service.admin, "POST", &path, &[], "").await;
        assert_eq!(answer.status, status, "{yaml}: {}", answer.body);
        if query.is_empty() {
            systemd.told_of_a_reload().await;
        }
    }
    kill(Pid::from_raw(service.pid() as i32), Signal::SIGHUP).unwrap();
    systemd.told_of_a_reload().await;
    service.stop().await;
    assert_eq!(systemd.told().await, "STOPPING=1\n");
}

#[tokio::test]
async fn systemd_is_told_on_a_socket_with_a_path() {
    let folder = tempfile::tempdir().unwrap();
    tells(folder.path().join("notify").to_str().unwrap()).await;
}

#[tokio::test]
async fn systemd_is_told_on_an_abstract_socket() {
    tells(&format!("@ringmaster-test-{}", std::process::id())).await;
}
