//! many requests with random ids. How many does each replica get, how fast, and is any request
//! missing?

pub(crate) mod summary;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use self::summary::Summary;
use crate::{
    Report,
    client::Connection,
    drive::{Content, Load, Pace},
    manifest::Manifest,
    progress,
    report::{HTML, MARKDOWN, page, plain},
    request::Request,
    run_dir::{MANIFEST, REQUESTS, RunDir, SUMMARY},
    svg::BarChart,
    target::Target,
};

const TITLE: &str = "A-1: requests with random ids";
const DISTRIBUTION: &str = "distribution.svg";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The balancer, or a single replica
    #[arg(long, default_value = "http://127.0.0.1:5000")]
    target: Target,

    /// How many requests to send
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    requests: u64,

    /// Over how many keep-alive connections, each with one request at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,

    /// Decides the ids of the requests
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// How long a request may take
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    timeout_ms: u64,

    /// Directory for the results, without those of another run [default: results/a1-SECONDS]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What was to be done.
#[derive(Serialize, Deserialize)]
struct Plan {
    requests: u64,
    connections: u16,
    /// The replicas that the balancer named before the run; empty if the target is not a balancer.
    /// One that gets no request is only known from here.
    replicas: Vec<String>,
}

/// Measures, summarises, draws.
pub(crate) async fn run(args: Args) -> anyhow::Result<Report> {
    let dir = RunDir::open(args.out.clone(), "a1")?;
    measure(&args, &dir).await?;
    summarise(&dir)?;
    draw(&dir)?;
    let summary: Summary = dir.read_json(SUMMARY)?;
    let manifest: Manifest<Plan> = dir.read_json(MANIFEST)?;
    let markdown = plain(TITLE, &manifest, &summary.to_string(), Some(DISTRIBUTION));
    dir.write(HTML, &page(TITLE, &markdown))?;
    dir.write(MARKDOWN, &markdown)?;
    Ok(Report { text: format!("{summary}{}", dir.signpost()), kept: summary.kept() })
}

async fn measure(args: &Args, dir: &RunDir) -> anyhow::Result<()> {
    let timeout = Duration::from_millis(args.timeout_ms);
    let replicas = replicas(&mut Connection::new(args.target.clone(), timeout)).await;
    let plan = Plan { requests: args.requests, connections: args.connections, replicas };
    dir.write_json(MANIFEST, &Manifest::new(args.seed, args.target.to_string(), plan))?;

    let load = Arc::new(Load::new(
        args.target.clone(),
        timeout,
        Content::Drawn { seed: args.seed },
        Pace::Free,
        args.requests,
    ));
    let mut run = tokio::spawn(load.clone().run(args.connections.into()));
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    let requests = loop {
        tokio::select! {
            requests = &mut run => break requests.context("the load ended early")?,
            _ = ticks.tick() => {
                let sent = load.sent().await;
                progress::show(&format!("{sent} of {} requests", args.requests));
            }
        }
    };
    progress::show("");
    dir.write(REQUESTS, &Request::to_csv(&requests)?)
}

fn summarise(dir: &RunDir) -> anyhow::Result<()> {
    let Manifest { plan, .. } = dir.read_json::<Manifest<Plan>>(MANIFEST)?;
    let requests = dir.read(REQUESTS, Request::from_csv)?;
    dir.write_json(SUMMARY, &Summary::of(plan.requests, &plan.replicas, &requests))
}

fn draw(dir: &RunDir) -> anyhow::Result<()> {
    let summary: Summary = dir.read_json(SUMMARY)?;
    let bars = summary
        .replicas
        .iter()
        .map(|share| (share.replica.clone(), share.requests as f64))
        .collect();
    let chart = BarChart {
        title: format!("{} requests over {} replicas", summary.answered, summary.replicas.len()),
        axis: "requests".into(),
        bars,
        mean: true,
    };
    dir.write(DISTRIBUTION, &chart.to_string())
}

/// The names that the balancer lists at `/rep`; a target that has no such list is a single replica.
async fn replicas(connection: &mut Connection) -> Vec<String> {
    #[derive(Deserialize)]
    struct Rep {
        message: Message,
    }
    #[derive(Deserialize)]
    struct Message {
        replicas: Vec<String>,
    }
    let Ok(body) = connection.get("/rep").await else {
        return Vec::new();
    };
    let Ok(Rep { message }) = serde_json::from_slice(&body) else {
        return Vec::new();
    };
    // A replica that was added with a port is listed with it, but answers with its name alone.
    let name = |listed: &String| match listed.split_once(':') {
        Some((name, _port)) => name.to_owned(),
        None => listed.clone(),
    };
    message.replicas.iter().map(name).collect()
}
