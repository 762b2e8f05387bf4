//! The closed sets of reasons that label what is counted.

use std::time::Duration;

use crate::routes::{EjectionCause, NoReplica, Reason};

/// Why a client got no answer of a replica's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No replica served within the hold time.
    NoReplica,
    /// As many requests were held as may be.
    HoldFull,
    /// A replica failed the request and still serves, and as many requests were sent again as may be.
    RetryBudget,
    /// No replica that was tried took the connection.
    Connect,
    /// A replica failed with the request in its hands, and the request may not be sent twice.
    NotRetryable,
    /// Replicas failed with the request in their hands until no attempt, or no other replica, was left.
    RetriesExhausted,
    /// The answer's head could be read in two ways, or not at all.
    BadAnswer,
    /// The answer broke off after its head had gone to the client.
    BrokenAnswer,
    /// The client went away, or took its answer too slowly.
    Client,
}

impl Failure {
    pub(super) const ALL: [Self; 9] = [
        Self::NoReplica,
        Self::HoldFull,
        Self::RetryBudget,
        Self::Connect,
        Self::NotRetryable,
        Self::RetriesExhausted,
        Self::BadAnswer,
        Self::BrokenAnswer,
        Self::Client,
    ];

    /// The label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NoReplica => "no_replica",
            Self::HoldFull => "hold_full",
            Self::RetryBudget => "retry_budget",
            Self::Connect => "connect",
            Self::NotRetryable => "not_retryable",
            Self::RetriesExhausted => "retries_exhausted",
            Self::BadAnswer => "bad_answer",
            Self::BrokenAnswer => "broken_answer",
            Self::Client => "client",
        }
    }
}

impl From<NoReplica> for Failure {
    fn from(reason: NoReplica) -> Self {
        match reason {
            NoReplica::HeldTooLong | NoReplica::PoolGone => Self::NoReplica,
            NoReplica::TooManyHeld => Self::HoldFull,
            NoReplica::RetryBudget => Self::RetryBudget,
            NoReplica::AllFailed => Self::RetriesExhausted,
        }
    }
}

/// Why a request was refused before any replica had it in hand, or for what its client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// Its head is not one of a request, or could be read in two ways.
    BadHead,
    /// So is its body.
    BadBody,
    /// The URI, the head or the number of its fields is above its limit.
    HeadTooLarge,
    BodyTooLarge,
    /// The head did not come in time.
    HeadTimeout,
    /// The body came too slowly.
    BodyTimeout,
    /// The connection ended in the middle of the head.
    HeadUnfinished,
    /// The TLS handshake failed, or did not come to its end in time.
    TlsHandshake,
    /// An HTTP/2 connection carried more resets, or more frames that mean nothing, than it may.
    Http2Flood,
    /// There are as many connections as may be, in all or of this client.
    Connections,
    /// It came back to this balancer too often.
    Loop,
    /// No route matches.
    NoRoute,
    /// The pool has as many requests as it may.
    Overload,
}

impl Rejection {
    pub(super) const ALL: [Self; 13] = [
        Self::BadHead,
        Self::BadBody,
        Self::HeadTooLarge,
        Self::BodyTooLarge,
        Self::HeadTimeout,
        Self::BodyTimeout,
        Self::HeadUnfinished,
        Self::TlsHandshake,
        Self::Http2Flood,
        Self::Connections,
        Self::Loop,
        Self::NoRoute,
        Self::Overload,
    ];

    /// The label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::BadHead => "bad_head",
            Self::BadBody => "bad_body",
            Self::HeadTooLarge => "head_too_large",
            Self::BodyTooLarge => "body_too_large",
            Self::HeadTimeout => "head_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::HeadUnfinished => "head_unfinished",
            Self::TlsHandshake => "tls_handshake",
            Self::Http2Flood => "http2_flood",
            Self::Connections => "connections",
            Self::Loop => "loop",
            Self::NoRoute => "no_route",
            Self::Overload => "overload",
        }
    }
}

/// How a request ended. Each ends in exactly one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// A replica's answer below 500 was passed on.
    Ok,
    /// The balancer answered it itself: an operator asked.
    Operator,
    /// A replica's answer of 500 or above was passed on.
    UpstreamError,
    /// No whole answer of a replica reached the client.
    Failed(Failure),
    Rejected(Rejection),
}

impl Ending {
    pub(super) const COUNT: usize = 3 + Failure::ALL.len() + Rejection::ALL.len();

    /// One of each kind, in the order of [`Self::index`].
    pub(super) fn all() -> impl Iterator<Item = Self> {
        [Self::Ok, Self::Operator, Self::UpstreamError]
            .into_iter()
            .chain(Failure::ALL.map(Self::Failed))
            .chain(Rejection::ALL.map(Self::Rejected))
    }

    pub(super) fn index(self) -> usize {
        match self {
            Self::Ok => 0,
            Self::Operator => 1,
            Self::UpstreamError => 2,
            Self::Failed(failure) => 3 + failure as usize,
            Self::Rejected(rejection) => 3 + Failure::ALL.len() + rejection as usize,
        }
    }

    /// The label `outcome`.
    pub(crate) fn outcome(self) -> &'static str {
        match self {
            Self::Ok | Self::Operator => "ok",
            Self::UpstreamError => "upstream_error",
            Self::Failed(_) => "failed",
            Self::Rejected(_) => "rejected",
        }
    }

    /// The label `reason`.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Ok => "answered",
            Self::Operator => "operator",
            Self::UpstreamError => "answered",
            Self::Failed(failure) => failure.as_str(),
            Self::Rejected(rejection) => rejection.as_str(),
        }
    }
}

/// Why a request was sent to a further replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryCause {
    /// No connection, so nothing was sent.
    Connect,
    /// The connection failed before the answer's head.
    Reset,
}

impl RetryCause {
    pub(super) const ALL: [Self; 2] = [Self::Connect, Self::Reset];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
        }
    }
}

/// One of each kind of reason, in the order that [`selection_index`] gives.
pub(super) const SELECTIONS: [Reason; 6] = [
    Reason::Hash,
    Reason::InTurn,
    Reason::SpillBound,
    Reason::FailoverDown,
    Reason::Retry(2),
    Reason::Held(Duration::ZERO),
];

pub(super) fn selection_index(reason: Reason) -> usize {
    match reason {
        Reason::Hash => 0,
        Reason::InTurn => 1,
        Reason::SpillBound => 2,
        Reason::FailoverDown => 3,
        Reason::Retry(_) => 4,
        Reason::Held(_) => 5,
    }
}

pub(super) const EJECTIONS: [(EjectionCause, &str); 2] =
    [(EjectionCause::Connect, "connect"), (EjectionCause::ServerErrors, "server_errors")];
