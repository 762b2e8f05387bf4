//! The reasons for which a request fails.

use std::{fmt, str::FromStr};

use anyhow::Context;

/// Why a request got no good answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection could be opened.
    Connect,
    /// The connection ended before the head of an answer.
    Closed,
    /// No complete answer in time.
    Timeout,
    /// An answer other than 200.
    Status(u16),
    /// A 200 whose body broke off, was too long, or was not what the contract says.
    Body,
}

impl Failure {
    /// The status of the answer, if there was one.
    pub(crate) fn status(self) -> Option<u16> {
        match self {
            Self::Status(status) => Some(status),
            Self::Body => Some(200),
            Self::Connect | Self::Closed | Self::Timeout => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("connect"),
            Self::Closed => f.write_str("closed"),
            Self::Timeout => f.write_str("timeout"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Body => f.write_str("body"),
        }
    }
}

impl std::error::Error for Failure {}

impl FromStr for Failure {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let status = || text.strip_prefix("status ")?.parse().ok();
        Ok(match text {
            "connect" => Self::Connect,
            "closed" => Self::Closed,
            "timeout" => Self::Timeout,
            "body" => Self::Body,
            _ => {
                Self::Status(status().with_context(|| {
                    format!("{text:?} is not a reason for which a request fails")
                })?)
            }
        })
    }
}
