//! The plots of the report: a value over time, with what went wrong behind it.

use std::fmt::Write as _;
use std::time::Duration;

use super::world::Event;

/// A picture with one pair of axes.
pub(crate) struct Plot<'a> {
    pub(crate) title: &'a str,
    pub(crate) length: Duration,
    pub(crate) lines: Vec<Line<'a>>,
    pub(crate) events: &'a [Event],
}

/// One value over time.
pub(crate) struct Line<'a> {
    pub(crate) label: &'a str,
    pub(crate) colour: &'static str,
    pub(crate) points: Vec<(Duration, f64)>,
}

impl Plot<'_> {
    /// Draws it as SVG.
    pub(crate) fn draw(&self) -> String {
        let mut body = String::new();
        let top = self.top();
        for event in self.events {
            let left = self.x(event.begin);
            // What lasts no time is a hair line.
            let width = (self.x(event.end) - left).max(0.6);
            let _ = writeln!(
                body,
                "<rect x=\"{left:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{HEIGHT}\" \
                 fill=\"#f3d9d2\"><title>{}</title></rect>",
                event.what
            );
        }
        for step in 0..=4 {
            let value = top * f64::from(step) / 4.0;
            let y = y(value, top);
            let _ = writeln!(
                body,
                "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\" class=\"grid\"/>\n\
                 <text x=\"4\" y=\"{:.1}\">{value:.0}</text>",
                LEFT + WIDTH,
                y + 4.0
            );
        }
        for step in 0..=6 {
            let at = self.length.mul_f64(f64::from(step) / 6.0);
            let _ = writeln!(
                body,
                "<text x=\"{:.1}\" y=\"{:.1}\">{:.1} min</text>",
                self.x(at) - 14.0,
                TOP + HEIGHT + 18.0,
                at.as_secs_f64() / 60.0
            );
        }
        for (number, line) in self.lines.iter().enumerate() {
            let points: Vec<String> = line
                .points
                .iter()
                .map(|(at, value)| format!("{:.1},{:.1}", self.x(*at), y(*value, top)))
                .collect();
            let _ = writeln!(
                body,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\"/>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\" style=\"fill:{}\">{}</text>",
                points.join(" "),
                line.colour,
                LEFT + WIDTH + 12.0,
                TOP + 14.0 + 18.0 * number as f64,
                line.colour,
                line.label
            );
        }
        let (width, height) = (LEFT + WIDTH + LEGEND_WIDTH, TOP + HEIGHT + 30.0);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\">\n<style>text {{ font: 12px sans-serif; fill: \
             #222 }} .grid {{ stroke: #ddd }}</style>\n<rect width=\"100%\" height=\"100%\" \
             fill=\"#fff\"/>\n<text x=\"4\" y=\"20\" font-weight=\"bold\">{}</text>\n{body}</svg>\n",
            self.title
        )
    }

    fn x(&self, at: Duration) -> f64 {
        let share = at.div_duration_f64(self.length.max(Duration::from_millis(1)));
        LEFT + WIDTH * share.min(1.0)
    }

    /// Returns a round number above all values.
    fn top(&self) -> f64 {
        let points = self.lines.iter().flat_map(|line| &line.points);
        let most = points.map(|(_, value)| *value).fold(1.0, f64::max);
        let magnitude = 10_f64.powf(most.log10().floor());
        [1.0, 2.0, 4.0, 6.0, 8.0, 10.0]
            .into_iter()
            .map(|factor| factor * magnitude)
            .find(|top| *top >= most)
            .unwrap_or(most)
    }
}

fn y(value: f64, top: f64) -> f64 {
    TOP + HEIGHT * (1.0 - (value / top).clamp(0.0, 1.0))
}

const LEFT: f64 = 52.0;
const TOP: f64 = 34.0;
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 190.0;
const LEGEND_WIDTH: f64 = 120.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_ends_at_a_round_number_above_all() {
        let plot = |value| Plot {
            title: "",
            length: Duration::from_secs(1),
            lines: vec![Line {
                label: "",
                colour: "",
                points: vec![(Duration::ZERO, value)],
            }],
            events: &[],
        };

        assert_eq!(plot(37.0).top(), 40.0);
        assert_eq!(plot(0.0).top(), 1.0);
        assert_eq!(plot(100.0).top(), 100.0);
    }
}
