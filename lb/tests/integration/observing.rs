//! What monitoring sees: the series that exist, what is counted and logged of failures, and the files for Prometheus and
//! Grafana, which must name no metric that does not exist.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{Balancer, http, kill_9, until};

/// Every series that exists right after the start of a pool with one replica, without values and buckets.
const SERIES: &str = include_str!("observing/series.txt");

const METRICS: &str = include_str!("../../src/metrics.rs");
const ALERTS: &str = include_str!("../../../docker/prometheus/alerts.yml");
const DASHBOARD: &str = include_str!("../../../docker/grafana/dashboards/ringmaster.json");

#[test]
fn alerts_and_panels_name_metrics_that_exist() {
    let alerts: serde_yaml::Value = serde_yaml::from_str(ALERTS).unwrap();
    let rules = alerts["groups"][0]["rules"].as_sequence().unwrap();
    let alerts = rules.iter().map(|rule| rule["expr"].as_str().expect("an alert has a condition"));

    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let queries = targets.map(|target| target["expr"].as_str().expect("a target has a query"));

    let named: BTreeSet<_> = alerts.chain(queries).flat_map(metrics_in).collect();
    assert!(named.len() > 10, "only {named:?} are used");
    for metric in named {
        assert!(METRICS.contains(&format!("{metric:?}")), "{metric} does not exist");
    }
}

/// The metrics of ours in an expression. What is derived from a histogram counts as the histogram.
fn metrics_in(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("ringmaster_"))
        .map(|word| word.strip_suffix("_bucket").unwrap_or(word))
}

#[test]
fn the_other_files_are_yaml() {
    for text in [
        include_str!("../../../docker/compose.yaml"),
        include_str!("../../../docker/prometheus/prometheus.yml"),
        include_str!("../../../docker/grafana/provisioning/datasources/prometheus.yaml"),
        include_str!("../../../docker/grafana/provisioning/dashboards/ringmaster.yaml"),
    ] {
        let value: serde_yaml::Value = serde_yaml::from_str(text).unwrap();
        assert!(value.is_mapping());
    }
}

/// A series that appears with its first increase hides that increase from `increase()`.
#[tokio::test]
async fn every_series_exists_from_the_start() {
    let balancer = Balancer::start("pools: { default: { replicas: 1 } }").await;
    let metrics = http::get(balancer.admin, "/metrics").await.body;
    let found: BTreeSet<&str> = series_in(&metrics).collect();
    let declared: BTreeSet<&str> = SERIES.lines().collect();
    let missing: Vec<_> = declared.difference(&found).collect();
    let undeclared: Vec<_> = found.difference(&declared).collect();
    assert!(
        missing.is_empty() && undeclared.is_empty(),
        "missing: {missing:#?}\nnot in series.txt: {undeclared:#?}"
    );

    // Nor does anything that happens later bring a series, or take one away.
    balancer.get("/home").await;
    kill_9(&balancer.replica("Server1").await.unwrap());
    balancer.until_serving("Server1", 1).await;
    let metrics = http::get(balancer.admin, "/metrics").await.body;
    assert_eq!(series_in(&metrics).collect::<BTreeSet<_>>(), declared);
    balancer.stop().await;
}

/// The series of ours, without the buckets of histograms and without what the build is.
fn series_in(metrics: &str) -> impl Iterator<Item = &str> {
    metrics
        .lines()
        .filter(|line| line.starts_with("ringmaster_") && !line.contains("_bucket{"))
        .filter(|line| !line.starts_with("ringmaster_build_info{"))
        .map(|line| line.rsplit_once(' ').expect("a series has a value").0)
}

#[tokio::test]
async fn fresh_names_are_counted_together_and_failures_are_warned_of() {
    let balancer = Balancer::start(
        "pools: { default: { replicas: 2, respawn_name: fresh, naming: random,
                             backoff: { healthy_after_ms: 1 } } }",
    )
    .await;
    const KILLS: usize = 3;
    let before = series_in(&http::get(balancer.admin, "/metrics").await.body).count();
    for _ in 0..KILLS {
        let victim = balancer.replicas().await.remove(0);
        kill_9(&victim);
        until("another one serves", async || {
            let replicas = balancer.replicas().await;
            let serve = replicas.iter().filter(|it| it["phase"] == "serving").count() == 2;
            let gone = replicas.iter().all(|it| it["name"] != victim["name"]);
            (serve && gone).then_some(())
        })
        .await
        .unwrap();
    }
    let counted = r#"ringmaster_respawns_total{cause="exit",pool="default",replica="*"} 3"#;
    balancer.until_counted(counted).await;
    let metrics = http::get(balancer.admin, "/metrics").await.body;
    assert_eq!(series_in(&metrics).count(), before, "no series more:\n{metrics}");
    for stage in ["detect", "spawn", "ready"] {
        let counted =
            format!(r#"ringmaster_recovery_seconds_count{{pool="default",stage="{stage}"}} 3"#);
        assert!(metrics.contains(&counted), "{stage}:\n{metrics}");
    }
    let output = balancer.output();
    let warnings: Vec<&str> = output.lines().filter(|line| line.contains("WARN")).collect();
    let failed =
        |line: &&&str| line.contains("Replica failed") && line.contains("cause=killed by signal 9");
    assert_eq!(warnings.iter().filter(failed).count(), KILLS, "{output}");
    assert!(!warnings.iter().any(|line| line.contains("replaces")), "{output}");
    balancer.stop().await;
}
