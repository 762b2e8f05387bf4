//! More requests than replicas can serve, and replicas that fail what they are given.

use tokio::task::JoinSet;

use crate::harness::{
    Balancer,
    backend::{Backend, OK, pool},
    http::{self, Answer},
    pool_sizes, server_names, until,
};

fn send_many(balancer: &Balancer, count: usize) -> JoinSet<Answer> {
    let proxy = balancer.proxy;
    let mut requests = JoinSet::new();
    for _ in 0..count {
        requests.spawn(async move { http::get(proxy, "/").await });
    }
    requests
}

async fn statuses(requests: JoinSet<Answer>) -> Vec<u16> {
    let mut statuses: Vec<u16> =
        requests.join_all().await.into_iter().map(|it| it.status).collect();
    statuses.sort_unstable();
    statuses
}

async fn until_received(backend: &mut Backend, count: usize) {
    let mut received = 0;
    let all = async || {
        received += backend.received().len();
        (received >= count).then_some(())
    };
    assert!(until("so many requests", all).await.is_some(), "not {count}");
}

#[tokio::test]
async fn more_requests_than_a_pool_may_have_are_refused_at_once() {
    for size in pool_sizes() {
        let mut backend = Backend::with_replicas(size).await;
        let balancer = Balancer::start(&backend.pool("requests_max: 4")).await;
        let gate = backend.hold();
        let requests = send_many(&balancer, 4);
        until_received(&mut backend, 4).await;
        let refused = balancer.get("/").await;
        assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
        assert_eq!(refused.json()["message"], "<Error> Too many requests at once");
        assert_eq!(balancer.get("/rep").await.status, 200, "operators are served");
        gate.add_permits(100);
        assert_eq!(statuses(requests).await, [200; 4]);
        balancer
            .until_counted(
                r#"ringmaster_requests_ended_total{outcome="rejected",reason="overload"} 1"#,
            )
            .await;
        let ended = r#"ringmaster_requests_ended_total{outcome="ok",reason="answered"} 4"#;
        balancer.until_counted(ended).await;
        assert_eq!(balancer.get("/").await.status, 200);
        balancer.stop().await;
    }
}

#[tokio::test]
async fn a_replica_has_so_many_requests_in_hand_and_the_others_wait() {
    for size in pool_sizes() {
        let mut backend = Backend::with_replicas(size).await;
        let more = "hold: { timeout_ms: 60000 }, upstream: { in_flight_max: 2 }";
        let balancer = Balancer::start(&backend.pool(more)).await;
        let gate = backend.hold();
        let all = 2 * size + 3;
        let requests = send_many(&balancer, all);
        balancer.until_counted(r#"ringmaster_requests_waiting{pool="default"} 3"#).await;
        until_received(&mut backend, 2 * size).await;
        gate.add_permits(1);
        until_received(&mut backend, 1).await;
        balancer.until_counted(r#"ringmaster_requests_waiting{pool="default"} 2"#).await;
        assert_eq!(backend.received(), [], "only as many as were answered");
        gate.add_permits(100);
        assert_eq!(statuses(requests).await, vec![200; all]);
        balancer.stop().await;
    }
}

/// Each replica takes requests, keeps them for a while and drops them, and goes on serving.
#[tokio::test]
async fn replicas_that_fail_all_requests_are_not_sent_all_of_them_again() {
    for size in pool_sizes().filter(|size| *size > 1) {
        const REQUESTS: usize = 200;
        const BUDGET: usize = REQUESTS / 5;
        let mut backend = Backend::with_replicas(size).await;
        let balancer = Balancer::start(&backend.pool("hold: { timeout_ms: 500 }")).await;
        backend.says(b"", true);
        let gate = backend.hold();
        let mut requests = send_many(&balancer, REQUESTS);
        until_received(&mut backend, REQUESTS).await;
        gate.add_permits(REQUESTS);
        // What comes again finds the gate closed, and so keeps its part of the budget: the others get none.
        for _ in 0..REQUESTS - BUDGET {
            assert_eq!(requests.join_next().await.unwrap().unwrap().status, 503);
        }
        gate.add_permits(REQUESTS);
        let rest = statuses(requests).await;
        assert!(rest.iter().all(|it| matches!(it, 502 | 503)), "{rest:?}");
        let again = backend.received().len();
        assert!((1..=2 * BUDGET).contains(&again), "{again} attempts more for {REQUESTS} requests");
        let metrics = http::get(balancer.admin, "/metrics").await.body;
        let prefix = r#"ringmaster_request_failures_total{pool="default",reason="retry_budget"} "#;
        let failed = metrics.lines().find_map(|it| it.strip_prefix(prefix)?.parse::<usize>().ok());
        assert!(failed >= Some(REQUESTS - BUDGET), "{failed:?}");
        balancer.stop().await;
    }
}

#[tokio::test]
async fn a_replica_that_refuses_connections_is_ejected_and_nobody_notices() {
    let mut backends = Backend::start_many(2).await;
    // Its heartbeats may be missed for long: the fleet goes on calling it well.
    let more = "algorithm: round_robin, heartbeat: { missed_max: 1000 }, \
                ejection: { base_ms: 3600000, max_ms: 3600000 }";
    let balancer = Balancer::start(&pool(&backends, more)).await;
    backends[0].refuse().await;
    for _ in 0..40 {
        assert_eq!(balancer.get("/").await.status, 200);
    }
    balancer.until_counted(r#"ringmaster_ejections_total{cause="connect",pool="default"} 1"#).await;
    balancer.until_counted(r#"ringmaster_replicas_ejected{pool="default"} 1"#).await;
    balancer.until_counted(r#"ringmaster_retries_total{pool="default",reason="connect"} 5"#).await;
    assert_eq!(balancer.replica("S1").await.unwrap()["phase"], "serving", "the fleet's word");
    balancer.stop().await;
}

/// Replicas that died together, in the moment before that is known: more of them than a request has attempts.
#[tokio::test]
async fn a_request_gets_past_any_number_of_replicas_that_refuse_it() {
    let mut backends = Backend::start_many(5).await;
    let more = "algorithm: round_robin, heartbeat: { missed_max: 1000 }, \
                ejection: { connect_failures: 0 }, upstream: { attempts_max: 2 }";
    let balancer = Balancer::start(&pool(&backends, more)).await;
    for it in &mut backends[..4] {
        it.refuse().await;
    }
    for method in ["GET", "POST"] {
        for _ in 0..10 {
            assert_eq!(http::send(balancer.proxy, method, "/", &[], "").await.status, 200);
        }
    }
    balancer.stop().await;
}

#[tokio::test]
async fn explain_says_where_the_keys_of_an_ejected_replica_go() {
    let backends = Backend::start_many(2).await;
    let more = "key: path, ejection: { server_error_percent: 1, answers: 1, base_ms: 3600000, \
                max_ms: 3600000 }";
    let yaml = format!("{}\nexplain_header: true", pool(&backends, more));
    let balancer = Balancer::start(&yaml).await;
    let explain = async |key: &str| {
        balancer.admin(&format!("/api/v1/pools/default/explain?path={key}")).await
    };
    let mut of_broken = None;
    for key in (0..64).map(|it| format!("/{it}")) {
        if explain(&key).await["replica"] == "S1" {
            of_broken = Some(key);
            break;
        }
    }
    let key = of_broken.expect("one of 64 keys is of either replica");
    backends[0].says(b"HTTP/1.1 500 Broken\r\nContent-Length: 2\r\n\r\nno", false);
    assert_eq!(balancer.get(&key).await.status, 500);
    balancer.until_counted(r#"ringmaster_replicas_ejected{pool="default"} 1"#).await;

    assert_eq!(balancer.get(&key).await.header("x-ringmaster"), "S2; reason=failover-down");
    let told = explain(&key).await;
    assert_eq!((&told["replica"], &told["reason"]), (&"S2".into(), &"failover-down".into()));
    let [owner, next] = &told["candidates"].as_array().unwrap()[..] else { panic!("{told}") };
    assert_eq!((&owner["replica"], &owner["verdict"]), (&"S1".into(), &"skipped".into()));
    let why = owner["why"].as_str().unwrap();
    assert!(why.starts_with("ejected: it failed requests, for 3"), "{why}");
    assert_eq!((&next["replica"], &next["verdict"]), (&"S2".into(), &"taken".into()));
    let replica = balancer.replica("S1").await.unwrap();
    assert_eq!(replica["phase"], "serving");
    assert!(replica["ejected_for_s"].as_f64().unwrap() > 0.0, "{replica}");
    balancer.stop().await;
}

#[tokio::test]
async fn errors_eject_if_they_are_asked_to() {
    let backends = Backend::start_many(2).await;
    let more = "algorithm: round_robin, ejection: { server_error_percent: 50, answers: 4, \
                base_ms: 3600000, max_ms: 3600000 }";
    let balancer = Balancer::start(&pool(&backends, more)).await;
    backends[0].says(b"HTTP/1.1 500 Broken\r\nContent-Length: 2\r\n\r\nno", false);
    let mut errors = 0;
    for _ in 0..40 {
        errors += usize::from(balancer.get("/").await.status == 500);
    }
    // Counted when a request has ended, a moment after its client has the answer.
    assert!((4..=10).contains(&errors), "{errors}");
    balancer.stop().await;
}

/// Has all of them ejected for answers of 500.
async fn eject_all(balancer: &Balancer, backend: &Backend, size: usize) {
    backend.says(b"HTTP/1.1 500 Broken\r\nContent-Length: 2\r\n\r\nno", false);
    let line = format!(r#"ringmaster_replicas_ejected{{pool="default"}} {size}"#);
    let ejected = async || {
        balancer.get("/").await;
        http::get(balancer.admin, "/metrics").await.body.contains(&line).then_some(())
    };
    assert!(until("all are ejected", ejected).await.is_some());
}

#[tokio::test]
async fn with_everybody_ejected_requests_go_there_or_are_refused_as_configured() {
    for size in pool_sizes() {
        for (when_all, status) in [("open", 500), ("refuse", 503)] {
            let backend = Backend::with_replicas(size).await;
            let more = format!(
                "hold: {{ timeout_ms: 50 }}, ejection: {{ server_error_percent: 1, answers: 1, \
                 max_percent: 100, base_ms: 3600000, max_ms: 3600000, when_all: {when_all} }}"
            );
            let balancer = Balancer::start(&backend.pool(&more)).await;
            eject_all(&balancer, &backend, size).await;
            assert_eq!(balancer.get("/").await.status, status, "{when_all}");
            balancer.stop().await;
        }
    }
}

#[tokio::test]
async fn an_ejection_ends_by_itself() {
    for size in pool_sizes() {
        let backend = Backend::with_replicas(size).await;
        let more = "ejection: { server_error_percent: 1, answers: 1, max_percent: 100, \
                    base_ms: 200, when_all: refuse }, hold: { timeout_ms: 60000 }";
        let balancer = Balancer::start(&backend.pool(more)).await;
        backend.says(b"HTTP/1.1 500 Broken\r\nContent-Length: 2\r\n\r\nno", false);
        assert_eq!(balancer.get("/").await.status, 500);
        backend.says(OK, false);
        balancer
            .until_counted(r#"ringmaster_ejections_total{cause="server_errors",pool="default"} 1"#)
            .await;
        for _ in 0..2 * size {
            assert_eq!(balancer.get("/").await.status, 200, "held until then, if need be");
        }
        balancer.until_counted(r#"ringmaster_replicas_ejected{pool="default"} 0"#).await;
        balancer.stop().await;
    }
}

/// The promise, with more requests in one replica's hands than the budget has room for.
#[tokio::test]
async fn a_killed_replica_s_requests_are_all_sent_again() {
    for size in pool_sizes() {
        let balancer = Balancer::start(&format!(
            "pools: {{ default: {{ replicas: {size}, hold: {{ timeout_ms: 60000 }},
                                   upstream: {{ retry_budget_percent: 0, retry_budget_min: 0 }} }} }}"
        ))
        .await;
        let load = crate::harness::load::Load::start(balancer.proxy, 64);
        for name in server_names(size) {
            load.until_sent(load.sent() + 700).await;
            let victim = balancer.replica(&name).await.unwrap();
            crate::harness::kill_9(&victim);
            balancer.until_serving(&name, victim["incarnation"].as_u64().unwrap()).await;
        }
        let outcome = load.finish().await;
        assert_eq!(outcome.failures, Default::default(), "of {} requests", outcome.sent);
        balancer.stop().await;
    }
}
