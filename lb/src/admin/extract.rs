//! What handlers take out of a request; whatever does not fit is refused in our own shape.

use super::{
    AdminState,
    audit::Note,
    refusal::{Code, Refusal},
};
use axum::{
    body::Body,
    extract::{FromRequestParts, Path, Query},
    http::{HeaderMap, header, request::Parts},
};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::{Deserialize, de::DeserializeOwned};
use std::time::Duration;
use utoipa::{
    IntoParams, ToSchema,
    openapi::{
        ObjectBuilder,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::Type,
    },
};

/// The longest body, in bytes: 990 of the longest names fit.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024;

/// How long it may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The variable segments of the path.
pub(super) struct Segments<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<AdminState> for Segments<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AdminState) -> Result<Self, Refusal> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(segments)) => Ok(Self(segments)),
            Err(rejection) => Err(Refusal::bad_request(rejection.body_text())),
        }
    }
}

/// The parameters behind the `?`.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<AdminState> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AdminState) -> Result<Self, Refusal> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => Err(Refusal::bad_request(rejection.body_text())),
        }
    }
}

/// A replica as clients name it: `NAME` or `NAME:PORT`.
//
// Parsed by the handler, which knows the words for a bad one.
#[derive(Deserialize, ToSchema)]
#[schema(as = Host, pattern = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}(:[1-9][0-9]{0,4})?$")]
pub(super) struct HostText(String);

impl HostText {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// On which terms a change is asked for.
pub(super) struct Terms {
    /// Only plan it.
    pub(super) dry_run: bool,
    /// The version that the caller saw, from `If-Match`.
    pub(super) expected: Option<u64>,
    /// Where the change is written down.
    pub(super) note: Note,
}

/// Unknown parameters are refused: a misspelt `dry_run` must not make the change.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TermParams {
    /// Answer the plan, and change nothing.
    #[serde(default)]
    dry_run: bool,
}

impl FromRequestParts<AdminState> for Terms {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AdminState) -> Result<Self, Refusal> {
        let Params(TermParams { dry_run }) = Params::from_request_parts(parts, state).await?;
        let expected = expected_version(&parts.headers)?;
        Ok(Self { dry_run, expected, note: Note::of(parts) })
    }
}

impl IntoParams for Terms {
    fn into_params(of: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let version =
            ObjectBuilder::new().schema_type(Type::String).pattern(Some(r#"^("[0-9]{1,19}"|\*)$"#));
        let if_match = ParameterBuilder::new()
            .name("If-Match")
            .parameter_in(ParameterIn::Header)
            .description(Some(
                "The version that the pool must still have, as in `ETag`; `*` for any",
            ))
            .schema(Some(version));
        let mut params = TermParams::into_params(of);
        params.push(if_match.build());
        params
    }
}

fn expected_version(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        return Ok(None);
    };
    let version = match value.as_bytes() {
        b"*" => return Ok(None),
        [b'"', digits @ .., b'"'] => str::from_utf8(digits).ok(),
        _ => None,
    };
    match version.and_then(|digits| digits.parse().ok()) {
        Some(version) => Ok(Some(version)),
        None => Err(Refusal::bad_request(
            "If-Match must be a version in double quotes, such as \"17\", or *",
        )),
    }
}

/// The whole body, if it is not longer than [`BODY_BYTES_MAX`] and comes within [`BODY_TIMEOUT`].
pub(super) async fn read(body: Body) -> Result<Bytes, Refusal> {
    let read = Limited::new(body, BODY_BYTES_MAX).collect();
    let Ok(read) = tokio::time::timeout(BODY_TIMEOUT, read).await else {
        let message = format!("the body took longer than {} s", BODY_TIMEOUT.as_secs());
        return Err(Refusal::new(Code::TooSlow, message));
    };
    match read {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::new(
            Code::TooLarge,
            format!("the body is longer than {BODY_BYTES_MAX} bytes"),
        )),
        Err(error) => Err(Refusal::bad_request(format!("the body broke off: {error}"))),
    }
}
