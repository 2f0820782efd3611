//! The report's bars.

use std::fmt::Write as _;

use crate::results::{Metric, Results};
use crate::subject::{OURS, OURS_PLAIN, PEER, PEER_PLAIN, Subject};

/// Draws one block of bars for each metric, each in its own scale.
pub(crate) fn svg(results: &Results, subjects: &[Subject]) -> String {
    let mut body = String::new();
    let mut y = MARGIN;
    for metric in results.metrics() {
        let bars: Vec<Bar> = subjects
            .iter()
            .filter_map(|subject| Bar::new(results, metric, subject))
            .collect();
        let longest = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
        text(&mut body, MARGIN, y + TEXT_RISE, "title", &metric.title());
        y += LINE;
        for bar in &bars {
            let width = if longest > 0.0 {
                bar.value / longest * BAR_WIDTH_MAX
            } else {
                0.0
            };
            text(&mut body, MARGIN + 8.0, y + TEXT_RISE, "", bar.label);
            rect(&mut body, y, width, bar.colour);
            let end = BAR_LEFT + width + 6.0;
            text(&mut body, end, y + TEXT_RISE, "", &metric.format(bar.value));
            y += LINE;
        }
        y += LINE / 2.0;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" \
         viewBox=\"0 0 {WIDTH} {y}\">\n\
         <style>text {{ font: 13px sans-serif; fill: #222 }} .title {{ font-weight: bold }}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

struct Bar {
    label: &'static str,
    colour: &'static str,
    value: f64,
}

impl Bar {
    fn new(results: &Results, metric: Metric, subject: &Subject) -> Option<Self> {
        let colour = match subject.name {
            OURS => "#0b7a75",
            OURS_PLAIN => "#6cc4bf",
            PEER => "#b5651d",
            PEER_PLAIN => "#e2b48a",
            _ => "#999999",
        };
        Some(Self {
            label: subject.title,
            colour,
            value: results.median(metric, subject.name)?,
        })
    }
}

fn text(body: &mut String, x: f64, y: f64, class: &str, text: &str) {
    // Writing to a String cannot fail. No title holds a character that XML would mistake.
    let _ = writeln!(
        body,
        "<text x=\"{x:.0}\" y=\"{y:.0}\" class=\"{class}\">{text}</text>"
    );
}

fn rect(body: &mut String, y: f64, width: f64, colour: &str) {
    let _ = writeln!(
        body,
        "<rect x=\"{BAR_LEFT}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"{BAR_HEIGHT}\" \
         fill=\"{colour}\"/>"
    );
}

const WIDTH: f64 = 720.0;
const MARGIN: f64 = 16.0;
const LINE: f64 = 20.0;
const TEXT_RISE: f64 = 12.0;
const BAR_LEFT: f64 = 150.0;
const BAR_HEIGHT: f64 = 15.0;
const BAR_WIDTH_MAX: f64 = 480.0;
