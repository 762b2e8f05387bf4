//! The files for Prometheus and Grafana: they can be read, and name no metric that does not exist.

use std::collections::BTreeSet;

use serde_json::Value;

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
