//! What the tables say, in words, a table and a chart.

use anyhow::ensure;
use serde::{Deserialize, Serialize};

use super::{Experiment, sample::Sample};
use crate::{
    chaos::{Outcome, Row},
    drive::Posts,
    manifest::Manifest,
    report::{circumstances, table},
    request::Request,
    served::Served,
    svg::{LineChart, Point, Series},
};

/// More growth than this, from the second quarter of the time to the last, is growth.
const GROWTH_MAX: f64 = 0.1;

/// Points of the chart.
const POINTS: usize = 15;

type Measure = (&'static str, fn(&Sample) -> f64);

const MEASURES: [Measure; 5] = [
    ("memory, MiB", |it| it.rss_kib as f64 / 1024.0),
    ("file descriptors", |it| it.descriptors as f64),
    ("threads", |it| it.threads as f64),
    ("child processes", |it| it.children as f64),
    ("metric series", |it| it.series as f64),
];

/// What the soak found.
#[derive(Serialize, Deserialize)]
pub(super) struct Summary {
    seconds: u64,
    growths: Vec<Growth>,
    requests: Outcome,
}

/// How one measure went.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Growth {
    what: String,
    first: f64,
    last: f64,
    max: f64,
    /// The means of the second quarter of the time, and of the last.
    early: f64,
    late: f64,
    /// Of the line that fits best, from the second quarter on.
    per_hour: f64,
}

impl Summary {
    pub(super) fn of(
        churn: Row,
        requests: &[Request],
        posts: Posts,
        served: &Served,
        samples: &[Sample],
    ) -> anyhow::Result<Self> {
        ensure!(samples.len() >= 4, "{} samples are too few for quarters", samples.len());
        Ok(Self {
            seconds: samples.last().map_or(0, |it| it.at_s),
            growths: MEASURES.map(|it| Growth::of(it, samples)).into(),
            requests: Outcome::of(churn, requests, posts, served),
        })
    }

    pub(super) fn kept(&self) -> bool {
        self.requests.kept() && self.growths.iter().all(Growth::is_flat)
    }
}

impl Growth {
    /// Of at least four samples.
    fn of((what, measure): Measure, samples: &[Sample]) -> Self {
        let values: Vec<f64> = samples.iter().map(measure).collect();
        let quarter = values.len() / 4;
        Self {
            what: what.into(),
            first: values[0],
            last: values[values.len() - 1],
            max: values.iter().copied().fold(0.0, f64::max),
            early: mean(&values[quarter..2 * quarter]),
            late: mean(&values[values.len() - quarter..]),
            per_hour: 3_600.0 * slope(&samples[quarter..], measure),
        }
    }

    fn is_flat(&self) -> bool {
        self.late <= self.early * (1.0 + GROWTH_MAX)
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// By least squares, a second.
fn slope(samples: &[Sample], measure: fn(&Sample) -> f64) -> f64 {
    let times: Vec<f64> = samples.iter().map(|it| it.at_s as f64).collect();
    let values: Vec<f64> = samples.iter().map(measure).collect();
    let (time, value) = (mean(&times), mean(&values));
    let both: f64 = times.iter().zip(&values).map(|(t, v)| (t - time) * (v - value)).sum();
    let squares: f64 = times.iter().map(|t| (t - time).powi(2)).sum();
    if squares > 0.0 { both / squares } else { 0.0 }
}

pub(super) fn text(summary: &Summary) -> String {
    let mut text = requests(summary);
    for it in &summary.growths {
        let flat = if it.is_flat() { "" } else { "  GROWS" };
        text += &format!(
            "  {}: {:.1} at first, {:.1} early, {:.1} late, {:.1} at last, {:.1} at most, {:+.2} an hour{flat}\n",
            it.what, it.first, it.early, it.late, it.last, it.max, it.per_hour
        );
    }
    text
}

pub(super) fn markdown(manifest: &Manifest<Experiment>, summary: &Summary, chart: &str) -> String {
    let plan = &manifest.plan;
    let mut text = format!(
        "# {}\n\n{}\n{} requests a second over {} connections. {}\n",
        plan.title,
        circumstances(manifest),
        plan.rate,
        plan.connections,
        requests(summary)
    );
    text += "Early and late are the means of the second quarter of the time and of the last.\n\n";
    text += &table(
        &["balancer", "first", "early", "late", "last", "most", "change an hour"],
        summary.growths.iter().map(|it| {
            let one = |value: f64| format!("{value:.1}");
            let figures = [it.first, it.early, it.late, it.last, it.max].map(one);
            let mut row = vec![it.what.clone()];
            row.extend(figures);
            row.push(format!("{:+.2}", it.per_hour));
            row
        }),
    );
    text + &format!("\n![growth]({chart})\n")
}

fn requests(summary: &Summary) -> String {
    let Summary { seconds, requests: it, .. } = summary;
    format!(
        "{} requests in {:.1} minutes, during {} changes of the fleet: {} GETs failed, {} of {} POSTs failed, {} POSTs \
         were served twice, {} retries, longest time without an answer {:.0} ms.{}\n",
        it.sent(),
        *seconds as f64 / 60.0,
        it.times,
        it.gets.failures(),
        it.posts.failures(),
        it.posts.sent,
        it.posts_twice,
        it.account.counts.retried.total(),
        it.gap_ms(),
        it.disagreement().map(|it| format!(" WRONG SUMS: {it}.")).unwrap_or_default()
    )
}

/// Every measure in percent of its mean over the whole time, so that all fit one chart.
pub(super) fn chart(samples: &[Sample]) -> LineChart {
    let parts: Vec<&[Sample]> = samples.chunks(samples.len().div_ceil(POINTS).max(1)).collect();
    let series = MEASURES.map(|(name, measure)| {
        let over = |samples: &[Sample]| mean(&samples.iter().map(measure).collect::<Vec<_>>());
        let whole = over(samples);
        let point = |part: &&[Sample]| {
            (whole > 0.0).then(|| Point { value: 100.0 * over(part) / whole, deviation: 0.0 })
        };
        Series { name: name.into(), points: parts.iter().map(point).collect() }
    });
    let minutes = |part: &&[Sample]| format!("{:.0} min", part[0].at_s as f64 / 60.0);
    LineChart {
        title: "What the balancer takes, over time".into(),
        axis: "% of the mean".into(),
        labels: parts.iter().map(minutes).collect(),
        series: series.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(series: impl Fn(u64) -> u64) -> Vec<Sample> {
        let sample = |at_s| Sample {
            at_s,
            rss_kib: 1024,
            descriptors: 10,
            threads: 4,
            children: 3,
            series: series(at_s),
        };
        (0..40).map(|it| sample(it * 10)).collect()
    }

    #[test]
    fn what_grows_is_found_and_what_starts_up_is_not() {
        let growth = |series: fn(u64) -> u64| Growth::of(MEASURES[4], &samples(series));
        let flat = growth(|_| 100);
        assert!(flat.is_flat() && flat.per_hour.abs() < 1e-9, "{flat:?}");
        let warm = growth(|at| if at < 100 { at } else { 100 });
        assert!(warm.is_flat(), "{warm:?}");
        let leak = growth(|at| 100 + at);
        assert!(!leak.is_flat() && (leak.per_hour - 3_600.0).abs() < 1e-6, "{leak:?}");
        assert_eq!((leak.first, leak.last, leak.max), (100.0, 490.0, 490.0));
    }

    #[test]
    fn the_chart_has_few_points() {
        assert_eq!(chart(&samples(|_| 7)).labels.len(), 14);
    }
}
