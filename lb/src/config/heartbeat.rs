//! The section of a pool that says how its replicas are probed.

use std::{fmt, ops::RangeInclusive, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use ringmaster_fleet::Limits;

use super::{HeartbeatConfig, forms, reader::Reader};

/// With the default interval, more than eight minutes of silence.
const MISSED_MAX: u32 = 1_000;

/// The statuses of an answer that make a heartbeat a good one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Statuses(Vec<RangeInclusive<u16>>);

impl Statuses {
    pub(crate) fn contain(&self, status: StatusCode) -> bool {
        self.0.iter().any(|range| range.contains(&status.as_u16()))
    }
}

impl Default for Statuses {
    fn default() -> Self {
        Self(vec![200..=299])
    }
}

impl fmt::Display for Statuses {
    /// As in the file, such as `200-299, 301`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{separator}{first}")?,
                (first, last) => write!(f, "{separator}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

/// Reads it, and how many misses in a row are a failure.
pub(super) fn heartbeat(heartbeat: &mut Reader<'_>) -> (HeartbeatConfig, u32) {
    let config = HeartbeatConfig {
        path: heartbeat.text("path", "/heartbeat".to_owned(), &forms::PATH),
        fields: fields(heartbeat),
        statuses: statuses(heartbeat),
        interval: heartbeat.duration("interval_ms", Duration::from_millis(500)),
        timeout: heartbeat.duration("timeout_ms", Duration::from_millis(400)),
    };
    let (timeout, interval) = (config.timeout.as_millis(), config.interval.as_millis());
    heartbeat.rule(timeout < interval, &["timeout_ms", "interval_ms"], || {
        format!("{timeout} is not less than heartbeat.interval_ms ({interval})")
    });
    let missed_max = Limits::default().heartbeat_missed_max;
    (config, heartbeat.number("missed_max", missed_max, 1..=MISSED_MAX))
}

/// What is configured under `host` and `headers`.
fn fields(heartbeat: &mut Reader<'_>) -> HeaderMap {
    let mut fields = HeaderMap::new();
    if let Some(host) = heartbeat.text("host", None, &forms::HOST_FIELD) {
        fields.insert(header::HOST, host);
    }
    let configured: Vec<(HeaderName, String)> =
        heartbeat.pairs("headers", &forms::PROBE_HEADER, &forms::WORD);
    for (name, text) in configured {
        // The text may be a secret, so it is not repeated.
        let value = HeaderValue::from_str(&text).ok().filter(|_| text.trim() == text);
        heartbeat.rule(value.is_some(), &["headers"], || {
            format!(
                "{name}: not the value of a header; use printable ASCII without spaces at its ends"
            )
        });
        let Some(mut value) = value else { continue };
        value.set_sensitive(true);
        let earlier = fields.insert(&name, value);
        heartbeat.rule(earlier.is_none(), &["headers"], || {
            format!("{name}: there more than once; the case of names does not matter")
        });
    }
    fields
}

fn statuses(heartbeat: &mut Reader<'_>) -> Statuses {
    let default = Statuses::default();
    let statuses = Statuses(heartbeat.words("statuses", default.0, &forms::STATUSES));
    heartbeat.rule(!statuses.0.is_empty(), &["statuses"], || {
        "no status; name at least one, such as 200-299".to_owned()
    });
    statuses
}
