//! A replica of our own, for pools whose replicas somebody else runs.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::bail;
use serde_yaml::{Mapping, Value};

use crate::running::{Running, beside};

const START_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// What a replica prints once it listens, before its address.
const LISTENING: &str = "listening on ";

/// A replica that no balancer keeps; it ends when this is dropped.
pub(crate) struct Replica {
    _process: Running,
    address: SocketAddr,
}

impl Replica {
    /// Starts one on a free port; every `/home` takes `delay_ms`. Its output goes to a file in `dir`.
    pub(crate) async fn start(
        name: &str,
        delay_ms: u64,
        served_log: Option<&Path>,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(beside("ringmaster")?);
        command.args(["replica", "--listen", "127.0.0.1:0", "--name", name]);
        command.args(["--delay-ms", &delay_ms.to_string()]);
        command.env_remove("SERVED_LOG").envs(served_log.map(|it| ("SERVED_LOG", it)));
        let log = dir.join(format!("{name}.log"));
        let process = Running::start(name, command, &log)?;
        let began = Instant::now();
        loop {
            let said = fs::read_to_string(&log).unwrap_or_default();
            let line = said.lines().find_map(|line| line.strip_prefix(LISTENING));
            if let Some(address) = line.and_then(|it| it.parse().ok()) {
                return Ok(Self { _process: process, address });
            }
            if began.elapsed() > START_MAX {
                bail!("{name} did not listen within {START_MAX:?}: {}", said.trim_end());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The keys of a pool of these replicas, called S1, S2 and so on.
    pub(crate) fn pool(replicas: &[Self]) -> Mapping {
        let addresses = replicas.iter().zip(1..).map(|(replica, number)| {
            (Value::from(format!("S{number}")), Value::from(replica.address.to_string()))
        });
        Mapping::from_iter([
            ("provider".into(), "fixed".into()),
            ("fixed".into(), Value::Mapping(addresses.collect())),
        ])
    }
}
