//! The OpenAPI document: what is the same for every endpoint. The rest stands at each handler.
//!
//! Invariant: a route exists only with its description, as [`OpenApiRouter`] takes both as one.

use super::{
    AdminState,
    refusal::{Code, Dialect},
    wire,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use utoipa::{
    IntoResponses, OpenApi, ToSchema,
    openapi::{
        Content, HeaderBuilder, ObjectBuilder, Ref, RefOr, Required, Response, ResponseBuilder,
        path::{Operation, PathItem},
        schema::Type,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};
use utoipa_axum::router::OpenApiRouter;

/// What every caller may be told before a handler sees the request.
const OF_GUARD: &[Code] = &[Code::Forbidden, Code::LockedOut, Code::Unauthorized];

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Ringmaster",
        description = "Which replicas exist, and which of them a request goes to.\n\n\
            Callers from an address in `admin.trust` need no token. `GET` implies `HEAD`. A path that is not \
            listed is answered 404 `not_found`, a method that is not listed 405 `method_not_allowed`. More fields \
            may be added to answers, none renamed or removed.",
        license(name = "Apache-2.0 OR MIT", identifier = "Apache-2.0 OR MIT"),
    ),
    servers((url = "/", description = "The admin listener; by default http://127.0.0.1:5001")),
    tags(
        (name = "classic", description = "Also served to clients, as far as admin.reserved_paths lists them"),
        (name = "v1", description = "Pools, replicas, and what becomes of keys"),
        (name = "watching", description = "For probes and Prometheus"),
    ),
    security((), ("token" = [])),
    components(schemas(wire::ClassicError, wire::Error, wire::Event, wire::Gap, wire::Reload)),
)]
struct Common;

/// A router that describes what is added to it.
pub(super) fn router() -> OpenApiRouter<AdminState> {
    OpenApiRouter::with_openapi(Common::openapi())
}

/// The document of `router`, as it is served.
pub(super) fn render(router: OpenApiRouter<AdminState>) -> Bytes {
    let mut document = router.into_openapi();
    let token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", token);
    for (path, item) in &mut document.paths.paths {
        for operation in operations(item) {
            if let Some(RefOr::T(body)) = &mut operation.request_body {
                // No body stands for one replica, everywhere.
                body.required = Some(Required::False);
            }
            let open_to_all = operation.security.as_ref().is_some_and(Vec::is_empty);
            if !open_to_all {
                let refusals = refusals(Dialect::of(path), OF_GUARD);
                operation.responses.responses.extend(refusals);
            }
        }
    }
    let json = document.to_json().expect("names are texts and values are finite");
    json.into()
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.delete].into_iter().flatten()
}

/// A response for each status, with the codes that have it.
fn refusals(dialect: Dialect, codes: &[Code]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<String, Vec<Code>> = BTreeMap::new();
    for &code in codes {
        by_status.entry(code.status().as_str().to_owned()).or_default().push(code);
    }
    let refusal = |(status, codes): (String, Vec<Code>)| (status, refusal(dialect, &codes).into());
    by_status.into_iter().map(refusal).collect()
}

fn refusal(dialect: Dialect, codes: &[Code]) -> Response {
    let schema = match dialect {
        Dialect::Classic => wire::ClassicError::name(),
        Dialect::V1 => wire::Error::name(),
    };
    let words: Vec<_> = codes.iter().map(|code| format!("`{}`", code.word())).collect();
    let content = Content::new(Some(Ref::from_schema_name(schema)));
    let mut response = ResponseBuilder::new()
        .description(format!("Refused: {}", words.join(", ")))
        .content("application/json", content);
    let text = || ObjectBuilder::new().schema_type(Type::String).build();
    for (header, of) in [
        ("WWW-Authenticate", Code::Unauthorized),
        ("Retry-After", Code::Busy),
        ("Retry-After", Code::LockedOut),
    ] {
        if codes.contains(&of) {
            response = response.header(header, HeaderBuilder::new().schema(Some(text())).build());
        }
    }
    response.build()
}

/// Why the classic list is not given.
pub(super) struct OfClassicView;

/// Why a classic change is not made.
pub(super) struct OfClassicChange;

/// Why something cannot be said of all pools.
pub(super) struct OfPools;

/// Why something cannot be said of a pool.
pub(super) struct OfPool;

/// Why a key cannot be explained.
pub(super) struct OfExplain;

/// Why a change cannot be planned.
pub(super) struct OfPlan;

/// Why a change is not made.
pub(super) struct OfChange;

/// Why the configuration was not put in place.
pub(super) struct OfReload;

/// Why the balancer was not upgraded.
pub(super) struct OfUpgrade;

/// Why events cannot be followed.
pub(super) struct OfEvents;

macro_rules! refused {
    ($($name:ident: $dialect:ident [$($code:ident),+ $(,)?];)+) => {$(
        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                refusals(Dialect::$dialect, &[$(Code::$code),+])
            }
        }
    )+};
}

refused! {
    OfClassicView: Classic [Busy, Stopped];
    OfClassicChange: Classic [BadRequest, TooSlow, TooLarge, NotStarted, Busy, Stopped];
    OfPools: V1 [Busy, Stopped];
    OfPool: V1 [BadRequest, UnknownPool, Busy, Stopped];
    OfExplain: V1 [BadRequest, NotKeyed, UnknownPool, Busy, Stopped];
    OfPlan: V1 [BadRequest, UnknownPool, UnknownReplica, Busy, Stopped];
    OfChange: V1 [
        BadRequest, UnknownPool, UnknownReplica, TooSlow, FleetChanged, TooLarge, NotStarted, Busy, Stopped,
    ];
    OfReload: V1 [BadConfig, BadRequest, Busy, Stopped];
    OfUpgrade: V1 [BadRequest, Busy, CannotUpgrade, Stopped, TooLarge, TooSlow, UpgradeFailed];
    OfEvents: V1 [BadRequest, Busy];
}
