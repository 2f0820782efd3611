//! Charts over time as SVG, two in a row.

use std::fmt::Write as _;

/// All charts of a dashboard.
pub(crate) struct Picture {
    pub(crate) title: String,
    pub(crate) from: f64,
    pub(crate) until: f64,
    pub(crate) charts: Vec<Chart>,
    /// What went wrong, behind the lines.
    pub(crate) spans: Vec<Span>,
    /// Switches, across the lines.
    pub(crate) marks: Vec<(f64, String)>,
}

/// One chart.
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) unit: String,
    /// Rows of bars where a value is 1.
    pub(crate) is_state: bool,
    pub(crate) lines: Vec<Line>,
}

/// One value over time, in seconds since 1970.
pub(crate) struct Line {
    pub(crate) label: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Something that lasted.
#[derive(Clone)]
pub(crate) struct Span {
    pub(crate) begin: f64,
    pub(crate) end: f64,
    pub(crate) what: String,
}

impl Picture {
    /// Draws it.
    pub(crate) fn draw(&self) -> String {
        let n_rows = self.charts.len().div_ceil(N_COLUMNS);
        let (width, height) = (
            N_COLUMNS as f64 * CELL_WIDTH + MARGIN,
            HEAD + n_rows as f64 * CELL_HEIGHT + MARGIN,
        );
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\">\n<style>text {{ font: 11px \'DejaVu Sans\', \
             sans-serif; fill: #333 }} .title {{ font-weight: bold }} .small {{ font-size: 9px; \
             fill: #a0462f }} .grid {{ stroke: #e4e4e4 }} .mark {{ stroke: #e08a00; \
             stroke-dasharray: 3 2 }}</style>\n<rect width=\"100%\" height=\"100%\" \
             fill=\"#fff\"/>\n"
        );
        text(&mut svg, MARGIN, 22.0, "title", &self.title);
        for (number, chart) in self.charts.iter().enumerate() {
            let left = MARGIN + (number % N_COLUMNS) as f64 * CELL_WIDTH;
            let top = HEAD + (number / N_COLUMNS) as f64 * CELL_HEIGHT;
            let frame = Frame {
                picture: self,
                left: left + AXIS,
                top: top + 20.0,
            };
            text(&mut svg, left, top + 12.0, "title", &chart.title);
            frame.draw_background(&mut svg);
            match chart.is_state {
                true => frame.draw_states(&mut svg, chart),
                false => frame.draw_lines(&mut svg, chart),
            }
            frame.draw_marks(&mut svg);
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// Where a chart is.
struct Frame<'a> {
    picture: &'a Picture,
    left: f64,
    top: f64,
}

impl Frame<'_> {
    fn x(&self, at: f64) -> f64 {
        let length = (self.picture.until - self.picture.from).max(1.0);
        self.left + WIDTH * ((at - self.picture.from) / length).clamp(0.0, 1.0)
    }

    fn draw_background(&self, svg: &mut String) {
        for span in &self.picture.spans {
            let (begin, end) = (self.x(span.begin), self.x(span.end));
            let _ = writeln!(
                svg,
                "<rect x=\"{begin:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{HEIGHT}\" \
                 fill=\"#f9e6e1\"/>",
                self.top,
                end - begin
            );
            text(svg, begin + 2.0, self.top + 10.0, "small", &span.what);
        }
        let length = self.picture.until - self.picture.from;
        for step in 0..=4 {
            let seconds = length * f64::from(step) / 4.0;
            let x = self.left + WIDTH * f64::from(step) / 4.0;
            let label = format!("{seconds:.0} s");
            text(svg, x - 10.0, self.top + HEIGHT + 14.0, "axis", &label);
        }
    }

    fn draw_marks(&self, svg: &mut String) {
        let within = self.picture.from..=self.picture.until;
        for (at, what) in &self.picture.marks {
            if within.contains(at) {
                let x = self.x(*at);
                let _ = writeln!(
                    svg,
                    "<line x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{:.1}\" \
                     class=\"mark\"><title>{}</title></line>",
                    self.top,
                    self.top + HEIGHT,
                    escaped(what)
                );
            }
        }
    }

    fn draw_lines(&self, svg: &mut String, chart: &Chart) {
        let all = chart.lines.iter().flat_map(|line| &line.points);
        let most = all
            .map(|(_, value)| *value)
            .filter(|value| value.is_finite());
        let top = round_above(most.fold(0.0, f64::max));
        for step in 0..=4 {
            let value = top * f64::from(step) / 4.0;
            let y = self.y(value, top);
            let _ = writeln!(
                svg,
                "<line x1=\"{:.1}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\" class=\"grid\"/>",
                self.left,
                self.left + WIDTH
            );
            let label = with_unit(value, &chart.unit);
            text(svg, self.left - AXIS, y + 4.0, "axis", &label);
        }
        let step = self.picture.gap();
        for (number, line) in chart.lines.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            // Where nothing was scraped, or nothing could be said, the line is interrupted.
            let is_whole = |pair: &[(f64, f64)]| {
                pair[1].0 - pair[0].0 <= step && pair.iter().all(|(_, value)| value.is_finite())
            };
            let mut path = String::new();
            let mut is_drawing = false;
            for pair in line.points.windows(2) {
                if !is_whole(pair) {
                    is_drawing = false;
                    continue;
                }
                if !is_drawing {
                    let (x, y) = (self.x(pair[0].0), self.y(pair[0].1, top));
                    let _ = write!(path, "M{x:.1} {y:.1}");
                    is_drawing = true;
                }
                let (x, y) = (self.x(pair[1].0), self.y(pair[1].1, top));
                let _ = write!(path, "L{x:.1} {y:.1}");
            }
            let _ = writeln!(
                svg,
                "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.4\"/>"
            );
        }
        self.draw_legend(svg, chart);
    }

    fn draw_legend(&self, svg: &mut String, chart: &Chart) {
        for (number, line) in chart.lines.iter().take(MAX_LEGENDS).enumerate() {
            let x = self.left + (number % LEGEND_COLUMNS) as f64 * WIDTH / LEGEND_COLUMNS as f64;
            let y = self.top + HEIGHT + 30.0 + (number / LEGEND_COLUMNS) as f64 * 14.0;
            let colour = COLOURS[number % COLOURS.len()];
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"10\" height=\"3\" fill=\"{colour}\"/>",
                y - 5.0
            );
            text(svg, x + 14.0, y, "axis", &line.label);
        }
    }

    fn draw_states(&self, svg: &mut String, chart: &Chart) {
        let row = HEIGHT / chart.lines.len().max(1) as f64;
        let step = self.picture.gap();
        for (number, line) in chart.lines.iter().enumerate() {
            let y = self.top + number as f64 * row;
            text(
                svg,
                self.left - AXIS,
                y + row / 2.0 + 4.0,
                "axis",
                &line.label,
            );
            let colour = COLOURS[number % COLOURS.len()];
            for pair in line.points.windows(2) {
                if pair[0].1 == 1.0 && pair[1].0 - pair[0].0 <= step {
                    let (begin, end) = (self.x(pair[0].0), self.x(pair[1].0));
                    let _ = writeln!(
                        svg,
                        "<rect x=\"{begin:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" \
                         fill=\"{colour}\"/>",
                        y + 3.0,
                        end - begin + 0.3,
                        row - 6.0
                    );
                }
            }
        }
    }

    fn y(&self, value: f64, top: f64) -> f64 {
        self.top + HEIGHT * (1.0 - (value / top).clamp(0.0, 1.0))
    }
}

impl Picture {
    /// Points further apart than this have a gap between them.
    fn gap(&self) -> f64 {
        let charts = self.charts.iter().flat_map(|chart| &chart.lines);
        let steps =
            charts.flat_map(|line| line.points.windows(2).map(|pair| pair[1].0 - pair[0].0));
        steps.fold(f64::INFINITY, f64::min) * 1.5
    }
}

fn round_above(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let magnitude = 10_f64.powf(value.log10().floor());
    let factors = [1.0, 2.0, 4.0, 6.0, 8.0, 10.0];
    let tops = factors.map(|factor| factor * magnitude);
    tops.into_iter().find(|top| *top >= value).unwrap_or(value)
}

fn with_unit(value: f64, unit: &str) -> String {
    let scaled = |units: [&str; 4]| {
        let mut value = value;
        let mut at = 0;
        while value >= 1000.0 && at + 1 < units.len() {
            value /= 1000.0;
            at += 1;
        }
        format!("{} {}", short(value), units[at])
    };
    match unit {
        "percentunit" => format!("{} %", short(value * 100.0)),
        "s" if value < 1.0 => format!("{} ms", short(value * 1e3)),
        "s" => format!("{} s", short(value)),
        "bytes" => scaled(["B", "kB", "MB", "GB"]),
        "Bps" => scaled(["B/s", "kB/s", "MB/s", "GB/s"]),
        "ops" | "pps" => format!("{}/s", short(value)),
        _ => short(value),
    }
}

/// At most three digits that count.
fn short(value: f64) -> String {
    if value == 0.0 || value >= 100.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

fn text(svg: &mut String, x: f64, y: f64, class: &str, text: &str) {
    let text = escaped(text);
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{text}</text>"
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

const N_COLUMNS: usize = 2;
const LEGEND_COLUMNS: usize = 2;
const MAX_LEGENDS: usize = 8;
const HEAD: f64 = 36.0;
const MARGIN: f64 = 16.0;
const AXIS: f64 = 74.0;
const WIDTH: f64 = 470.0;
const HEIGHT: f64 = 130.0;
const CELL_WIDTH: f64 = AXIS + WIDTH + 24.0;
const CELL_HEIGHT: f64 = 20.0 + HEIGHT + 92.0;
const COLOURS: [&str; 8] = [
    "#1f77b4", "#d95f02", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#7f7f7f",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_have_their_unit() {
        assert_eq!(with_unit(0.25, "s"), "250 ms");
        assert_eq!(with_unit(1_500_000.0, "Bps"), "1.50 MB/s");
        assert_eq!(with_unit(0.125, "percentunit"), "12.5 %");
        assert_eq!(round_above(0.31), 0.4);
    }

    #[test]
    fn a_line_is_interrupted_where_nothing_is_known() {
        let points = vec![
            (0.0, 1.0),
            (1.0, 2.0),
            (2.0, f64::NAN),
            (5.0, 1.0),
            (6.0, 1.0),
        ];
        let picture = Picture {
            title: "a < b".to_owned(),
            from: 0.0,
            until: 10.0,
            charts: vec![Chart {
                title: String::new(),
                unit: String::new(),
                is_state: false,
                lines: vec![Line {
                    label: String::new(),
                    points,
                }],
            }],
            spans: Vec::new(),
            marks: Vec::new(),
        };
        let svg = picture.draw();
        assert!(svg.contains("a &lt; b"));
        assert_eq!(svg.matches('M').count(), 2, "{svg}");
    }
}
