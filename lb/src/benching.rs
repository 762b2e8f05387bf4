//! What `lb/benches` measures alone.

use std::time::Duration;

use crate::{
    metrics::{Ending, Metrics},
    routes::Reason,
};

/// Counts one answered request, as often as it is called.
///
/// # Errors
///
/// If the metrics cannot be registered.
pub fn counter_of_requests() -> anyhow::Result<impl Fn(u16, Duration)> {
    let metrics = Metrics::new()?;
    let (requests, pool) = (metrics.requests(), metrics.pool("default"));
    let replica = metrics.replica("default", "Server1");
    Ok(move |status, took| {
        pool.selected(Reason::Hash);
        replica.answered(status, took);
        requests.ended(Ending::Ok);
    })
}
