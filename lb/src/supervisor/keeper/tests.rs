//! A keeper that is told what happens, at times of the test's own. Nothing is awaited, so none of its tasks runs.

use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use ringmaster_fleet::{Event, Table};

use super::{Keeper, KeeperParts};
use crate::{
    config::{Config, PoolConfig, ServerId},
    events,
    heartbeat::Beat,
    metrics::Metrics,
    provider::{Found, Process, Remembered, Spec, Started},
    routes::PoolWriter,
    supervisor::{
        legacy::PoolLegacy,
        memory::{Note, Scribe},
        run::What,
    },
};

const NAMES: [&str; 4] = ["S1", "S2", "S3", "S4"];

fn replica(name: &str, number: u32) -> Remembered {
    let addr = format!("127.0.0.1:{}", 4000 + number).parse().unwrap();
    let spec = Spec { host: name.parse().unwrap(), number, incarnation: 1.into() };
    Remembered { spec, started: Some(Started { addr, process: None }) }
}

fn found(replica: &Remembered) -> Found {
    let Remembered { spec, started } = replica.clone();
    Found { spec, started: started.unwrap(), outdated: false }
}

/// The configuration of four replicas.
fn config(slow_start_ms: u32) -> PoolConfig {
    let yaml = format!(
        "pools: {{ default: {{ replicas: 4, names: [S1, S2, S3, S4], slow_start_ms: {slow_start_ms} }} }}"
    );
    Config::parse(&yaml).unwrap().pools.pop_first().unwrap().1
}

/// A keeper of four replicas, and what it writes down.
fn keeper(
    remembered: Option<Vec<Remembered>>,
    legacy: Option<PoolLegacy>,
) -> (Keeper, mpsc::Receiver<Note>) {
    let config = config(1_000);
    let metrics = Arc::new(Metrics::new().unwrap());
    let table = Arc::new(Table::build(&config.algorithm, []).unwrap());
    let (notes, inbox) = mpsc::channel();
    let (news, _) = tokio::sync::mpsc::channel(1);
    let keeper = Keeper::new(KeeperParts {
        index: 0,
        writer: PoolWriter::new("default", &config, table, metrics.pool("default")),
        config,
        provider: Arc::new(Process::new("/nonexistent".into(), ServerId::Number)),
        metrics,
        events: events::channel().0,
        news,
        scribe: Some(Scribe(notes)),
        remembered,
        legacy,
        seed: 1,
    });
    (keeper.unwrap(), inbox)
}

/// A crash may come between any two sets that are written down: each of them must be whole.
fn assert_each_is_whole(inbox: &mpsc::Receiver<Note>) {
    let notes: Vec<_> = inbox.try_iter().collect();
    assert!(!notes.is_empty());
    for note in notes {
        let Note::Pool(_, Some(replicas)) = note else { panic!("the pool is kept") };
        let mut names: Vec<_> = replicas.iter().map(|it| it.spec.host.to_string()).collect();
        names.sort();
        assert_eq!(names, NAMES);
    }
}

/// All four of them.
fn replicas() -> Vec<Remembered> {
    NAMES.into_iter().zip(1..).map(|(name, number)| replica(name, number)).collect()
}

/// A heartbeat of the replica is answered.
fn answered(replica: &Remembered) -> What {
    let (name, incarnation) = (replica.spec.host.name.clone(), replica.spec.incarnation);
    What::Beat { name, incarnation, beat: Beat::Answered { suspicion: 0 } }
}

/// A keeper of four replicas that serve.
fn serving(now: Instant, all: &[Remembered]) -> Keeper {
    let (mut keeper, _) = keeper(Some(all.to_vec()), None);
    keeper.take_over(now, all.iter().map(found).collect());
    all.iter().for_each(|it| keeper.hear(now, answered(it)));
    keeper
}

#[tokio::test]
async fn no_part_of_the_set_is_written_down_while_it_is_taken_over() {
    let now = Instant::now();
    let all = replicas();
    for running in 0..=all.len() {
        let running = || all[..running].iter().map(found);
        let with_orphan = || running().chain([found(&replica("S9", 9))]).collect();
        for (remembered, legacy, found) in [
            (Some(all.clone()), None, running().collect()),
            (Some(all.clone()), None, with_orphan()),
            (None, None, running().collect()),
            (None, Some(serving(now, &all).legacy(now).unwrap()), running().collect()),
        ] {
            let (mut keeper, inbox) = keeper(remembered, legacy);
            keeper.take_over(now, found);
            assert_each_is_whole(&inbox);
        }
    }
}

fn is_full(keeper: &Keeper) -> bool {
    keeper.upstreams.values().all(|it| it.share() == 1.0)
}

/// Heartbeats come more often than anything is due.
#[tokio::test]
async fn news_put_off_nothing_that_is_due() {
    let (all, mut now) = (replicas(), Instant::now());
    let mut keeper = serving(now, &all);
    assert!(!is_full(&keeper), "they start slowly");
    let mut pass = |keeper: &mut Keeper, time: Duration| {
        let end = now + time;
        while now < end {
            now += Duration::from_millis(1);
            if keeper.next_wakeup().is_some_and(|due| due <= now) {
                keeper.tick(now);
            }
            all.iter().for_each(|it| keeper.hear(now, answered(it)));
        }
        now
    };
    let now = pass(&mut keeper, Duration::from_millis(1_200));
    assert!(is_full(&keeper), "their time to start slowly is over");
    assert!(!keeper.is_ramping() && keeper.next_wakeup().is_none(), "nothing is due");

    keeper.step(now, Event::Remove { names: vec![all[0].spec.host.name.clone()] });
    assert!(keeper.draining().next().is_some());
    pass(&mut keeper, Duration::from_millis(200));
    assert!(keeper.draining().next().is_none(), "it has no request in hand");
}

#[tokio::test]
async fn a_slow_start_that_is_configured_no_more_is_over() {
    let now = Instant::now();
    let mut keeper = serving(now, &replicas());
    assert!(!is_full(&keeper));
    keeper.reconfigure(now, config(0), None);
    assert!(is_full(&keeper));
}
