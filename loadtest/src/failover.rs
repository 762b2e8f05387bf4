//! Failover: replicas are killed one after the other under load. How long is each one missing, does
//! any client notice, and do the keys come home?

mod keys;
mod kill;
mod summary;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::task::{block_in_place, spawn_blocking};

use self::{
    keys::Keys,
    kill::{Gap, Kill},
    summary::Summary,
};
use crate::{
    Report,
    admin::Admin,
    balancer::Balancer,
    client::Connection,
    drive::{Content, Load, Pace},
    manifest::Manifest,
    progress,
    report::{HTML, MARKDOWN, page, plain},
    request::Request,
    run_dir::{MANIFEST, REQUESTS, RunDir, SUMMARY},
    target::Target,
    victim::Victim,
};

const TITLE: &str = "Failover: replicas killed under load";
const KILLS: &str = "kills.csv";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The balancer; must be on this machine
    #[arg(long, default_value = "http://127.0.0.1:5000")]
    target: Target,

    /// Its admin listener; must be on this machine
    #[arg(long, default_value = "http://127.0.0.1:5001")]
    admin: Target,

    /// The pool whose replicas are killed; they must be processes, or with --docker containers
    #[arg(long, default_value = "default", value_parser = pool)]
    pool: String,

    /// Kill them with `docker kill`, on the engine that `docker` speaks to
    #[arg(long)]
    docker: bool,

    /// How many replicas to kill, one at a time
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    kills: u32,

    /// How long to go on between a recovery and the next kill
    #[arg(long, value_name = "MS", default_value_t = 500)]
    pause_ms: u64,

    /// How long a replica may be missing before the experiment ends
    #[arg(long, value_name = "S", default_value_t = 60)]
    recovery_s: u64,

    /// Requests per second
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,

    /// Over how many keep-alive connections, each with one request at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,

    /// Decides the ids of the requests
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// How long a request may take
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    timeout_ms: u64,

    /// Directory for the results, without those of another run [default: results/failover-SECONDS]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// How many kills, and the load meanwhile.
pub(crate) struct KillLoad {
    pub(crate) kills: u32,
    pub(crate) rate: u32,
    pub(crate) connections: u16,
    pub(crate) seed: u64,
}

/// A name that can be part of a path.
fn pool(text: &str) -> Result<String, &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let valid = !text.is_empty() && text.chars().all(allowed);
    valid.then(|| text.to_owned()).ok_or("must consist of letters, digits, '_', '.' and '-'")
}

impl Args {
    /// On a balancer that another experiment runs, whose replicas are containers if it is by `docker`; the results go to
    /// `out`.
    pub(crate) fn on(balancer: &Balancer, docker: bool, load: KillLoad, out: PathBuf) -> Self {
        let KillLoad { kills, rate, connections, seed } = load;
        Self {
            target: balancer.target(),
            admin: balancer.admin(),
            pool: "default".to_owned(),
            docker,
            kills,
            pause_ms: 500,
            recovery_s: 60,
            rate,
            connections,
            seed,
            timeout_ms: 10_000,
            out: Some(out),
        }
    }

    fn connection(&self, target: &Target) -> Connection {
        Connection::new(target.clone(), Duration::from_millis(self.timeout_ms))
    }
}

/// What was to be done.
#[derive(Serialize, Deserialize)]
struct Plan {
    kills: u32,
    rate: u32,
    connections: u16,
    pause_ms: u64,
}

/// Measures and summarises.
pub(crate) async fn run(args: Args) -> anyhow::Result<Report> {
    args.target.ensure_loopback().await?;
    args.admin.ensure_loopback().await?;
    let dir = RunDir::open(args.out.clone(), "failover")?;
    measure(&args, &dir).await?;
    summarise(&dir)?;
    let summary: Summary = dir.read_json(SUMMARY)?;
    let manifest: Manifest<Plan> = dir.read_json(MANIFEST)?;
    let markdown = plain(TITLE, &manifest, &summary.to_string(), None);
    dir.write(HTML, &page(TITLE, &markdown))?;
    dir.write(MARKDOWN, &markdown)?;
    Ok(Report { text: format!("{summary}{}", dir.signpost()), kept: summary.kept() })
}

async fn measure(args: &Args, dir: &RunDir) -> anyhow::Result<()> {
    let plan = Plan {
        kills: args.kills,
        rate: args.rate,
        connections: args.connections,
        pause_ms: args.pause_ms,
    };
    dir.write_json(MANIFEST, &Manifest::new(args.seed, args.target.to_string(), plan))?;
    let load = Arc::new(Load::new(
        args.target.clone(),
        Duration::from_millis(args.timeout_ms),
        Content::Drawn { seed: args.seed },
        Pace::PerSecond(args.rate),
        u64::MAX,
    ));
    let run = tokio::spawn(load.clone().run(args.connections.into()));
    let kills = kill_all(args, &load).await;
    progress::show("");
    load.stop();
    // The requests are kept even if the kills ended in an error: they are what happened.
    dir.write(REQUESTS, &Request::to_csv(&run.await.context("the load ended early")?)?)?;
    dir.write(KILLS, &Kill::to_csv(&kills?)?)
}

/// Kills one replica after the other; ends early if one does not recover.
async fn kill_all(args: &Args, load: &Load) -> anyhow::Result<Vec<Kill>> {
    let mut admin = Admin::new(args.connection(&args.admin), &args.pool);
    let mut connection = args.connection(&args.target);
    let recovery_max = Duration::from_secs(args.recovery_s);
    admin.until_all_serve(recovery_max).await?;
    let before = Keys::ask(&mut connection).await;

    let mut kills: Vec<Kill> = Vec::new();
    for number in 0..args.kills {
        progress::show(&format!("{number} of {} kills", args.kills));
        tokio::time::sleep(Duration::from_millis(args.pause_ms)).await;
        let serving = admin.serving().await?;
        let replica = &serving[number as usize % serving.len()];
        let victim = block_in_place(|| match args.docker {
            false => Victim::process(replica),
            true => Victim::container(replica),
        })?;
        let at_us = load.clock_us();
        // An engine takes its time, and what it does may be seen before it says so.
        let killing = async { spawn_blocking(|| victim.kill()).await.context("killing")? };
        let watching = Gap::watch(&mut admin, replica, recovery_max);
        let ((), gap) = tokio::try_join!(killing, watching)?;
        let (moved, unanswered) = before.compare(&Keys::ask(&mut connection).await);
        let recovered = gap.recovered_us.is_some();
        kills.push(Kill {
            replica: replica.name.clone(),
            at_us,
            gap,
            keys_moved: moved,
            keys_unanswered: before.unanswered() + unanswered,
        });
        if !recovered {
            break;
        }
    }
    Ok(kills)
}

fn summarise(dir: &RunDir) -> anyhow::Result<()> {
    let Manifest { plan, .. } = dir.read_json::<Manifest<Plan>>(MANIFEST)?;
    let requests = dir.read(REQUESTS, Request::from_csv)?;
    let kills = dir.read(KILLS, Kill::from_csv)?;
    dir.write_json(SUMMARY, &Summary::of(plan.kills, &kills, &requests))
}
