//! The end of every request: counted once, and written to the access log if that is on.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use http::{HeaderValue, Method, Uri};
use serde_json::json;

use super::{access_log::AccessLog, context::Remains};
use crate::{
    admin::rfc3339,
    metrics::{Ending, Failure, Rejection, RequestMetrics},
    routes::Pick,
};

/// Where requests are accounted for.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    metrics: RequestMetrics,
    access_log: Option<AccessLog>,
}

/// What the access log says of a request. All but its end is missing for one whose head could not be read.
#[derive(Default)]
pub(super) struct Entry<'a> {
    /// As the trusted proxies between say.
    pub(super) client: Option<IpAddr>,
    /// The connection's other end.
    pub(super) peer: Option<IpAddr>,
    pub(super) method: Option<&'a Method>,
    pub(super) path: Option<&'a str>,
    /// 0 if nothing was answered.
    pub(super) status: u16,
    pub(super) pick: Option<&'a Pick>,
    pub(super) attempts: usize,
    pub(super) request_id: Option<&'a HeaderValue>,
    pub(super) took: Duration,
}

/// What the access log says of a request that Pingora has.
pub(super) struct Head {
    pub(super) client: Option<IpAddr>,
    pub(super) method: Method,
    pub(super) uri: Uri,
}

impl Ledger {
    pub(crate) fn new(metrics: RequestMetrics, access_log: Option<AccessLog>) -> Self {
        Self { metrics, access_log }
    }

    /// A request whose head got no further than the front. All that is known of its client is the connection.
    pub(super) fn refused(&self, rejection: Rejection, status: u16, peer: Option<IpAddr>) {
        self.ended(Ending::Rejected(rejection), || Entry {
            client: peer,
            peer,
            status,
            ..Entry::default()
        });
    }

    /// A request that its client reset before it was answered; `head` is there if there is an access log.
    pub(super) fn cancelled(
        &self,
        head: Option<&Head>,
        remains: Option<&Remains>,
        peer: Option<IpAddr>,
    ) {
        if let Some(pool) = remains.and_then(|it| it.route.as_ref()) {
            pool.metrics.failed(Failure::Client);
        }
        self.ended(Ending::Failed(Failure::Client), || Entry {
            client: head.and_then(|it| it.client),
            peer,
            method: head.map(|it| &it.method),
            path: head.map(|it| it.uri.path()),
            status: 0,
            pick: remains.and_then(|it| it.pick.as_ref()),
            attempts: remains.map_or(0, |it| it.attempts),
            request_id: remains.and_then(|it| it.request_id.as_ref()),
            took: remains.map_or(Duration::ZERO, |it| it.began.elapsed()),
        });
    }

    /// Whether there is an access log.
    pub(super) fn keeps_log(&self) -> bool {
        self.access_log.is_some()
    }

    pub(super) fn ended<'a>(&self, ending: Ending, entry: impl FnOnce() -> Entry<'a>) {
        self.metrics.ended(ending);
        if let Some(log) = &self.access_log {
            log.write(line(ending, &entry()));
        }
    }
}

fn line(ending: Ending, entry: &Entry<'_>) -> Vec<u8> {
    let line = json!({
        "at": rfc3339(SystemTime::now()),
        "client": entry.client,
        "peer": entry.peer,
        "method": entry.method.map(Method::as_str),
        "path": entry.path,
        "status": entry.status,
        "outcome": ending.outcome(),
        "reason": ending.reason(),
        "replica": entry.pick.map(|it| it.lease.name.as_str()),
        "chosen": entry.pick.map(|it| it.reason.to_string()),
        "attempts": entry.attempts,
        "request_id": entry.request_id.and_then(|it| it.to_str().ok()),
        "took_us": entry.took.as_micros() as u64,
    });
    format!("{line}\n").into_bytes()
}
