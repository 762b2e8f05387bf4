//! The command line, and the process around [`run()`].

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use crate::{Behaviour, Replica, ServedLog, healthcheck::healthcheck, run, say};

/// The arguments of a replica.
#[derive(Clone, Debug, clap::Args)]
pub struct ServerArgs {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:5000")]
    pub listen: SocketAddr,

    /// Name of this replica [default: the host name]
    #[arg(long)]
    pub name: Option<String>,

    /// What stands in the message of /home [default: the number that ends the name]
    #[arg(long, env = "SERVER_ID")]
    pub id: Option<String>,

    /// How long every /home takes
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub delay_ms: u64,

    /// Append NAME, METHOD and X-Request-Id of every /home to this file before it is answered, and answer POST, too; for
    /// experiments that count how often a request was served
    #[arg(long, env = "SERVED_LOG", value_name = "FILE")]
    pub served_log: Option<PathBuf>,

    /// Answer this many heartbeats, and 500 to all further ones [default: answer all]
    #[arg(long, value_name = "N")]
    pub fail_heartbeat_after: Option<u64>,

    /// Stop after this long without a heartbeat; 0: never
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub exit_without_heartbeat_s: u64,

    /// How long requests in flight may take to finish when the replica stops
    #[arg(long, value_name = "MS", default_value_t = Behaviour::GRACE_MS)]
    pub grace_ms: u64,

    /// Be no replica: ask the one at --listen for a heartbeat, and exit with 0 if it answers
    #[arg(long)]
    pub healthcheck: bool,
}

impl ServerArgs {
    fn replica(self) -> anyhow::Result<Replica> {
        let name = match self.name {
            Some(name) => name,
            None => host_name()?,
        };
        let mut replica = Replica::new(name);
        // `SERVER_ID=` is how Compose writes a variable that nobody set.
        if let Some(id) = self.id.filter(|id| !id.is_empty()) {
            replica.id = id;
        }
        let served_log = self.served_log.filter(|it| !it.as_os_str().is_empty());
        replica.behaviour = Behaviour {
            delay: Duration::from_millis(self.delay_ms),
            served_log: served_log.map(|it| ServedLog::open(&it).map(Arc::new)).transpose()?,
            fail_heartbeat_after: self.fail_heartbeat_after,
            exit_without_heartbeat: (self.exit_without_heartbeat_s > 0)
                .then(|| Duration::from_secs(self.exit_without_heartbeat_s)),
            grace: Duration::from_millis(self.grace_ms),
        };
        Ok(replica)
    }
}

/// Runs a replica as a process: listens, writes `listening on ADDRESS` to standard output as soon
/// as a connection can be made, and serves until SIGTERM or SIGINT. Returns when it has drained.
/// With [`ServerArgs::healthcheck`] it only asks another one whether it is well.
pub async fn serve(args: ServerArgs) -> anyhow::Result<()> {
    let listen = args.listen;
    if args.healthcheck {
        return healthcheck(listen).await;
    }
    let replica = args.replica()?;
    // Before the line below: whoever reads it may send a signal at once.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener =
        TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
    say::out(&format!("listening on {}", listener.local_addr()?));
    run(listener, replica, async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
    .await?;
    Ok(())
}

/// In a container, the host name is the name of the replica.
fn host_name() -> anyhow::Result<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname")
        .context("no --name is given, and the host name cannot be read")?;
    Ok(name.trim_end().to_owned())
}
