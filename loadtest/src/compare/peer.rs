//! Who is compared, and how each is started.

use std::{fmt, fs, net::SocketAddr, path::PathBuf, process::Command};

use serde::{Deserialize, Serialize};

use super::stage::{BOTH, CERTIFICATE, KEY, Stage};
use crate::running::{Running, beside, free_addresses};

/// A proxy under comparison.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub(super) enum Peer {
    Ringmaster,
    /// Pingora without anything of ours: the package `ringmaster-bare`.
    Bare,
    Nginx,
    Haproxy,
    Caddy,
}

/// How a peer is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) threads: usize,
    pub(super) access_log: bool,
    /// Whether it serves TLS as well.
    pub(super) tls: bool,
}

impl Setting {
    pub(super) const ONE_THREAD: Self = Self { threads: 1, access_log: false, tls: false };
}

/// A peer that answers.
pub(super) struct Playing {
    pub(super) process: Running,
    pub(super) address: SocketAddr,
    /// Where it serves TLS, if it was to.
    pub(super) secure: SocketAddr,
}

impl Peer {
    pub(super) const ALL: [Self; 5] =
        [Self::Ringmaster, Self::Bare, Self::Nginx, Self::Haproxy, Self::Caddy];

    /// What it calls itself, with its version; `None` if it is not installed.
    pub(super) fn version(self) -> Option<String> {
        let program = self.program().ok()?;
        if self == Self::Bare {
            return Some("Pingora alone, round robin".to_owned());
        }
        let argument = match self {
            Self::Nginx | Self::Haproxy => "-v",
            Self::Caddy => "version",
            Self::Ringmaster | Self::Bare => "--version",
        };
        let output = Command::new(program).arg(argument).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        let line = String::from_utf8_lossy(&text).lines().next()?.trim().to_owned();
        // Caddy says its number alone; HAProxy adds where to read more.
        let line = line.split(" - ").next().unwrap_or_default().replace("nginx version: ", "");
        Some(if self == Self::Caddy { format!("Caddy {line}") } else { line })
    }

    /// Starts it, on the stage's core if it has one thread only; `wrapper` is put before the command.
    pub(super) fn start(
        self,
        stage: &Stage,
        setting: Setting,
        wrapper: &[String],
    ) -> anyhow::Result<Playing> {
        let [address, secure, admin] = free_addresses()?;
        let dir = stage.dir();
        let file = dir.join(format!("{self}.conf"));
        fs::write(
            &file,
            stage.fill(self.template(), &names(stage, setting, [address, secure, admin])),
        )?;
        let mut arguments: Vec<String> = wrapper.to_vec();
        arguments.push(self.program()?.display().to_string());
        let path = file.display().to_string();
        let own: Vec<String> = match self {
            Self::Ringmaster => vec!["-c".into(), path],
            Self::Bare => [address.to_string(), setting.threads.to_string()]
                .into_iter()
                .chain(setting.tls.then(|| format!("tls={secure},{}", dir.display())))
                .chain(stage.backends().iter().map(SocketAddr::to_string))
                .collect(),
            Self::Nginx => {
                vec![
                    "-c".into(),
                    path,
                    "-p".into(),
                    dir.display().to_string(),
                    "-e".into(),
                    "stderr".into(),
                ]
            }
            Self::Haproxy => vec!["-db".into(), "-f".into(), path],
            Self::Caddy => {
                vec!["run".into(), "--config".into(), path, "--adapter".into(), "caddyfile".into()]
            }
        };
        arguments.extend(own);
        let cores =
            if setting.threads == 1 { stage.core.to_string() } else { format!("0-{}", stage.core) };
        let mut command = Command::new("taskset");
        command
            .args(["-c", &cores])
            .args(arguments)
            .env("GOMAXPROCS", setting.threads.to_string())
            .env("XDG_DATA_HOME", dir)
            .env("XDG_CONFIG_HOME", dir)
            .env("RUNTIME_DIRECTORY", dir);
        let mut process =
            Running::start(&self.to_string(), command, &dir.join(format!("{self}.log")))?;
        process.until_answers(address)?;
        Ok(Playing { process, address, secure })
    }

    fn program(self) -> anyhow::Result<PathBuf> {
        match self {
            Self::Ringmaster => beside("ringmaster"),
            Self::Bare => beside("ringmaster-bare"),
            Self::Nginx | Self::Haproxy | Self::Caddy => Ok(self.to_string().into()),
        }
    }

    fn template(self) -> &'static str {
        match self {
            Self::Ringmaster => include_str!("../../peers/ringmaster.yaml"),
            Self::Bare => "",
            Self::Nginx => include_str!("../../peers/nginx.conf"),
            Self::Haproxy => include_str!("../../peers/haproxy.cfg"),
            Self::Caddy => include_str!("../../peers/Caddyfile"),
        }
    }
}

/// What the templates differ in. Access logs are written to files, buffered where the peer can.
fn names(
    stage: &Stage,
    setting: Setting,
    [address, secure, admin]: [SocketAddr; 3],
) -> Vec<(&'static str, String)> {
    let log = |on: &str, off: &str| if setting.access_log { on.to_owned() } else { off.to_owned() };
    let tls = |on: String| if setting.tls { on } else { String::new() };
    let dir = stage.dir().display();
    vec![
        ("LISTEN", address.to_string()),
        ("ADMIN", admin.to_string()),
        ("THREADS", setting.threads.to_string()),
        ("NGINX_MASTER", (if setting.threads == 1 { "off" } else { "on" }).to_owned()),
        ("NGINX_LOG", log(&format!("{dir}/nginx-access.log combined buffer=64k"), "off")),
        ("HAPROXY_LOG", log("log stdout format raw local0", "")),
        ("HAPROXY_OPTION", log("log global\n    option httplog", "")),
        ("CADDY_LOG", log(&format!("log {{\n\t\toutput file {dir}/caddy-access.log\n\t}}"), "")),
        ("RINGMASTER_LOG", setting.access_log.to_string()),
        (
            "NGINX_TLS",
            tls(format!(
                "listen {secure} ssl backlog=4096; ssl_certificate {dir}/{CERTIFICATE}; ssl_certificate_key {dir}/{KEY};"
            )),
        ),
        (
            "HAPROXY_TLS",
            tls(format!("bind {secure} ssl crt {dir}/{BOTH} alpn http/1.1 backlog 4096")),
        ),
        (
            "CADDY_TLS",
            tls(format!(
                "https://{secure} {{\n\tbind 127.0.0.1\n\ttls {dir}/{CERTIFICATE} {dir}/{KEY}\n\timport proxy\n}}"
            )),
        ),
        (
            "RINGMASTER_TLS",
            tls(format!(
                "tls: {{ listen: {secure}, certificates: [{{ certificate: {dir}/{CERTIFICATE}, key: {dir}/{KEY} }}] }}"
            )),
        ),
    ]
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ringmaster => "ringmaster",
            Self::Bare => "bare",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Caddy => "caddy",
        })
    }
}
