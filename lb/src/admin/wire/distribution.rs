//! How even the slots of a pool are, and how even its requests were.

use super::replica::places;
use crate::supervisor::handle::PoolView;
use serde::Serialize;
use utoipa::ToSchema;

/// The members of a pool's table, with the two usual figures of evenness over their slots; these are `null`
/// where the algorithm has no slots, or the pool no members.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct Distribution<'a> {
    algorithm: &'static str,
    /// Of the whole table.
    slots: usize,
    /// Of the slots per replica.
    #[schema(required)]
    max_over_mean: Option<f64>,
    /// Of the slots per replica: the standard deviation over the mean.
    #[schema(required)]
    coefficient_of_variation: Option<f64>,
    replicas: Vec<Part<'a>>,
}

/// What one replica has of a pool.
#[derive(Serialize, ToSchema)]
struct Part<'a> {
    name: &'a str,
    slots: usize,
    /// Of the key space, from 0 to 1.
    share: f64,
    /// Answered since the start of the balancer.
    requests: u64,
}

impl<'a> Distribution<'a> {
    pub(in crate::admin) fn of(view: &'a PoolView) -> Self {
        let places = places(&view.table);
        let replicas: Vec<_> = view
            .replicas
            .iter()
            .filter_map(|replica| {
                let name = &replica.host.name;
                let held = places.get(name)?;
                Some(Part {
                    name: name.as_str(),
                    slots: held.slots,
                    share: held.share,
                    requests: replica.requests,
                })
            })
            .collect();
        let slots: Vec<f64> = replicas.iter().map(|part| part.slots as f64).collect();
        let evenness = Evenness::of(&slots);
        Self {
            algorithm: view.table.algorithm().name(),
            slots: view.table.slots(),
            max_over_mean: evenness.as_ref().map(|figures| figures.max_over_mean),
            coefficient_of_variation: evenness.map(|figures| figures.coefficient_of_variation),
            replicas,
        }
    }
}

pub(super) struct Evenness {
    pub(super) max_over_mean: f64,
    pub(super) coefficient_of_variation: f64,
}

impl Evenness {
    pub(super) fn of(counts: &[f64]) -> Option<Self> {
        let n = counts.len() as f64;
        let mean = counts.iter().sum::<f64>() / n;
        if counts.is_empty() || mean == 0.0 {
            return None;
        }
        let variance = counts.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let max = counts.iter().copied().fold(0.0, f64::max);
        Some(Self { max_over_mean: max / mean, coefficient_of_variation: variance.sqrt() / mean })
    }
}
