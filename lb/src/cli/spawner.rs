//! `ringmaster spawner`: a process of its own that holds the engine's socket, so that the balancer need not.

use std::{iter, path::PathBuf, sync::Arc};

use clap::value_parser;
use nix::unistd::geteuid;
use ringmaster_fleet::ReplicaName;
use tokio::signal::unix::{SignalKind, signal};

use super::say;
use crate::engine::{ContainerLimits, Local, Policy, Socket, Spawner};

const MIB: u64 = 1 << 20;

/// Beside the spawner's own user, this one may always ask: it could do so anyway.
const ROOT: u32 = 0;

/// Who may ask for what. The defaults allow what a balancer asks for by default.
#[derive(Debug, clap::Args)]
pub(super) struct SpawnerArgs {
    /// Where balancers connect: `docker.spawner` in their configuration.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// A group that may connect, too; its users must also be allowed by --allow-uid.
    #[arg(long, value_name = "GID")]
    socket_group: Option<u32>,
    /// A user that may ask, beside root and the spawner's own. Can be given several times.
    #[arg(long, value_name = "UID")]
    allow_uid: Vec<u32>,
    /// The cluster that is kept here; containers of others are not touched.
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = ReplicaName::parse)]
    cluster: ReplicaName,
    /// An image that containers may be made from, exactly as balancers name it. Can be given several times.
    #[arg(long, value_name = "IMAGE", required = true)]
    image: Vec<String>,
    /// A network that containers may be on. Can be given several times.
    #[arg(long, value_name = "NET", required = true)]
    network: Vec<String>,
    /// The most memory of a container, in MiB.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = value_parser!(u64).range(1..=MIB))]
    memory_mb_max: u64,
    /// The most processor time of a container, in thousandths of a core.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = value_parser!(u64).range(1..))]
    cpu_millis_max: u64,
    /// The most processes and threads in a container.
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = value_parser!(u64).range(1..))]
    pids_max: u64,
    /// The most containers of the cluster, running or not.
    #[arg(long, value_name = "N", default_value_t = 100)]
    replicas_max: usize,
    /// A variable, beside SERVER_ID, that a container's environment may have. Can be given several times.
    #[arg(long, value_name = "KEY")]
    env_allow: Vec<String>,
    /// Lets containers run another command than their image's own.
    #[arg(long)]
    allow_command: bool,
    /// Lets containers write to their root file system.
    #[arg(long)]
    allow_writable: bool,
    /// The engine's unix socket; without it, what DOCKER_HOST says, else /var/run/docker.sock.
    #[arg(long, value_name = "SOCKET")]
    docker: Option<PathBuf>,
}

/// Serves balancers until it is told to end.
pub(super) async fn run(args: SpawnerArgs) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let socket = Socket::bind(&args.socket, args.socket_group)?;
    say(&format!("spawner of cluster {} ready at {}\n", args.cluster, args.socket.display()));
    let engine = Arc::new(Local::new(args.docker.as_deref()));
    let users = args.allow_uid.iter().copied().chain([ROOT, geteuid().as_raw()]).collect();
    let spawner = Spawner::new(engine, policy(args), users);
    tokio::select! {
        () = spawner.serve(&socket.listener) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn policy(args: SpawnerArgs) -> Policy {
    Policy {
        cluster: args.cluster.to_string(),
        images: args.image.into_iter().collect(),
        networks: args.network.into_iter().collect(),
        limits: ContainerLimits {
            memory_bytes: args.memory_mb_max * MIB,
            cpu_millis: args.cpu_millis_max,
            pids: args.pids_max,
        },
        replicas_max: args.replicas_max,
        environment: args.env_allow.into_iter().chain(iter::once("SERVER_ID".to_owned())).collect(),
        commands: args.allow_command,
        writable: args.allow_writable,
    }
}
