//! Which pool and replica a request goes to, and what the operator is told about it.

use serde_json::Value;

use crate::harness::{Balancer, http, until};

#[tokio::test]
async fn routes_choose_the_pool_and_the_first_match_wins() {
    let balancer = Balancer::start(
        "
        routes:
          - { host: api.test, path_prefix: /, pool: api }
          - { path_prefix: /static, pool: files }
          - { host: web.test., path_prefix: /, pool: web }
          - { host: '[::1]', path_prefix: /, pool: web }
        pools:
          api: { replicas: 1, names: [Api] }
          files: { replicas: 1, names: [Files], algorithm: round_robin }
          web: { replicas: 1, names: [Web], algorithm: least_requests }
        ",
    )
    .await;
    for (host, path, served_by) in [
        ("api.test", "/home", "api"),
        ("API.test:80", "/static", "api"),
        ("api.test.", "/home", "api"),
        ("api.TEST.:80", "/home", "api"),
        ("api.test:", "/home", "api"),
        ("web.test.", "/home", "web"),
        ("[::1]:80", "/home", "web"),
        ("[0:0:0:0:0:0:0:1]", "/home", "web"),
        ("web.test", "/static/x", "files"),
        ("web.test", "/staticx", "web"),
        ("web.test", "/home", "web"),
    ] {
        let before = requests(&balancer, served_by).await;
        http::send(balancer.proxy, "GET", path, &[("host", host)], "").await;
        // A request is counted when it has ended, a moment after its client has the answer.
        let counted = async || (requests(&balancer, served_by).await == before + 1).then_some(());
        until("it is counted", counted).await.unwrap_or_else(|| panic!("{host} {path}"));
    }
    let answer = http::send(balancer.proxy, "GET", "/home", &[("host", "other.test")], "").await;
    assert_eq!(answer.status, 404, "{}", answer.body);
    assert_eq!(answer.json()["status"], "failure");
    let pools = balancer.admin("/api/v1/pools").await;
    assert_eq!(pools["pools"].as_array().unwrap().len(), 3);
    assert_eq!(http::get(balancer.admin, "/readyz").await.status, 200);
    balancer.stop().await;
}

async fn requests(balancer: &Balancer, pool: &str) -> u64 {
    let metrics = http::get(balancer.admin, "/metrics").await.body;
    metrics
        .lines()
        .filter(|line| {
            line.starts_with("ringmaster_requests_total{")
                && line.contains(&format!("pool=\"{pool}\""))
        })
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

#[tokio::test]
async fn explain_says_where_requests_really_go() {
    for algorithm in ["rendezvous", "ring", "maglev", "ring, hashes: classic"] {
        let balancer = Balancer::start(&format!(
            "pools: {{ default: {{ replicas: 4, algorithm: {algorithm} }} }}"
        ))
        .await;
        for key in [123_456, 654_321, 100_000, 999_999] {
            let owner = &balancer.owners([key]).await[0];
            let told = balancer.admin(&format!("/api/v1/pools/default/explain?key={key}")).await;
            assert_eq!(told["replica"], Value::from(owner.clone()), "{algorithm}: {told}");
            assert_eq!(told["candidates"].as_array().unwrap().len(), 4, "{told}");
            assert_eq!(told["candidates"][0]["verdict"], "taken", "{told}");
        }
        balancer.stop().await;
    }
}

#[tokio::test]
async fn a_plan_tells_what_a_change_then_does() {
    let balancer = Balancer::start("").await;
    let plan = balancer.admin("/api/v1/pools/default/plan?add=1").await;
    assert_eq!(plan["between_survivors"], 0.0, "{plan}");
    assert_eq!(plan["ideal"], 0.25);
    let moved = plan["moved"].as_f64().unwrap();
    assert!((moved - 0.25).abs() < 0.02, "{plan}");

    let keys = || (0..500).map(|it| 100_000 + it * 1_789);
    let before = balancer.owners(keys()).await;
    http::send(balancer.proxy, "POST", "/add", &[], "").await;
    let after = balancer.owners(keys()).await;
    let changed: Vec<_> = before.iter().zip(&after).filter(|(b, a)| b != a).collect();
    assert!(changed.iter().all(|(_, to)| *to == "Server4"), "only to the new one: {changed:?}");
    let share = changed.len() as f64 / before.len() as f64;
    assert!((share - moved).abs() < 0.1, "{share} moved, {moved} was planned");
    http::send(balancer.proxy, "DELETE", "/rm", &[], r#"{"n":1,"hostnames":["Server4"]}"#).await;
    assert_eq!(balancer.owners(keys()).await, before, "and back");
    balancer.stop().await;
}

#[tokio::test]
async fn metrics_have_every_name_and_no_series_of_what_is_gone() {
    let balancer = Balancer::start("").await;
    for _ in 0..20 {
        balancer.get("/home").await;
    }
    http::send(balancer.proxy, "POST", "/add", &[], r#"{"n":1,"hostnames":["Extra"]}"#).await;
    let metrics = balancer.get("/metrics").await;
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
    for name in [
        "ringmaster_requests_total{",
        "ringmaster_request_duration_seconds_bucket{",
        "ringmaster_requests_in_flight{",
        "ringmaster_request_failures_total{",
        "ringmaster_retries_total{",
        "ringmaster_requests_held_total{",
        "ringmaster_selection_total{",
        "ringmaster_replicas{",
        "ringmaster_replica_serving{",
        "ringmaster_heartbeats_total{",
        "ringmaster_slots{",
        "ringmaster_config_reloads_total{",
        "ringmaster_build_info{",
        "process_open_fds ",
    ] {
        assert!(metrics.body.contains(name), "{name} is missing in:\n{}", metrics.body);
    }
    assert!(
        metrics.body.contains(r#"ringmaster_replica_serving{pool="default",replica="Extra"} 1"#)
    );
    http::send(balancer.proxy, "DELETE", "/rm", &[], r#"{"n":1,"hostnames":["Extra"]}"#).await;
    let metrics = balancer.get("/metrics").await.body;
    assert!(!metrics.contains(r#""Extra""#), "{metrics}");
    let victim = balancer.replica("Server1").await.unwrap();
    crate::harness::kill_9(&victim);
    balancer.until_serving("Server1", 1).await;
    let metrics = balancer.get("/metrics").await.body;
    let respawned = r#"ringmaster_respawns_total{cause="exit",pool="default",replica="Server1"} 1"#;
    assert!(metrics.contains(respawned), "{metrics}");
    for stage in ["detect", "spawn", "ready"] {
        let counted =
            format!(r#"ringmaster_recovery_seconds_count{{pool="default",stage="{stage}"}} 1"#);
        assert!(metrics.contains(&counted), "{stage}: {metrics}");
    }
    balancer.stop().await;
}
