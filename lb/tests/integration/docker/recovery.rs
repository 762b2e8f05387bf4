//! How long recoveries and starts take: measured on request, since a loaded machine proves nothing.
//!
//! `cargo test -p ringmaster --test integration docker::recovery -- --ignored --nocapture`

use std::time::{Duration, Instant};

use crate::harness::{
    Balancer,
    docker::{Lab, docker},
    until,
};

const KILLS: usize = 30;

/// From `docker kill` to the news, from there to the start, from there to the first answered heartbeat.
#[tokio::test]
#[ignore = "measures"]
async fn thirty_kills() {
    let Some(lab) = Lab::open() else { return };
    let names = lab.names(3);
    // The back-off stays at its first step, as for failures that are far apart.
    let pool = format!("names: {names:?}, backoff: {{ healthy_after_ms: 1 }}");
    let balancer = Balancer::start(&lab.config(&pool, &lab.image())).await;
    let mut stages: [Vec<Duration>; 4] = Default::default();
    for turn in 0..KILLS {
        let victim = &names[turn % names.len()];
        let before = balancer.replica(victim).await.unwrap()["incarnation"].as_u64().unwrap();
        let began = Instant::now();
        docker(&["kill", victim]);
        let mut reached = Vec::new();
        for step in ["down", "address", "serving"] {
            until(step, async || {
                let it = balancer.replica(victim).await?;
                let later = it["incarnation"].as_u64()? > before;
                match step {
                    "down" => later || it["phase"] == "down",
                    "address" => later && !it["address"].is_null(),
                    _ => later && it["phase"] == "serving",
                }
                .then_some(())
            })
            .await
            .unwrap();
            reached.push(began.elapsed());
        }
        stages[0].push(reached[0]);
        stages[1].push(reached[1] - reached[0]);
        stages[2].push(reached[2] - reached[1]);
        stages[3].push(reached[2]);
    }
    eprintln!("| stage | p50 ms | p99 ms |\n|---|---|---|");
    for (name, mut times) in ["detect", "spawn", "ready", "total"].into_iter().zip(stages) {
        times.sort();
        let at = |part: f64| times[((KILLS - 1) as f64 * part).round() as usize].as_millis();
        eprintln!("| {name} | {} | {} |", at(0.5), at(0.99));
    }
    balancer.stop().await;
}

#[tokio::test]
#[ignore = "measures"]
async fn starts() {
    let Some(lab) = Lab::open() else { return };
    for replicas in [3, 10, 50] {
        let names = lab.names(replicas);
        let pool = format!("replicas: {replicas}, names: {names:?}, start_timeout_ms: 120000");
        let began = Instant::now();
        let balancer = Balancer::start_unready(&lab.config(&pool, &lab.image())).await;
        while balancer.get("/rep").await.json()["message"]["N"] != replicas {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        eprintln!("{replicas} replicas serve after {:.1} s", began.elapsed().as_secs_f64());
        let status = std::fs::read_to_string(format!("/proc/{}/status", balancer.pid())).unwrap();
        eprintln!("{}", status.lines().find(|line| line.starts_with("VmRSS")).unwrap());
        balancer.stop().await;
    }
}
