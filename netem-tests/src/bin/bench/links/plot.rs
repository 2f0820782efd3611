//! The plots: goodput and echo over loss, ours in full lines and frp's in dashed ones.

use std::fmt::Write as _;

use super::cell::{Kind, Way};
use super::link::Link;
use super::metric::Metric;
use super::subject::Subject;
use super::summary::Summary;

/// Draws goodput over loss, to the user and to the service.
pub(crate) fn goodput(summary: &Summary<'_>) -> String {
    let panels = Way::BOTH.map(|way| {
        let title = match way {
            Way::Down => "goodput to the user / ((1 - loss) x rate), over loss",
            Way::Up => "goodput to the service / ((1 - loss) x rate), over loss",
        };
        let value = |subject: &Subject, link: &Link| {
            let (kind, metric) = (Kind::Bulk(way), Metric::GoodputMbit);
            let value = summary.relative(subject.name(), link, kind, metric, way);
            value.value().map(|value| value.median)
        };
        Panel::new(summary, title, Scale::SHARE, &value)
    });
    draw(&panels)
}

/// Draws the 99th percentile of echoes over loss, on an idle connection and beside bulk.
pub(crate) fn echo(summary: &Summary<'_>) -> String {
    let panels = [
        (Kind::Echo, "echo on an idle connection, p99 ms, over loss"),
        (
            Kind::EchoBeside(Way::Down),
            "echo beside bulk to the user, p99 ms, over loss",
        ),
    ]
    .map(|(kind, title)| {
        let value = |subject: &Subject, link: &Link| {
            let value = summary.known(subject.name(), &link.name, kind, Metric::P99Ms);
            value.value().map(|value| value.median)
        };
        Panel::new(summary, title, Scale::TIMES, &value)
    });
    draw(&panels)
}

/// One pair of axes.
struct Panel {
    title: &'static str,
    scale: Scale,
    columns: Vec<String>,
    lines: Vec<Line>,
}

/// One subject's values, by column.
struct Line {
    label: String,
    colour: &'static str,
    is_dashed: bool,
    values: Vec<Option<f64>>,
}

impl Panel {
    fn new(
        summary: &Summary<'_>,
        title: &'static str,
        scale: Scale,
        value: &dyn Fn(&Subject, &Link) -> Option<f64>,
    ) -> Self {
        let links: Vec<&Link> = COLUMNS
            .iter()
            .filter_map(|name| summary.link(name))
            .filter(|link| {
                summary
                    .subjects
                    .iter()
                    .any(|subject| value(subject, link).is_some())
            })
            .collect();
        let line = |subject: &Subject| {
            let values: Vec<_> = links.iter().map(|link| value(subject, link)).collect();
            let is_empty = values.iter().all(Option::is_none);
            (!is_empty).then(|| Line {
                label: subject.title().to_owned(),
                colour: colour(subject.protocol()),
                is_dashed: subject.is_peer(),
                values,
            })
        };
        Self {
            title,
            scale,
            columns: links
                .iter()
                .map(|link| format!("{:.0} %", link.loss_pct(Way::Down)))
                .collect(),
            lines: summary.subjects.iter().filter_map(line).collect(),
        }
    }

    /// Draws it with its left upper corner at `left` and the top of the picture.
    fn draw(&self, body: &mut String, left: f64) {
        text(body, left, 20.0, "title", self.title);
        let plot_left = left + AXIS_WIDTH;
        for mark in self.scale.marks {
            let y = self.y(*mark);
            line(body, (plot_left, y), (plot_left + WIDTH, y), "grid", "");
            text(body, left, y + 4.0, "axis", &format!("{mark}"));
        }
        for (number, column) in self.columns.iter().enumerate() {
            let x = plot_left + self.x(number);
            text(body, x - 10.0, TOP + HEIGHT + 18.0, "axis", column);
        }
        for series in &self.lines {
            let dashes = if series.is_dashed {
                " stroke-dasharray=\"5 4\""
            } else {
                ""
            };
            let style = format!("stroke=\"{}\"{dashes}", series.colour);
            let points: Vec<Option<(f64, f64)>> = series
                .values
                .iter()
                .enumerate()
                .map(|(number, value)| Some((plot_left + self.x(number), self.y((*value)?))))
                .collect();
            // A column without a value interrupts the line: nothing moved there.
            for pair in points.windows(2) {
                if let [Some(from), Some(to)] = pair {
                    line(body, *from, *to, "line", &style);
                }
            }
            for (x, y) in points.into_iter().flatten() {
                let _ = writeln!(
                    body,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{}\"/>",
                    series.colour
                );
            }
        }
    }

    fn x(&self, column: usize) -> f64 {
        let n_steps = self.columns.len().saturating_sub(1).max(1);
        WIDTH * column as f64 / n_steps as f64
    }

    fn y(&self, value: f64) -> f64 {
        TOP + HEIGHT * (1.0 - self.scale.position(value))
    }
}

/// The scale of values.
#[derive(Clone, Copy, Debug)]
struct Scale {
    min: f64,
    max: f64,
    is_logarithmic: bool,
    marks: &'static [f64],
}

impl Scale {
    const SHARE: Self = Self {
        min: 0.0,
        max: 1.1,
        is_logarithmic: false,
        marks: &[0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
    };
    const TIMES: Self = Self {
        min: 40.0,
        max: 10_000.0,
        is_logarithmic: true,
        marks: &[50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0],
    };

    /// Returns where between bottom and top a value lies, 0 to 1.
    fn position(self, value: f64) -> f64 {
        let value = value.clamp(self.min, self.max);
        if self.is_logarithmic {
            (value / self.min).ln() / (self.max / self.min).ln()
        } else {
            (value - self.min) / (self.max - self.min)
        }
    }
}

/// Draws panels side by side with one legend.
fn draw(panels: &[Panel]) -> String {
    let mut body = String::new();
    for (number, panel) in panels.iter().enumerate() {
        panel.draw(&mut body, MARGIN + number as f64 * PANEL_WIDTH);
    }
    let legend_left = MARGIN + panels.len() as f64 * PANEL_WIDTH;
    // The panels show the same subjects, save that one has no bare link.
    let lines = panels.iter().map(|panel| &panel.lines);
    let lines = lines.max_by_key(|lines| lines.len()).into_iter().flatten();
    for (number, series) in lines.enumerate() {
        let y = TOP + 18.0 * number as f64;
        let dashes = if series.is_dashed {
            " stroke-dasharray=\"5 4\""
        } else {
            ""
        };
        let style = format!("stroke=\"{}\"{dashes}", series.colour);
        line(
            &mut body,
            (legend_left, y),
            (legend_left + 28.0, y),
            "line",
            &style,
        );
        text(
            &mut body,
            legend_left + 36.0,
            y + 4.0,
            "axis",
            &series.label,
        );
    }
    let width = legend_left + LEGEND_WIDTH;
    let height = TOP + HEIGHT + 32.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\">\n\
         <style>text {{ font: 12px sans-serif; fill: #222 }} .title {{ font-weight: bold }} \
         .grid {{ stroke: #ddd }} .line {{ stroke-width: 2 }}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

fn colour(protocol: Option<&str>) -> &'static str {
    match protocol {
        Some("tcp") => "#b5651d",
        Some("kcp") => "#6a3d9a",
        Some("quic") => "#0b7a75",
        Some("websocket") => "#d9a441",
        Some("auto") => "#c2185b",
        Some(_) => "#8c8c3c",
        None => "#999999",
    }
}

fn text(body: &mut String, x: f64, y: f64, class: &str, text: &str) {
    // Writing to a String cannot fail. No title holds a character that XML would mistake.
    let _ = writeln!(
        body,
        "<text x=\"{x:.0}\" y=\"{y:.0}\" class=\"{class}\">{text}</text>"
    );
}

fn line(body: &mut String, from: (f64, f64), to: (f64, f64), class: &str, style: &str) {
    let _ = writeln!(
        body,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" class=\"{class}\" {style}/>",
        from.0, from.1, to.0, to.1
    );
}

/// The links that differ only in how much they lose, as far apart as they stand here.
const COLUMNS: [&str; 6] = ["clean", "loss-1", "loss-5", "loss-10", "loss-20", "loss-30"];

const MARGIN: f64 = 16.0;
const TOP: f64 = 36.0;
const WIDTH: f64 = 330.0;
const HEIGHT: f64 = 240.0;
const AXIS_WIDTH: f64 = 44.0;
const PANEL_WIDTH: f64 = WIDTH + AXIS_WIDTH + 36.0;
const LEGEND_WIDTH: f64 = 180.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logarithmic_scale_gives_each_doubling_the_same_height() {
        let step = |from: f64| Scale::TIMES.position(2.0 * from) - Scale::TIMES.position(from);

        assert!((step(50.0) - step(1000.0)).abs() < 1e-9);
        assert_eq!(Scale::TIMES.position(1.0), 0.0);
        assert_eq!(Scale::SHARE.position(2.0), 1.0);
    }
}
