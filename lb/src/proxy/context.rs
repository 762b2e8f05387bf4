//! What one request has learnt so far, and how it ends.

use std::{net::IpAddr, sync::Arc, time::Instant};

use http::HeaderValue;
use pingora::{Error, ErrorType, Result};

use super::{Settings, framing::Fault, guard::Link};
use crate::{
    metrics::{Ending, Failure, Rejection, RetryCause},
    routes::{Admitted, Pick, Tried},
};

pub(super) const NO_ROUTE: Fault = Fault::new(404, Rejection::NoRoute, "no route");
pub(super) const OVERLOAD: Fault =
    Fault::new(503, Rejection::Overload, "Too many requests at once");

/// What a request has learnt so far.
pub(crate) struct RequestCtx {
    pub(super) settings: Arc<Settings>,
    pub(super) began: Instant,
    /// The connection's other end.
    pub(super) peer: Option<IpAddr>,
    /// Its pool, and what it is placed by.
    pub(super) route: Option<(Admitted, u64)>,
    pub(super) tried: Tried,
    /// The replica in charge; dropping it gives the lease back.
    pub(super) pick: Option<Pick>,
    pub(super) request_id: Option<HeaderValue>,
    /// What a replica, or the lack of one, has done to it so far.
    pub(super) failure: Option<Failure>,
    /// Whether that was silence.
    pub(super) has_timed_out: bool,
    /// Why it is refused.
    pub(super) fault: Option<Fault>,
    pub(super) link: Arc<Link>,
}

impl RequestCtx {
    pub(super) fn begin(settings: Arc<Settings>) -> Self {
        Self {
            settings,
            began: Instant::now(),
            peer: None,
            route: None,
            tried: Tried::default(),
            pick: None,
            request_id: None,
            failure: None,
            has_timed_out: false,
            fault: None,
            link: Link::current(),
        }
    }

    /// What there is to account for when it is dropped before its end.
    fn remains(&mut self) -> Remains {
        Remains {
            began: self.began,
            route: self.route.take().map(|(pool, _)| pool),
            pick: self.pick.take(),
            attempts: self.tried.attempts(),
            request_id: self.request_id.take(),
        }
    }

    pub(super) fn attempts_left(&self) -> bool {
        self.route
            .as_ref()
            .is_some_and(|(pool, _)| self.tried.is_another_allowed(pool.upstream.attempts_max))
    }

    pub(super) fn retried(&self, cause: RetryCause) {
        if let Some((pool, _)) = &self.route {
            pool.metrics.retried(cause);
        }
    }

    /// Gives it up for what its client, or too many of them, did.
    pub(super) fn refuse<T>(&mut self, fault: Fault) -> Result<T> {
        self.fault = Some(fault);
        Error::e_explain(ErrorType::HTTPStatus(fault.status), fault.message)
    }

    /// How it ended, after an answer with `status`, or in an error.
    pub(super) fn ending(&self, status: u16, is_error: bool) -> Ending {
        match (self.fault, is_error, &self.pick) {
            (Some(fault), ..) => Ending::Rejected(fault.rejection),
            (None, true, _) => Ending::Failed(self.failure.unwrap_or(Failure::Client)),
            (None, false, Some(_)) if status >= 500 => Ending::UpstreamError,
            (None, false, Some(_)) => Ending::Ok,
            (None, false, None) => Ending::Operator,
        }
    }
}

/// Only a request that is cancelled is dropped before [`logging`](pingora::proxy::ProxyHttp::logging) has accounted for it.
impl Drop for RequestCtx {
    fn drop(&mut self) {
        if self.link.is_cancelled() {
            let remains = self.remains();
            self.link.leave(remains);
        }
    }
}

/// What is left of a request that was dropped before its end.
#[derive(Debug)]
pub(super) struct Remains {
    pub(super) began: Instant,
    pub(super) route: Option<Admitted>,
    pub(super) pick: Option<Pick>,
    pub(super) attempts: usize,
    pub(super) request_id: Option<HeaderValue>,
}
