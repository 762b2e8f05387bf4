//! The configuration as operators may read it: every key with the value in force, secrets left out.
//!
//! The documented defaults are what the file's text is laid over, so a key is told by the name that it is set by.

use serde_json::{Map, Value};

/// Every key with its default.
const DEFAULTS: &str = include_str!("../../../conf/ringmaster.yaml");

/// What stands for a value that may be a secret.
const MASK: &str = "***";

/// Every key with its value under the file `text`, which was read without a fault.
pub(super) fn effective(text: &str) -> Value {
    let parse = |text| serde_yaml::from_str::<Value>(text).unwrap_or_default();
    let mut defaults = parse(DEFAULTS);
    let pool = defaults["pools"]["default"].clone();
    let file = parse(text);
    if let Some(pools) = file.get("pools").and_then(Value::as_object) {
        defaults["pools"] = pools.keys().map(|name| (name.clone(), pool.clone())).collect();
    }
    if file.get("routes").is_none_or(Value::is_null) {
        // Everything goes to the only pool.
        let only = defaults["pools"].as_object().and_then(|it| it.keys().next()).cloned();
        defaults["routes"] = serde_json::json!([{ "pool": only }]);
    }
    let mut effective = laid_over(defaults, file);
    mask(&mut effective);
    effective
}

fn laid_over(below: Value, above: Value) -> Value {
    match (below, above) {
        // A key without a value has its default.
        (below, Value::Null) => below,
        (Value::Object(mut below), Value::Object(above)) => {
            for (key, value) in above {
                let covered = below.remove(&key).unwrap_or_default();
                below.insert(key, laid_over(covered, value));
            }
            Value::Object(below)
        }
        (_, above) => above,
    }
}

/// What replicas are told in their environment may be a password.
fn mask(config: &mut Value) {
    let pools = config.get_mut("pools").and_then(Value::as_object_mut);
    for pool in pools.into_iter().flat_map(Map::values_mut) {
        let environment = pool.pointer_mut("/docker/environment").and_then(Value::as_object_mut);
        environment.into_iter().flat_map(Map::values_mut).for_each(|it| *it = MASK.into());
    }
}

/// The paths of the keys whose values differ, in their order.
pub(super) fn differences(old: &Value, new: &Value) -> Vec<String> {
    let mut paths = Vec::new();
    compare("", old, new, &mut paths);
    paths
}

fn compare(path: &str, old: &Value, new: &Value, paths: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let gone = old.keys().filter(|key| !new.contains_key(*key));
            for key in new.keys().chain(gone) {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let value = |of: &Map<String, Value>| of.get(key).cloned().unwrap_or_default();
                compare(&below, &value(old), &value(new), paths);
            }
        }
        _ if old == new => {}
        _ => paths.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_has_every_default() {
        let config = effective("");
        assert_eq!(config["client"]["headers_max"], 100);
        assert_eq!(config["pools"]["default"]["hold"]["timeout_ms"], 2_000);
        assert_eq!(config["routes"][0]["pool"], "default");
    }

    #[test]
    fn what_the_file_says_covers_defaults_and_secrets_stay_secret() {
        let config = effective(
            "pools: { a: { hold: { timeout_ms: 5, requests_max: } }, \
             b: { provider: docker, docker: { image: i, environment: { PASSWORD: secret } } } }\n\
             routes: [{ pool: a }]",
        );
        let hold = &config["pools"]["a"]["hold"];
        assert_eq!((&hold["timeout_ms"], &hold["requests_max"]), (&5.into(), &1_000.into()));
        assert!(config["pools"]["default"].is_null());
        assert_eq!(config["pools"]["b"]["docker"]["environment"]["PASSWORD"], MASK);
        assert!(!config.to_string().contains("secret"));
    }

    #[test]
    fn differences_are_told_by_path() {
        let old = effective("access_log: true");
        let new = effective("pools: { default: { key: path }, other: }\nroutes: [{ pool: other }]");
        let paths = differences(&old, &new);
        for path in ["access_log", "pools.default.key", "pools.other", "routes"] {
            assert!(paths.iter().any(|it| it == path), "{path} is not in {paths:?}");
        }
        assert_eq!(paths.len(), 4, "{paths:?}");
        assert_eq!(differences(&old, &old), [""; 0]);
    }
}
