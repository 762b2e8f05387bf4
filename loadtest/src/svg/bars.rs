//! A bar chart.

use std::fmt;

use super::{BOTTOM, LEFT, PLOT_HEIGHT, Scale, TOP, escaped, figure, frame, line};

/// One bar per label. `Display` writes the SVG document.
pub(crate) struct BarChart {
    pub(crate) title: String,
    /// What the bars count.
    pub(crate) axis: String,
    /// Label and height.
    pub(crate) bars: Vec<(String, f64)>,
    /// Whether a line is drawn at the bars' mean.
    pub(crate) mean: bool,
}

const RIGHT: f64 = 96.0; // Room for the label of the mean.
const PLOT_WIDTH_MIN: f64 = 360.0;
/// From one bar to the next, at least.
const PITCH_MIN: f64 = 72.0;
const BAR: f64 = 44.0;
/// Characters that fit under a bar; the whole label is in its tooltip.
const LABEL_CHARS: usize = 10;

impl fmt::Display for BarChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = Scale::up_to(self.bars.iter().map(|&(_, height)| height).fold(0.0, f64::max));
        let bars = self.bars.len() as f64;
        let plot_width = (PITCH_MIN * bars).max(PLOT_WIDTH_MIN);
        frame(f, (LEFT + plot_width + RIGHT, plot_width), &self.title, &self.axis, &scale)?;
        for (index, (label, height)) in self.bars.iter().enumerate() {
            let middle = LEFT + plot_width * (index as f64 + 0.5) / bars;
            bar(f, middle, scale.y(*height), label, *height)?;
        }
        if self.mean && !self.bars.is_empty() {
            let mean = self.bars.iter().map(|&(_, height)| height).sum::<f64>() / bars;
            line(f, "mean", plot_width, scale.y(mean))?;
            let (x, baseline) = (LEFT + plot_width + 6.0, scale.y(mean) + 4.0);
            writeln!(f, r#"<text x="{x}" y="{baseline:.1}">mean {mean:.1}</text>"#)?;
        }
        writeln!(f, "</svg>")
    }
}

/// A bar with its value above, its label below and both in its tooltip.
fn bar(f: &mut fmt::Formatter<'_>, middle: f64, top: f64, label: &str, value: f64) -> fmt::Result {
    let bottom = TOP + PLOT_HEIGHT;
    let (left, height, value) = (middle - BAR / 2.0, bottom - top, figure(value));
    writeln!(
        f,
        r#"<rect class="bar" x="{left:.1}" y="{top:.1}" width="{BAR}" height="{height:.1}"><title>{}: {value}</title></rect>"#,
        escaped(label)
    )?;
    writeln!(f, r#"<text class="middle" x="{middle:.1}" y="{:.1}">{value}</text>"#, top - 6.0)?;
    let (label, y) = (escaped(&shortened(label)), bottom + BOTTOM / 2.0 - 2.0);
    writeln!(f, r#"<text class="middle" x="{middle:.1}" y="{y:.1}">{label}</text>"#)
}

fn shortened(label: &str) -> String {
    if label.chars().count() <= LABEL_CHARS {
        return label.into();
    }
    label.chars().take(LABEL_CHARS - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(bars: &[(&str, f64)]) -> String {
        let bars = bars.iter().map(|&(label, height)| (label.to_owned(), height)).collect();
        BarChart { title: "A <b> & c".into(), axis: "requests".into(), bars, mean: true }
            .to_string()
    }

    #[test]
    fn bars_are_as_high_as_their_values() {
        let svg = chart(&[("S1", 300.0), ("S2", 150.0), ("S3", 0.0)]);
        // The axis ends at 300, so the bars fill all, half and none of 280 pixels above y = 336.
        for (x, y, height) in
            [("110.0", "56.0", "280.0"), ("230.0", "196.0", "140.0"), ("350.0", "336.0", "0.0")]
        {
            let bar = format!(r#"<rect class="bar" x="{x}" y="{y}" width="44" height="{height}">"#);
            assert!(svg.contains(&bar), "no {bar} in {svg}");
        }
        assert!(svg.contains(r#"class="mean" x1="72" x2="432" y1="196.0" y2="196.0""#), "{svg}");
        assert!(svg.contains(">mean 150.0</text>"), "{svg}");
    }

    #[test]
    fn text_is_escaped_and_shortened() {
        let svg = chart(&[("a&b", 1.0), ("abcdefghijk", 1.0)]);
        for part in
            ["A &lt;b&gt; &amp; c", "<title>a&amp;b: 1</title>", "<title>abcdefghijk: 1</title>"]
        {
            assert!(svg.contains(part), "no {part} in {svg}");
        }
        assert!(svg.contains(">abcdefghi…</text>"), "{svg}");
    }

    #[test]
    fn a_chart_without_bars_has_no_mean() {
        let svg = chart(&[]);
        assert!(!svg.contains("class=\"mean\"") && !svg.contains("NaN"), "{svg}");
    }
}
