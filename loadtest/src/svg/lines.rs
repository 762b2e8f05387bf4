//! A line chart with error bars. The x positions are the points' labels at equal distances: sizes that grow by factors
//! stay readable.

use std::fmt;

use super::{BOTTOM, LEFT, PLOT_HEIGHT, Scale, TOP, escaped, figure, frame};

/// Series over the same labels. `Display` writes the SVG document.
pub(crate) struct LineChart {
    pub(crate) title: String,
    /// What the y axis counts.
    pub(crate) axis: String,
    /// Of the x positions.
    pub(crate) labels: Vec<String>,
    pub(crate) series: Vec<Series>,
}

pub(crate) struct Series {
    pub(crate) name: String,
    /// One per label; `None` where there is no figure.
    pub(crate) points: Vec<Option<Point>>,
}

#[derive(Clone, Copy)]
pub(crate) struct Point {
    pub(crate) value: f64,
    /// Half the length of the error bar.
    pub(crate) deviation: f64,
}

const COLOURS: [&str; 8] =
    ["#4878a8", "#c0504d", "#6a9a4c", "#8064a2", "#d98c2b", "#3a9ca6", "#777777", "#b05a8c"];
const PITCH: f64 = 72.0;
const PLOT_WIDTH_MIN: f64 = 432.0;
/// Room for the names of the series.
const RIGHT: f64 = 190.0;
const LEGEND_LINE: f64 = 20.0;
const CAP: f64 = 4.0;

impl fmt::Display for LineChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let points = self.series.iter().flat_map(|it| it.points.iter().flatten());
        let scale = Scale::up_to(points.map(|it| it.value + it.deviation).fold(0.0, f64::max));
        let plot_width = (PITCH * self.labels.len() as f64).max(PLOT_WIDTH_MIN);
        frame(f, (LEFT + plot_width + RIGHT, plot_width), &self.title, &self.axis, &scale)?;
        let x = |index: usize| LEFT + plot_width * (index as f64 + 0.5) / self.labels.len() as f64;
        for (index, label) in self.labels.iter().enumerate() {
            let y = TOP + PLOT_HEIGHT + BOTTOM / 2.0 - 2.0;
            writeln!(
                f,
                r#"<text class="middle" x="{:.1}" y="{y:.1}">{}</text>"#,
                x(index),
                escaped(label)
            )?;
        }
        for (index, (series, colour)) in self.series.iter().zip(COLOURS.iter().cycle()).enumerate()
        {
            series.draw(f, colour, &scale, x)?;
            let (left, y) = (LEFT + plot_width + 12.0, TOP + LEGEND_LINE * index as f64);
            writeln!(
                f,
                r#"<rect x="{left}" y="{:.1}" width="12" height="4" fill="{colour}"/>"#,
                y - 4.0
            )?;
            writeln!(
                f,
                r#"<text x="{}" y="{y:.1}">{}</text>"#,
                left + 18.0,
                escaped(&series.name)
            )?;
        }
        writeln!(f, "</svg>")
    }
}

impl Series {
    fn draw(
        &self,
        f: &mut fmt::Formatter<'_>,
        colour: &str,
        scale: &Scale,
        x: impl Fn(usize) -> f64,
    ) -> fmt::Result {
        let known =
            || self.points.iter().enumerate().filter_map(|(index, it)| Some((x(index), (*it)?)));
        let path: Vec<String> =
            known().map(|(x, it)| format!("{x:.1},{:.1}", scale.y(it.value))).collect();
        writeln!(f, r#"<polyline class="line" stroke="{colour}" points="{}"/>"#, path.join(" "))?;
        for (x, Point { value, deviation }) in known() {
            let y = scale.y(value);
            let text = figure(value);
            writeln!(
                f,
                r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"><title>{}: {text}</title></circle>"#,
                escaped(&self.name)
            )?;
            if deviation > 0.0 {
                let (top, bottom) =
                    (scale.y(value + deviation), scale.y((value - deviation).max(0.0)));
                let (left, right) = (x - CAP, x + CAP);
                writeln!(
                    f,
                    r#"<path class="whisker" stroke="{colour}" d="M{x:.1} {top:.1}V{bottom:.1}M{left:.1} {top:.1}H{right:.1}M{left:.1} {bottom:.1}H{right:.1}"/>"#
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_and_error_bars_are_where_their_values_are() {
        let point = |value, deviation| Some(Point { value, deviation });
        let svg = LineChart {
            title: "t".into(),
            axis: "y".into(),
            labels: vec!["2".into(), "3".into(), "4".into()],
            series: vec![Series {
                name: "a<b".into(),
                points: vec![point(200.0, 100.0), None, point(150.0, 0.0)],
            }],
        }
        .to_string();
        // The axis ends at 300, 280 pixels above y = 336.
        assert!(svg.contains(r#"points="144.0,149.3 432.0,196.0""#), "{svg}");
        assert!(svg.contains("M144.0 56.0V242.7"), "{svg}");
        assert_eq!(svg.matches("class=\"whisker\"").count(), 1, "{svg}");
        assert!(svg.contains("a&lt;b"), "{svg}");
    }
}
