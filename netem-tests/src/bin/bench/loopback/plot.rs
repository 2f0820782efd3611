//! The report's bars.

use std::fmt::Write as _;

use super::results::{Metric, Results};
use super::subject::{BARE, OURS, OURS_NOT_HELD, OURS_PLAIN, PEER, PEER_PLAIN, Subject};

/// Draws one block of bars for each metric, each in its own scale, in two columns. The bare
/// connection is left out: beside it the others could not be told apart.
pub(crate) fn svg(results: &Results, subjects: &[Subject]) -> String {
    let blocks: Vec<Block> = results
        .metrics()
        .filter_map(|metric| Block::new(results, metric, subjects))
        .collect();
    let n_rows = blocks.len().div_ceil(N_COLUMNS);
    let mut body = String::new();
    let mut bottom = 0.0_f64;
    for (column, blocks) in blocks.chunks(n_rows.max(1)).enumerate() {
        let x = MARGIN + column as f64 * COLUMN_WIDTH;
        let mut y = MARGIN;
        for block in blocks {
            y = block.draw(&mut body, x, y) + LINE / 2.0;
        }
        bottom = bottom.max(y);
    }
    let width = COLUMN_WIDTH.mul_add(N_COLUMNS as f64, MARGIN);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{bottom}\" \
         viewBox=\"0 0 {width} {bottom}\">\n\
         <style>text {{ font: 12px sans-serif; fill: #222 }} .title {{ font-weight: bold }}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

/// The bars of one metric.
struct Block {
    metric: Metric,
    bars: Vec<Bar>,
    longest: f64,
}

impl Block {
    /// Returns nothing where there is nothing to see.
    fn new(results: &Results, metric: Metric, subjects: &[Subject]) -> Option<Self> {
        let bars: Vec<Bar> = subjects
            .iter()
            .filter(|subject| subject.name != BARE)
            .filter_map(|subject| Bar::new(results, metric, subject))
            .collect();
        let longest = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
        (longest > 0.0).then_some(Self {
            metric,
            bars,
            longest,
        })
    }

    /// Draws it at `x`, `y`, and returns where the next one may begin.
    fn draw(&self, body: &mut String, x: f64, mut y: f64) -> f64 {
        text(body, x, y + TEXT_RISE, "title", &self.metric.title());
        y += LINE;
        for bar in &self.bars {
            let width = bar.value / self.longest * BAR_WIDTH_MAX;
            let left = x + LABEL_WIDTH;
            text(body, x + 8.0, y + TEXT_RISE, "label", bar.label);
            rect(body, left, y, width, bar.colour);
            let value = self.metric.format(bar.value);
            text(body, left + width + 6.0, y + TEXT_RISE, "value", &value);
            y += LINE;
        }
        y
    }
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
            OURS_NOT_HELD => "#3f9c96",
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

fn rect(body: &mut String, x: f64, y: f64, width: f64, colour: &str) {
    let _ = writeln!(
        body,
        "<rect x=\"{x:.0}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"{BAR_HEIGHT}\" \
         fill=\"{colour}\"/>"
    );
}

const N_COLUMNS: usize = 2;
const COLUMN_WIDTH: f64 = 470.0;
const MARGIN: f64 = 16.0;
const LINE: f64 = 18.0;
const TEXT_RISE: f64 = 11.0;
const LABEL_WIDTH: f64 = 116.0;
const BAR_HEIGHT: f64 = 14.0;
const BAR_WIDTH_MAX: f64 = 280.0;
