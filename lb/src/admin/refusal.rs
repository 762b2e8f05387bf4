//! [`Refusal`]: why a request is not served, in either of the two shapes that clients know.
//!
//! A message is one line of bounded length whatever the client sent, as it ends up in logs and terminals.

use super::wire;
use crate::{reload::ReloadError, supervisor::handle::AskError, upgrade::UpgradeError};
use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use ringmaster_fleet::RemoveError;
use serde::Serialize;
use serde_json::Value;
use std::{net::IpAddr, time::Duration};
use utoipa::ToSchema;

/// The longest message, in characters; longer ones quote something long that the client sent.
const MESSAGE_CHARS_MAX: usize = 400;

/// What kind of fault it is; scripts branch on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ErrorCode)]
pub(super) enum Code {
    BadConfig,
    BadRequest,
    Busy,
    CannotUpgrade,
    FleetChanged,
    Forbidden,
    LockedOut,
    MethodNotAllowed,
    NotFound,
    NotKeyed,
    NotStarted,
    Stopped,
    TooLarge,
    TooSlow,
    Unauthorized,
    UnknownPool,
    UnknownReplica,
    UpgradeFailed,
}

impl Code {
    /// As scripts read it.
    pub(super) fn word(self) -> String {
        let word = serde_json::to_value(self).ok();
        word.as_ref().and_then(Value::as_str).expect("a code is a word").to_owned()
    }

    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::BadConfig | Self::BadRequest | Self::NotKeyed => StatusCode::BAD_REQUEST,
            Self::Busy | Self::Stopped => StatusCode::SERVICE_UNAVAILABLE,
            Self::CannotUpgrade | Self::FleetChanged => StatusCode::CONFLICT,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::LockedOut => StatusCode::TOO_MANY_REQUESTS,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotFound | Self::UnknownPool | Self::UnknownReplica => StatusCode::NOT_FOUND,
            Self::NotStarted => StatusCode::INTERNAL_SERVER_ERROR,
            // The balancer is as well as before: it is the other process that failed.
            Self::UpgradeFailed => StatusCode::BAD_GATEWAY,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
        }
    }
}

/// Which shape the clients of a path expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Classic,
    V1,
}

impl Dialect {
    pub(super) fn of(path: &str) -> Self {
        match path {
            "/rep" | "/add" | "/rm" => Self::Classic,
            _ => Self::V1,
        }
    }
}

/// Why a request is not served. As a response it has the v1 shape; [`Refusal::render`] has both.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: Code,
    message: String,
    /// When the same request may be served.
    retry_after_s: Option<u64>,
    /// Everything that is wrong, where that is more than a line.
    faults: Vec<String>,
}

impl Refusal {
    pub(super) fn new(code: Code, message: impl AsRef<str>) -> Self {
        let message = one_line(message.as_ref());
        let retry_after_s = (code == Code::Busy).then_some(1);
        Self { code, message, retry_after_s, faults: Vec::new() }
    }

    pub(super) fn locked_out(addr: IpAddr, wait: Duration) -> Self {
        let wait = wait.as_secs() + 1;
        let message = format!("{addr} presented too many bad tokens: try again in {wait} s");
        Self { retry_after_s: Some(wait), ..Self::new(Code::LockedOut, message) }
    }

    pub(super) fn bad_request(message: impl AsRef<str>) -> Self {
        Self::new(Code::BadRequest, message)
    }

    pub(super) fn render(self, dialect: Dialect) -> Response {
        let Self { code, message, retry_after_s, faults } = self;
        let body = match dialect {
            Dialect::Classic => Json(wire::ClassicError::new(&message)).into_response(),
            Dialect::V1 => Json(wire::Error::new(code, &message, &faults)).into_response(),
        };
        let mut response = (code.status(), body).into_response();
        let headers = response.headers_mut();
        if code == Code::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.render(Dialect::V1)
    }
}

impl From<AskError> for Refusal {
    fn from(error: AskError) -> Self {
        let code = match &error {
            AskError::Remove(RemoveError::Unknown(_)) | AskError::UnknownReplica(_) => {
                Code::UnknownReplica
            }
            AskError::Add(_) | AskError::Remove(_) | AskError::Table(_) | AskError::Refused(_) => {
                Code::BadRequest
            }
            AskError::UnknownPool(_) => Code::UnknownPool,
            AskError::VersionChanged { .. } => Code::FleetChanged,
            AskError::NotStarted(_) => Code::NotStarted,
            AskError::Busy
            | AskError::Emptying(_)
            | AskError::NotBegun(_)
            | AskError::NotAgreed(_)
            | AskError::TakenOver(_)
            | AskError::Upgrading => Code::Busy,
            AskError::Unsettled(_) => Code::CannotUpgrade,
            AskError::Stopped => Code::Stopped,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ReloadError> for Refusal {
    fn from(error: ReloadError) -> Self {
        let faults = match error {
            ReloadError::Config(error) => error.faults(),
            ReloadError::Access(error) => vec![error.to_string()],
            ReloadError::Tls(error) => vec![error.to_string()],
            ReloadError::NoFile => return Self::new(Code::BadConfig, error.to_string()),
            ReloadError::Supervisor(error) => return error.into(),
        };
        let first = faults.first().map(String::as_str).unwrap_or_default();
        let message = match faults.len() {
            0 | 1 => format!("nothing was changed: {first}"),
            n => format!("nothing was changed, for {n} faults; the first: {first}"),
        };
        let faults = faults.iter().map(|it| one_line(it)).collect();
        Self { faults, ..Self::new(Code::BadConfig, message) }
    }
}

impl From<UpgradeError> for Refusal {
    fn from(error: UpgradeError) -> Self {
        let code = match error {
            UpgradeError::Supervisor(error) => return error.into(),
            UpgradeError::UnderWay | UpgradeError::ProcessOne => Code::CannotUpgrade,
            UpgradeError::Closing => Code::Stopped,
            UpgradeError::Program(_) => Code::BadRequest,
            UpgradeError::Failed { .. } => Code::UpgradeFailed,
        };
        Self::new(code, error.to_string())
    }
}

pub(super) fn one_line(text: &str) -> String {
    let mut line: String = text
        .chars()
        .take(MESSAGE_CHARS_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(MESSAGE_CHARS_MAX).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_of_bounded_length() {
        let refusal = Refusal::bad_request("a\r\nb\u{1b}[31m");
        assert_eq!(refusal.message, "a  b [31m");
        let refusal = Refusal::bad_request("é".repeat(1 << 20));
        assert_eq!(refusal.message.chars().count(), MESSAGE_CHARS_MAX + 1);
        let refusal = Refusal::bad_request("é".repeat(MESSAGE_CHARS_MAX));
        assert!(refusal.message.ends_with('é'));
    }
}
