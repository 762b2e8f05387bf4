use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use ringmaster_fleet::{Incarnation, Member};

use super::*;
use crate::{config::Config, metrics::Metrics};

/// A pool of replicas `Server1`… that all serve, and the replicas.
fn pool(replicas: u32, change: impl FnOnce(&mut PoolConfig)) -> (PoolWriter, Vec<Arc<Upstream>>) {
    let mut config = Config::default().pools.remove("default").unwrap();
    change(&mut config);
    let metrics = Metrics::new().unwrap();
    let members =
        (1..=replicas).map(|number| Member { name: ReplicaName::generated(number), number });
    let table = Arc::new(Table::build(&config.algorithm, members).unwrap());
    let writer = PoolWriter::new("default", &config, table.clone(), metrics.pool("default"));
    let addr: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let upstreams: Vec<_> = table
        .members()
        .iter()
        .map(|member| {
            Arc::new(Upstream::new(
                member.name.clone(),
                Incarnation::default().next(),
                addr,
                &config.upstream,
                Arc::new(metrics.replica("default", member.name.as_str())),
                writer.load(),
                Arc::default(),
            ))
        })
        .collect();
    publish(&writer, &table, &upstreams);
    (writer, upstreams)
}

fn publish(writer: &PoolWriter, table: &Arc<Table>, serving: &[Arc<Upstream>]) {
    let by_name: BTreeMap<_, _> = serving.iter().map(|it| (it.name.clone(), it.clone())).collect();
    writer.publish(Ring::new(table.clone(), |member| by_name.get(&member.name).cloned()));
}

#[test]
fn a_lease_counts_until_it_is_dropped_on_whatever_path() {
    let (writer, upstreams) = pool(1, |_| {});
    let lease = upstreams[0].reserve(1).unwrap();
    assert!(upstreams[0].reserve(1).is_none(), "the only place is taken");
    assert_eq!((upstreams[0].in_flight(), writer.pool().in_flight()), (1, 1));
    drop(lease);
    assert_eq!((upstreams[0].in_flight(), writer.pool().in_flight()), (0, 0));
}

/// A request that was held up between its look at the routes and its choice.
#[tokio::test]
async fn whoever_comes_late_with_an_old_picture_goes_elsewhere() {
    let (writer, upstreams) = pool(2, |_| {});
    let pool = writer.pool();
    let hash = pool.hash(b"alice");
    let early = pool.pick(hash, &Tried::default(), || 1).await.unwrap();
    let owner = upstreams.iter().find(|it| it.id == early.lease.id).unwrap();
    assert!(!owner.seal(), "a request is in its hands");
    drop(early);
    assert!(owner.seal());
    let late = pool.pick(hash, &Tried::default(), || 1).await.unwrap();
    assert_ne!(late.lease.id, owner.id);
    assert_eq!((owner.in_flight(), pool.in_flight()), (0, 1));
}

#[tokio::test]
async fn a_key_keeps_its_replica_until_the_bound_and_then_spills() {
    let bound = Bound { factor: 1.0, floor: 3 };
    let (writer, _) = pool(3, |config| config.bounded_load = Some(bound));
    let pool = writer.pool();
    let hash = pool.hash(b"alice");
    let mut leases = Vec::new();
    let mut reasons = Vec::new();
    for _ in 0..6 {
        let pick = pool.pick(hash, &Tried::default(), || 1).await.unwrap();
        reasons.push(pick.reason);
        leases.push(pick.lease);
    }
    assert_eq!(reasons[..3], [Reason::Hash; 3]);
    assert_eq!(reasons[3..], [Reason::SpillBound; 3]);
    let first: Vec<_> = leases[..3].iter().map(|it| it.name.clone()).collect();
    assert!(leases[3..].iter().all(|it| !first.contains(&it.name)));
}

/// Reserving is one step, so the bound holds however many threads ask at the same time.
#[test]
fn the_bound_holds_under_concurrency() {
    let (_, upstreams) = pool(1, |_| {});
    let upstream = &upstreams[0];
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(move || {
                    let taken = (0..1_000).filter_map(|_| upstream.reserve(100));
                    taken.collect::<Vec<_>>()
                })
            })
            .collect();
        let taken: usize = workers.into_iter().map(|it| it.join().unwrap().len()).sum();
        assert!(taken >= 100);
    });
    let leases: Vec<_> = (0..200).filter_map(|_| upstream.reserve(100)).collect();
    assert_eq!(leases.len(), 100);
    assert_eq!(upstream.in_flight(), 100);
}

#[tokio::test]
async fn a_bound_moves_load_but_never_refuses_it() {
    let (writer, upstreams) = pool(2, |config| {
        config.bounded_load = Some(Bound { factor: 1.0, floor: 1 });
    });
    let pool = writer.pool();
    let hash = pool.hash(b"alice");
    // Slow start caps both at one request, which is less than there are.
    upstreams.iter().for_each(|it| it.ramp_to(0.01));
    let mut leases = Vec::new();
    for _ in 0..10 {
        leases.push(pool.pick(hash, &Tried::default(), || 1).await.unwrap().lease);
    }
    assert_eq!(pool.in_flight(), 10);
}

#[tokio::test]
async fn whoever_does_not_serve_is_passed_over_and_its_keys_come_home() {
    let (writer, upstreams) = pool(3, |_| {});
    let pool = writer.pool();
    let hash = pool.hash(b"alice");
    let owner = pool.pick(hash, &Tried::default(), || 1).await.unwrap().lease.name.clone();
    let table = pool.shared.routes.load().table().clone();
    let others: Vec<_> = upstreams.iter().filter(|it| it.name != owner).cloned().collect();
    publish(&writer, &table, &others);
    let pick = pool.pick(hash, &Tried::default(), || 1).await.unwrap();
    assert_eq!(pick.reason, Reason::FailoverDown);
    assert_ne!(pick.lease.name, owner);
    publish(&writer, &table, &upstreams);
    let pick = pool.pick(hash, &Tried::default(), || 1).await.unwrap();
    assert_eq!((&pick.lease.name, pick.reason), (&owner, Reason::Hash));
}

#[tokio::test]
async fn a_retry_goes_to_each_other_replica_once() {
    let (writer, _) = pool(3, |config| config.hold.timeout = Duration::from_millis(1));
    let pool = writer.pool();
    let hash = pool.hash(b"alice");
    let mut tried = Tried::default();
    let mut names = Vec::new();
    for attempt in 1..=3 {
        let pick = pool.pick(hash, &tried, || 1).await.unwrap();
        if attempt > 1 {
            assert_eq!(pick.reason, Reason::Retry(attempt));
        }
        tried.add(&pick.lease);
        names.push(pick.lease.name.clone());
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 3);
    assert_eq!(pool.pick(hash, &tried, || 1).await.unwrap_err(), NoReplica::HeldTooLong);
}

#[tokio::test(start_paused = true)]
async fn a_held_request_goes_on_as_soon_as_somebody_serves() {
    let (writer, upstreams) = pool(1, |config| config.hold.requests_max = 1);
    let pool = writer.pool().clone();
    let table = pool.shared.routes.load().table().clone();
    publish(&writer, &table, &[]);
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.pick(1, &Tried::default(), || 1).await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(pool.pick(1, &Tried::default(), || 1).await.unwrap_err(), NoReplica::TooManyHeld);
    publish(&writer, &table, &upstreams);
    let pick = waiting.await.unwrap().unwrap();
    assert!(matches!(pick.reason, Reason::Held(_)), "{:?}", pick.reason);
    assert_eq!(pool.metrics.held.get(), 1);
}

#[tokio::test]
async fn a_request_is_told_when_its_pool_is_let_go_of() {
    let (writer, upstreams) = pool(1, |config| config.hold.timeout = Duration::from_secs(3600));
    let pool = writer.pool().clone();
    let table = pool.shared.routes.load().table().clone();
    let served = pool.pick(1, &Tried::default(), || 1).await.unwrap();
    publish(&writer, &table, &[]);
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.pick(1, &Tried::default(), || 1).await }
    });
    while pool.metrics.held.get() == 0 {
        tokio::task::yield_now().await;
    }
    writer.retire();
    assert_eq!(waiting.await.unwrap().unwrap_err(), NoReplica::PoolGone);
    assert_eq!(pool.pick(1, &Tried::default(), || 1).await.unwrap_err(), NoReplica::PoolGone);
    assert_eq!(served.lease.id, upstreams[0].id, "who has a replica keeps it");
}

#[tokio::test]
async fn without_keys_replicas_take_turns() {
    let (writer, _) = pool(3, |config| config.algorithm = Algorithm::RoundRobin);
    let pool = writer.pool();
    let mut counts = BTreeMap::new();
    for _ in 0..300 {
        let pick = pool.pick(pool.next_ticket(), &Tried::default(), || 1).await.unwrap();
        assert_eq!(pick.reason, Reason::InTurn);
        *counts.entry(pick.lease.name.clone()).or_insert(0) += 1;
    }
    assert!(counts.values().all(|&count| count == 100), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn held_requests_are_limited_by_their_bytes() {
    let (writer, upstreams) = pool(1, |config| config.hold.bytes_max = 100);
    let pool = writer.pool().clone();
    let table = pool.shared.routes.load().table().clone();
    publish(&writer, &table, &[]);
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.pick(1, &Tried::default(), || 60).await }
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    let refused = pool.pick(1, &Tried::default(), || 60).await.unwrap_err();
    assert_eq!(refused, NoReplica::TooManyHeld);
    publish(&writer, &table, &upstreams);
    assert!(waiting.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_full_replica_takes_a_held_request_as_soon_as_it_has_room() {
    let (writer, _) = pool(1, |config| config.upstream.in_flight_max = 1);
    let pool = writer.pool().clone();
    let first = pool.pick(1, &Tried::default(), || 1).await.unwrap();
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.pick(1, &Tried::default(), || 1).await }
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(pool.in_flight(), 1);
    drop(first);
    // It is woken: the clock, which only moves when nobody can, stands still.
    let began = tokio::time::Instant::now();
    assert!(waiting.await.unwrap().is_ok());
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_pool_admits_so_many_requests() {
    let (writer, _) = pool(1, |config| config.requests_max = 2);
    let admitted: Vec<_> = (0..3).map(|_| writer.pool().admit()).collect();
    assert!(admitted[1].is_some() && admitted[2].is_none());
    drop(admitted);
    assert!(writer.pool().admit().is_some());
}

/// What is tried when a request has failed at these replicas.
fn failed_at(upstreams: &[Arc<Upstream>]) -> Tried {
    let mut tried = Tried::default();
    for upstream in upstreams {
        tried.add(upstream);
        tried.failed(upstream.suspicions.raise());
        tried.was_sent();
    }
    tried
}

/// The waiting request gives back what it took in vain, and must not be woken by that: it would never yield again.
#[tokio::test(start_paused = true)]
async fn a_held_request_does_not_wake_itself() {
    for replicas in 1..=3 {
        let (writer, upstreams) = pool(replicas, |config| {
            config.hold.timeout = Duration::from_millis(350);
        });
        let pool = writer.pool().clone();
        let began = tokio::time::Instant::now();
        // On one thread: a request that spins would keep this test from its end.
        let picked = pool.pick(1, &failed_at(&upstreams), || 1).await;
        assert_eq!(picked.unwrap_err(), NoReplica::HeldTooLong, "{replicas} replicas");
        assert_eq!(began.elapsed(), Duration::from_millis(350), "{replicas} replicas");
        assert_eq!(pool.shared.load.retries.load(Ordering::Relaxed), 0);
    }
}

/// The deadline is the loop's own, so it fires although something changes all the time.
#[tokio::test(start_paused = true)]
async fn the_hold_ends_in_time_however_often_it_is_woken() {
    let (writer, upstreams) = pool(1, |config| config.hold.timeout = Duration::from_millis(50));
    let pool = writer.pool().clone();
    let waiting = tokio::spawn({
        let pool = pool.clone();
        let tried = failed_at(&upstreams);
        async move { pool.pick(1, &tried, || 1).await }
    });
    while !waiting.is_finished() {
        writer.wake_held();
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    assert!(waiting.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_request_fails_as_soon_as_all_that_failed_it_are_known_to_serve() {
    for replicas in 1..=3 {
        let (writer, upstreams) = pool(replicas, |config| {
            config.hold.timeout = Duration::from_secs(3_600);
        });
        let pool = writer.pool().clone();
        let tried = failed_at(&upstreams);
        let waiting = tokio::spawn(async move { pool.pick(1, &tried, || 1).await });
        for upstream in &upstreams {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(!waiting.is_finished(), "{} of {replicas} is not settled", upstream.name);
            upstream.suspicions.settle(upstream.suspicions.last());
            writer.wake_held();
        }
        let settled = tokio::time::Instant::now();
        assert_eq!(waiting.await.unwrap().unwrap_err(), NoReplica::AllFailed);
        assert_eq!(settled.elapsed(), Duration::ZERO, "it was woken");
    }
}

/// A heartbeat may have been on its way when the request failed: its answer says nothing about the time after.
#[tokio::test(start_paused = true)]
async fn a_request_waits_for_a_heartbeat_that_began_after_its_failure() {
    let (writer, upstreams) = pool(1, |config| config.hold.timeout = Duration::from_millis(500));
    let pool = writer.pool().clone();
    let heartbeat = upstreams[0].suspicions.last();
    let tried = failed_at(&upstreams);
    upstreams[0].suspicions.settle(heartbeat);
    let picked = pool.pick(1, &tried, || 1).await;
    assert_eq!(picked.unwrap_err(), NoReplica::HeldTooLong);
}

#[tokio::test(start_paused = true)]
async fn the_successor_of_a_failed_replica_takes_its_request() {
    for replicas in 1..=3 {
        let (writer, upstreams) = pool(replicas, |_| {});
        let pool = writer.pool().clone();
        let table = pool.shared.routes.load().table().clone();
        let tried = failed_at(&upstreams);
        let waiting = tokio::spawn({
            let pool = pool.clone();
            async move { pool.pick(1, &tried, || 1).await }
        });
        tokio::time::sleep(Duration::from_millis(10)).await;
        publish(&writer, &table, &[]);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!waiting.is_finished(), "nobody serves, but somebody may soon");
        let config = Config::default().pools.remove("default").unwrap();
        let metrics = Metrics::new().unwrap();
        let successor = Arc::new(Upstream::new(
            upstreams[0].name.clone(),
            upstreams[0].incarnation.next(),
            upstreams[0].addr,
            &config.upstream,
            Arc::new(metrics.replica("default", upstreams[0].name.as_str())),
            writer.load(),
            Arc::default(),
        ));
        publish(&writer, &table, std::slice::from_ref(&successor));
        assert_eq!(waiting.await.unwrap().unwrap().lease.id, successor.id);
    }
}

/// A kept connection that the replica closed is no failure of the replica.
#[tokio::test]
async fn after_a_stale_connection_the_same_replica_is_tried_again() {
    let (writer, upstreams) = pool(1, |config| config.upstream.retry_budget_min = 0);
    let mut tried = Tried::default();
    tried.add(&upstreams[0]);
    tried.failed(upstreams[0].suspicions.raise());
    tried.was_stale();
    assert!(tried.needs_fresh_connection());
    let pick = writer.pool().pick(1, &tried, || 1).await.unwrap();
    assert_eq!((pick.lease.id, pick.reason), (upstreams[0].id, Reason::Retry(2)));
    let keys = [0, 1].map(|_| pick.lease.peer_for_fresh_connection().group_key);
    assert_ne!(keys[0], keys[1], "a fresh connection each time");
    assert_ne!(keys[0], pick.lease.peer.group_key);
}

/// A replica had a request in hand, failed it, and serves on.
#[tokio::test(start_paused = true)]
async fn retries_have_a_budget_unless_the_replica_that_failed_is_gone() {
    let (writer, upstreams) = pool(3, |config| {
        config.bounded_load = None;
        config.upstream.retry_budget_min = 1;
    });
    let pool = writer.pool().clone();
    let table = pool.shared.routes.load().table().clone();
    let lost = |sent: bool| {
        let mut tried = Tried::default();
        tried.add(&upstreams[0]);
        if sent {
            tried.was_sent();
        }
        tried
    };
    let retry = |sent| {
        let (pool, tried) = (pool.clone(), lost(sent));
        tokio::spawn(async move { pool.pick(1, &tried, || 1).await })
    };
    let first = retry(true).await.unwrap().unwrap();
    assert!(retry(false).await.unwrap().is_ok(), "nothing was sent: free");
    assert_eq!(retry(true).await.unwrap().unwrap_err(), NoReplica::RetryBudget);

    let waiting = retry(true);
    tokio::time::sleep(Duration::from_millis(10)).await;
    drop(first);
    let second = waiting.await.unwrap().unwrap();
    let others: Vec<_> = (0..20).map(|_| upstreams[1].reserve(100).unwrap()).collect();
    let more: Vec<_> =
        [retry(true).await, retry(true).await, retry(true).await].into_iter().collect();
    assert!(more.iter().all(|it| it.as_ref().unwrap().is_ok()), "20 % of more than 20");
    drop((others, more));

    // As after a kill: many at once, more than the budget, and none of them fails.
    let all: Vec<_> = (0..50).map(|_| retry(true)).collect();
    tokio::time::sleep(Duration::from_millis(10)).await;
    publish(&writer, &table, &upstreams[1..]);
    for one in all {
        assert!(one.await.unwrap().is_ok());
    }
    drop(second);
}
