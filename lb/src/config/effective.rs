//! The configuration as operators may read it: every key with the value in force, secrets left out.
//!
//! The documented defaults are what the file's text is laid over, so a key is told by the name that it is set by.

use std::fmt;

use serde_json::{Map, Value};

/// Every key with its default.
const DEFAULTS: &str = include_str!("../../../conf/ringmaster.yaml");

/// What stands for a value that may be a secret.
const MASK: &str = "***";

/// Every key with its value.
#[derive(Clone)]
pub(crate) struct Effective {
    /// With secrets, so that a change of one is a difference.
    plain: Value,
}

impl Effective {
    /// Under the file `text`, which was read without a fault.
    pub(super) fn of(text: &str) -> Self {
        Self { plain: effective(text) }
    }

    /// Adds to the list at `pointer` (RFC 6901).
    pub(super) fn extend(&mut self, pointer: &str, items: impl Iterator<Item = String>) {
        let list = self.plain.pointer_mut(pointer).and_then(Value::as_array_mut);
        if let Some(list) = list {
            list.extend(items.map(Value::from));
        }
    }

    /// As operators may read it.
    pub(crate) fn masked(&self) -> Value {
        let mut masked = self.plain.clone();
        mask(&mut masked);
        masked
    }

    /// The paths of the keys whose values differ in `next`, in their order.
    pub(super) fn differences(&self, next: &Self) -> Vec<String> {
        let mut paths = Vec::new();
        compare("", &self.plain, &next.plain, &mut paths);
        paths
    }
}

impl fmt::Debug for Effective {
    /// No debugging output has secrets in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.masked(), f)
    }
}

fn effective(text: &str) -> Value {
    let parse = |text| serde_yaml::from_str::<Value>(text).unwrap_or_default();
    let mut defaults = parse(DEFAULTS);
    let pool = defaults["pools"]["default"].clone();
    let file = parse(text);
    if let Some(pools) = file.get("pools").and_then(Value::as_object) {
        let defaults_of = |(name, file): (&String, &Value)| {
            let mut pool = pool.clone();
            // The one default that follows from other keys.
            if file["hashes"] == "classic" || file["hashes"] == "modular" {
                pool["bounded_load"]["factor"] = 0.into();
            }
            (name.clone(), pool)
        };
        defaults["pools"] = pools.iter().map(defaults_of).collect();
    }
    if file.get("routes").is_none_or(Value::is_null) {
        // Everything goes to the only pool.
        let only = defaults["pools"].as_object().and_then(|it| it.keys().next()).cloned();
        defaults["routes"] = serde_json::json!([{ "pool": only }]);
    }
    laid_over(defaults, file)
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

/// What replicas are told in their environment, or in the headers of heartbeats, may be a password.
fn mask(config: &mut Value) {
    let pools = config.get_mut("pools").and_then(Value::as_object_mut);
    for pool in pools.into_iter().flat_map(Map::values_mut) {
        for path in ["/docker/environment", "/heartbeat/headers"] {
            let secrets = pool.pointer_mut(path).and_then(Value::as_object_mut);
            secrets.into_iter().flat_map(Map::values_mut).for_each(|it| *it = MASK.into());
        }
    }
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
        let config = Effective::of("").masked();
        assert_eq!(config["client"]["headers_max"], 100);
        assert_eq!(config["pools"]["default"]["hold"]["timeout_ms"], 2_000);
        assert_eq!(config["routes"][0]["pool"], "default");
    }

    #[test]
    fn what_the_file_says_covers_defaults_and_secrets_stay_secret() {
        let config = Effective::of(
            "pools: { a: { hold: { timeout_ms: 5, requests_max: } }, \
             b: { provider: docker, docker: { image: i, environment: { PASSWORD: secret } }, \
             heartbeat: { host: a.example, headers: { Authorization: secret } } } }\n\
             routes: [{ pool: a }]",
        );
        assert!(!format!("{config:?}").contains("secret"));
        let config = config.masked();
        let hold = &config["pools"]["a"]["hold"];
        assert_eq!((&hold["timeout_ms"], &hold["requests_max"]), (&5.into(), &1_000.into()));
        assert!(config["pools"]["default"].is_null());
        assert_eq!(config["pools"]["b"]["docker"]["environment"]["PASSWORD"], MASK);
        let heartbeat = &config["pools"]["b"]["heartbeat"];
        assert_eq!(
            (&heartbeat["host"], &heartbeat["path"]),
            (&"a.example".into(), &"/heartbeat".into())
        );
        assert_eq!(heartbeat["headers"]["Authorization"], MASK);
        assert!(!config.to_string().contains("secret"));
    }

    #[test]
    fn published_hashes_imply_no_bound_unless_one_is_given() {
        for (pool, factor) in [
            ("hashes: classic", 0.0),
            ("hashes: modular", 0.0),
            ("hashes: classic, bounded_load: { floor: 4 }", 0.0),
            ("hashes: classic, bounded_load: { factor: }", 0.0),
            ("hashes: classic, bounded_load: { factor: 2 }", 2.0),
            ("hashes: xxh3", 1.25),
            ("", 1.25),
        ] {
            let text = format!("pools: {{ a: {{ algorithm: ring, {pool} }} }}");
            let effective = effective(&text)["pools"]["a"]["bounded_load"]["factor"].as_f64();
            let in_force = crate::config::Config::parse(&text).unwrap().pools["a"].bounded_load;
            assert_eq!(effective, Some(factor), "{pool}");
            assert_eq!(in_force.map_or(0.0, |it| it.factor), factor, "{pool}");
        }
    }

    #[test]
    fn differences_are_told_by_path() {
        let old = Effective::of("access_log: true");
        let new =
            Effective::of("pools: { default: { key: path }, other: }\nroutes: [{ pool: other }]");
        let paths = old.differences(&new);
        for path in ["access_log", "pools.default.key", "pools.other", "routes"] {
            assert!(paths.iter().any(|it| it == path), "{path} is not in {paths:?}");
        }
        assert_eq!(paths.len(), 4, "{paths:?}");
        assert_eq!(old.differences(&old), [""; 0]);
    }

    #[test]
    fn changed_secrets_are_differences() {
        let with = |secret: &str| {
            Effective::of(&format!(
                "pools: {{ a: {{ provider: docker, docker: {{ image: i, environment: {{ A: {secret} }} }}, \
                 heartbeat: {{ headers: {{ A: {secret} }} }} }} }}"
            ))
        };
        assert_eq!(
            with("one").differences(&with("two")),
            ["pools.a.docker.environment.A", "pools.a.heartbeat.headers.A"]
        );
    }
}
