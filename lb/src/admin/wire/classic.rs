//! The two bodies of the classic endpoints.

use crate::supervisor::handle::PoolView;
use ringmaster_fleet::PhaseName;
use serde::Serialize;
use utoipa::ToSchema;

/// Who serves.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct ClassicFleet {
    message: Message,
    /// `successful`.
    status: &'static str,
}

/// The serving replicas.
#[derive(Serialize, ToSchema)]
#[schema(as = ClassicMessage)]
struct Message {
    /// How many there are.
    #[serde(rename = "N")]
    n: usize,
    /// As they were named when they were added, in that order.
    replicas: Vec<String>,
}

impl ClassicFleet {
    pub(in crate::admin) fn of(view: &PoolView) -> Self {
        let serving = view.replicas.iter().filter(|replica| replica.phase == PhaseName::Serving);
        let replicas: Vec<_> = serving.map(|replica| replica.host.to_string()).collect();
        Self { message: Message { n: replicas.len(), replicas }, status: "successful" }
    }
}

/// A fault, as the classic endpoints tell it.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct ClassicError {
    /// One line that begins with `<Error> `.
    message: String,
    /// `failure`.
    status: &'static str,
}

impl ClassicError {
    pub(in crate::admin) fn new(message: &str) -> Self {
        Self { message: format!("<Error> {message}"), status: "failure" }
    }
}
