//! [`Payload`]: what the body of `/add` or `/rm` asks for, in each of the forms that clients send.
//!
//! No body; `{"n":4,"hostnames":["S5"]}`, where both fields may be missing; `{"n":1,"specific":"S1"}` on
//! `/rm`; the form `server_id=S1`. The content type does not decide: clients send JSON without one, and
//! curl's `-d` calls everything a form. A missing `n` counts the names, and is at least 1.

use super::super::{extract::HostText, refusal::Refusal};
use ringmaster_fleet::{Host, NameError};
use serde::Deserialize;
use serde_json::Value;
use std::fmt;
use utoipa::ToSchema;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Payload {
    /// At least 1.
    pub(super) n: usize,
    pub(super) hosts: Vec<Host>,
}

/// Which endpoint the body was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    Remove,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "added",
            Self::Remove => "removed",
        })
    }
}

/// Why a body asks for nothing that can be done.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PayloadError {
    #[error("Invalid payload format: {0}")]
    Format(String),
    #[error("Invalid number of servers to be {verb}: {n}")]
    Number { verb: Verb, n: i64 },
    #[error(transparent)]
    Name(#[from] NameError),
}

impl From<PayloadError> for super::Failure {
    fn from(error: PayloadError) -> Self {
        Self(Refusal::bad_request(error.to_string()))
    }
}

/// How many replicas, and which. A missing `n` counts the names, and is at least 1; so no body means one replica.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ClassicPayload)]
pub(super) struct RawPayload {
    // A `Value`, so that a wrong type can be named in words that do not presume Rust.
    #[schema(value_type = Option<usize>, minimum = 1)]
    n: Option<Value>,
    hostnames: Option<Vec<HostText>>,
    /// One more name, only for `/rm`.
    specific: Option<HostText>,
}

/// One replica: this one, or with an empty body any.
#[derive(ToSchema)]
#[schema(as = ClassicForm)]
pub(super) struct Form {
    #[schema(required = false)]
    server_id: HostText,
}

impl Payload {
    /// Reads a body that was sent to the endpoint of `verb`.
    pub(super) fn parse(verb: Verb, body: &[u8]) -> Result<Self, PayloadError> {
        let body = body.trim_ascii();
        let RawPayload { n, hostnames, specific } = match body.first() {
            None => RawPayload::default(),
            Some(b'{') => serde_json::from_slice(body).map_err(PayloadError::format)?,
            Some(_) => Form::parse(body)?.into(),
        };
        if verb == Verb::Add && specific.is_some() {
            return Err(PayloadError::format("\"specific\" is for /rm only"));
        }
        let n = n.as_ref().map(|n| number(verb, n)).transpose()?;
        let names = hostnames.unwrap_or_default().into_iter().chain(specific);
        let hosts: Vec<Host> =
            names.map(|name| name.as_str().parse()).collect::<Result<_, NameError>>()?;
        let n = n.unwrap_or(hosts.len().max(1));
        Ok(Self { n, hosts })
    }
}

impl PayloadError {
    /// A reason may quote what was sent; it is one line all the same.
    fn format(reason: impl ToString) -> Self {
        Self::Format(reason.to_string().replace(char::is_control, " "))
    }
}

fn number(verb: Verb, n: &Value) -> Result<usize, PayloadError> {
    let n = n.as_i64().ok_or_else(|| {
        let rule = "a whole number of at most 18 digits, without point or exponent";
        PayloadError::format(format!("\"n\" must be {rule}, not {n}"))
    })?;
    match usize::try_from(n) {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(PayloadError::Number { verb, n }),
    }
}

impl Form {
    fn parse(body: &[u8]) -> Result<Self, PayloadError> {
        let name = str::from_utf8(body)
            .ok()
            .and_then(|body| body.strip_prefix("server_id="))
            .ok_or_else(|| PayloadError::format("a JSON object or server_id=NAME is expected"))?;
        // The colon before a port is the only character of a host that forms must escape.
        Ok(Self { server_id: HostText::new(name.replace("%3A", ":").replace("%3a", ":")) })
    }
}

impl From<Form> for RawPayload {
    fn from(form: Form) -> Self {
        Self { hostnames: Some(vec![form.server_id]), ..Self::default() }
    }
}

#[cfg(test)]
mod tests;
