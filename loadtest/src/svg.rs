//! Charts as SVG.

mod bars;
mod lines;

use std::fmt;

pub(crate) use self::{
    bars::BarChart,
    lines::{LineChart, Point, Series},
};

// All lengths are in pixels. The plot lies between the margins; y grows downwards.
const LEFT: f64 = 72.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 40.0;
const PLOT_HEIGHT: f64 = 280.0;
const TICKS_MAX: f64 = 6.0;

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#333}.title{font-size:16px;font-weight:600}\
    .middle{text-anchor:middle}.end{text-anchor:end}.bar{fill:#4878a8}.grid{stroke:#e4e4e4}\
    .axis{stroke:#333}.mean{stroke:#c0504d;stroke-width:1.5;stroke-dasharray:6 4}\
    .line{fill:none;stroke-width:2}.whisker{stroke-width:1}";

/// The y axis: from 0 to the first tick at or above the highest value.
struct Scale {
    step: f64,
    top: f64,
}

impl Scale {
    fn up_to(max: f64) -> Self {
        let step = tick_step(max);
        Self { step, top: (max / step).ceil().max(1.0) * step }
    }

    fn y(&self, value: f64) -> f64 {
        TOP + PLOT_HEIGHT * (1.0 - value / self.top)
    }
}

/// Everything around the plot: background, title, the name of the y axis, its ticks and grid.
fn frame(
    f: &mut fmt::Formatter<'_>,
    (width, plot_width): (f64, f64),
    title: &str,
    axis: &str,
    scale: &Scale,
) -> fmt::Result {
    let height = TOP + PLOT_HEIGHT + BOTTOM;
    writeln!(
        f,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">"#
    )?;
    writeln!(f, "<style>{STYLE}</style>")?;
    writeln!(f, r##"<rect width="{width}" height="{height}" fill="#fff"/>"##)?;
    writeln!(f, r#"<text class="title" x="{LEFT}" y="24">{}</text>"#, escaped(title))?;
    writeln!(f, r#"<text x="8" y="44">{}</text>"#, escaped(axis))?;
    let ticks = (scale.top / scale.step).round() as u32;
    for tick in 0..=ticks {
        let value = f64::from(tick) * scale.step;
        line(f, if tick == 0 { "axis" } else { "grid" }, plot_width, scale.y(value))?;
        let baseline = scale.y(value) + 4.0;
        let (x, text) = (LEFT - 8.0, figure(value));
        writeln!(f, r#"<text class="end" x="{x}" y="{baseline:.1}">{text}</text>"#)?;
    }
    Ok(())
}

/// A horizontal line across the plot.
fn line(f: &mut fmt::Formatter<'_>, class: &str, plot_width: f64, y: f64) -> fmt::Result {
    let right = LEFT + plot_width;
    writeln!(f, r#"<line class="{class}" x1="{LEFT}" x2="{right}" y1="{y:.1}" y2="{y:.1}"/>"#)
}

/// The smallest of 1, 2, 5, 10, 20, 50, … thousandths with which at most [`TICKS_MAX`] steps reach `max`.
fn tick_step(max: f64) -> f64 {
    let powers = (-3..19).map(|exponent| 10_f64.powi(exponent));
    let mut steps = powers.flat_map(|power| [power, 2.0 * power, 5.0 * power]);
    steps.find(|step| max / step <= TICKS_MAX).unwrap_or(f64::MAX)
}

/// With as many decimals as say something.
fn figure(value: f64) -> String {
    if value.fract() == 0.0 || value >= 1_000.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        let text = format!("{value:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        let cases = [
            (0.0, 0.001),
            (0.3, 0.05),
            (6.0, 1.0),
            (7.0, 2.0),
            (12.0, 2.0),
            (13.0, 5.0),
            (3_400.0, 1_000.0),
            (9_642.0, 2_000.0),
        ];
        for (max, step) in cases {
            assert!((tick_step(max) / step - 1.0).abs() < 1e-9, "max {max}: {}", tick_step(max));
        }
    }

    #[test]
    fn figures_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (300.0, "300"),
            (1.25, "1.25"),
            (0.05, "0.05"),
            (12.34, "12.3"),
            (4321.9, "4322"),
        ] {
            assert_eq!(figure(value), text);
        }
    }
}
