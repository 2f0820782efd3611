//! The kinds of metrics, and how Prometheus' text format announces one.

use std::fmt::Write;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// As it is at the moment.
    Gauge,
    /// Counts by size, up to these bounds.
    Histogram(&'static [f64]),
}

impl Kind {
    /// As in the text format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// The two lines before the samples.
pub(super) fn put_head(text: &mut String, name: &str, kind: Kind, help: &str) {
    let kind = kind.name();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}
