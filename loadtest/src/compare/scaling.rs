//! Scaling: what a request costs Ringmaster as replicas and connections grow. The curves should be flat.

use std::path::PathBuf;

use nix::sys::resource::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use super::{
    figure::Figure,
    peer::{Peer, Playing, Setting},
    scenario::{CONNECTIONS, Scenario},
    stage::Stage,
    summary::{Range, Summary},
};
use crate::{
    Report,
    manifest::Manifest,
    progress,
    report::{HTML, MARKDOWN, circumstances, page, table},
    run_dir::{MANIFEST, RunDir, SUMMARY},
    svg::{LineChart, Point, Series},
};

const FIGURES: &str = "figures.csv";
const REPLICAS: [usize; 6] = [1, 3, 10, 50, 200, 500];
const CONNECTION_COUNTS: [u64; 7] = [1, 16, 64, 512, 4_096, 8_000, 10_000];

/// File descriptors that a balancer needs for a connection, and beside all of them.
const DESCRIPTORS_EACH: u64 = 2;
const DESCRIPTORS_MORE: u64 = 1_000;

/// Two curves: load as figures name it, its positions, the file of its chart, and how a person calls them.
const CURVES: [(&str, &str, &str); 2] = [
    ("replicas", "replicas.svg", "replicas"),
    ("connections", "connections.svg", "keep-alive connections"),
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often each point is measured
    #[arg(long, default_value_t = 2)]
    rounds: u32,

    /// How long each load lasts
    #[arg(long, value_name = "S", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,

    /// Directory for the results, without those of another run [default: results/scaling-SECONDS]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What was to be done.
#[derive(Serialize, Deserialize)]
struct Plan {
    rounds: u32,
    seconds: u64,
    replicas: Vec<usize>,
    connections: Vec<u64>,
    /// Connections that would need more file descriptors than there may be.
    left_out: Vec<u64>,
}

/// Measures, summarises, draws.
pub(crate) async fn run(args: Args) -> anyhow::Result<Report> {
    let dir = RunDir::open(args.out, "scaling")?;
    let (_, descriptors) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let (connections, left_out) = CONNECTION_COUNTS
        .into_iter()
        .partition(|count| count * DESCRIPTORS_EACH + DESCRIPTORS_MORE <= descriptors);
    let plan = Plan {
        rounds: args.rounds,
        seconds: args.seconds,
        replicas: REPLICAS.to_vec(),
        connections,
        left_out,
    };
    let manifest = Manifest::new(1, "a balancer of our own on free ports".to_owned(), plan);
    dir.write_json(MANIFEST, &manifest)?;
    let figures = tokio::task::block_in_place(|| measure(&manifest.plan))?;
    progress::show("");
    dir.write(FIGURES, &Figure::to_csv(&figures)?)?;
    let summary = Summary::of(&dir.read(FIGURES, Figure::from_csv)?);
    dir.write_json(SUMMARY, &summary)?;
    let markdown = draw(&dir, &manifest, &summary)?;
    Ok(Report { text: format!("{markdown}\n{}", dir.signpost()), kept: summary.errors == 0 })
}

fn measure(plan: &Plan) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for round in 0..plan.rounds {
        for &replicas in &plan.replicas {
            progress::show(&format!("round {}: {replicas} replicas", round + 1));
            let stage = Stage::with_backends(replicas)?;
            let playing = Peer::Ringmaster.start(&stage, Setting::ONE_THREAD, &[])?;
            point(
                &stage,
                &playing,
                ("replicas", replicas as u64),
                CONNECTIONS,
                plan,
                round,
                &mut figures,
            )?;
        }
        let stage = Stage::set()?;
        for &connections in &plan.connections {
            progress::show(&format!("round {}: {connections} connections", round + 1));
            let playing = Peer::Ringmaster.start(&stage, Setting::ONE_THREAD, &[])?;
            point(
                &stage,
                &playing,
                ("connections", connections),
                connections,
                plan,
                round,
                &mut figures,
            )?;
        }
    }
    Ok(figures)
}

fn point(
    stage: &Stage,
    playing: &Playing,
    (curve, at): (&str, u64),
    connections: u64,
    plan: &Plan,
    round: u32,
    figures: &mut Vec<Figure>,
) -> anyhow::Result<()> {
    let drive = |seconds| Scenario::Json.drive(playing.address, stage.dir(), connections, seconds);
    // Opening thousands of connections is not what is measured.
    drive(1)?;
    let before = playing.process.cpu()?;
    let load = drive(plan.seconds)?;
    let after = playing.process.cpu()?;
    let micros = after.user_us + after.system_us - before.user_us - before.system_us;
    let values = [
        ("cpu_us", micros as f64 / load.requests.max(1) as f64),
        ("rss_mib", playing.process.rss_kib()? as f64 / 1024.0),
        ("errors", load.errors as f64),
    ];
    figures.extend(values.map(|(measure, value)| Figure {
        round,
        load: format!("{curve}-{at}"),
        measure: measure.into(),
        peer: Peer::Ringmaster,
        value,
    }));
    Ok(())
}

fn draw(dir: &RunDir, manifest: &Manifest<Plan>, summary: &Summary) -> anyhow::Result<String> {
    let mut markdown = format!("# Scaling\n\n{}", circumstances(manifest));
    let plan = &manifest.plan;
    let replicas = plan.replicas.iter().map(|it| *it as u64).collect();
    for ((curve, file, name), positions) in
        CURVES.into_iter().zip([replicas, plan.connections.clone()])
    {
        let value = |measure: &str, at: &u64| {
            summary.cell(&format!("{curve}-{at}"), measure, Peer::Ringmaster).map(|it| it.value)
        };
        let point = |at: &u64| {
            value("cpu_us", at)
                .map(|it| Point { value: it.median, deviation: (it.max - it.min) / 2.0 })
        };
        let chart = LineChart {
            title: format!("Processor time per request over {name}"),
            axis: "µs, user and system".into(),
            labels: positions.iter().map(u64::to_string).collect(),
            series: vec![Series {
                name: "ringmaster".into(),
                points: positions.iter().map(point).collect(),
            }],
        };
        dir.write(file, &chart.to_string())?;
        let cell = |it: Option<Range>| it.map_or("–".into(), |it| format!("{:.1}", it.median));
        markdown += "\n";
        markdown += &table(
            &[name, "processor time per request, µs", "memory, MiB"],
            positions.iter().map(|at| {
                vec![at.to_string(), cell(value("cpu_us", at)), cell(value("rss_mib", at))]
            }),
        );
        markdown += &format!("\n![{name}]({file})\n");
    }
    for count in &plan.left_out {
        let needed = count * DESCRIPTORS_EACH + DESCRIPTORS_MORE;
        markdown += &format!(
            "\nLeft out: {count} connections, for which this machine does not allow the {needed} file descriptors.\n"
        );
    }
    dir.write(HTML, &page("Scaling", &markdown))?;
    dir.write(MARKDOWN, &markdown)?;
    Ok(markdown)
}
