//! The text format of Prometheus.
//!
//! One family after the other, each with its samples. Two samples with the same labels would make
//! the whole text useless to Prometheus, and names that clients choose can become the same by being
//! shortened; so they are put together, by a rule of the family.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::kind::{Kind, put_head};

/// The text so far.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

/// The samples of one metric. They are written when it is dropped.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
    kind: Kind,
    help: &'static str,
    is_optional: bool,
    merge: Merge,
    samples: BTreeMap<String, f64>,
}

/// What becomes of two samples with the same labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Merge {
    Sum,
    Max,
}

impl Exposition {
    /// Begins a metric. Without samples it is named all the same.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &'static str) -> Family<'_> {
        Family {
            text: &mut self.text,
            name,
            kind,
            help,
            is_optional: false,
            merge: Merge::Sum,
            samples: BTreeMap::new(),
        }
    }

    /// What was written.
    pub fn into_text(self) -> String {
        self.text
    }
}

impl Family<'_> {
    /// Leaves nothing behind when there are no samples, as frp's metrics do.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.is_optional = true;
        self
    }

    /// Of samples with the same labels the highest counts, and not the sum: times, say.
    #[must_use]
    pub fn highest(mut self) -> Self {
        self.merge = Merge::Max;
        self
    }

    /// Adds a sample. Values of labels may be any text.
    pub fn add(&mut self, labels: &[(&str, &str)], value: f64) {
        let mut key = String::new();
        for (number, (name, value)) in labels.iter().enumerate() {
            key.push(if number == 0 { '{' } else { ',' });
            key.push_str(name);
            key.push_str("=\"");
            push_escaped(&mut key, &shortened(value));
            key.push('"');
        }
        if !labels.is_empty() {
            key.push('}');
        }
        let merge = self.merge;
        self.samples
            .entry(key)
            .and_modify(|known| {
                *known = match merge {
                    Merge::Sum => *known + value,
                    Merge::Max => known.max(value),
                }
            })
            .or_insert(value);
    }

    /// Adds a sample of a number. Beyond 2^53 the last digits are lost, as in Prometheus itself.
    #[expect(clippy::cast_precision_loss, reason = "Prometheus has floats only")]
    pub fn add_count(&mut self, labels: &[(&str, &str)], value: u64) {
        self.add(labels, value as f64);
    }
}

impl Drop for Family<'_> {
    fn drop(&mut self) {
        if self.is_optional && self.samples.is_empty() {
            return;
        }
        put_head(self.text, self.name, self.kind, self.help);
        for (labels, value) in &self.samples {
            // Writing to a String cannot fail.
            let _ = writeln!(self.text, "{}{labels} {value}", self.name);
        }
    }
}

/// A value that fits into a label. What is longer keeps its beginning, and what tells it from
/// others that begin like it.
fn shortened(value: &str) -> Cow<'_, str> {
    if value.len() <= MAX_VALUE_LEN {
        return Cow::Borrowed(value);
    }
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    let end = value.floor_char_boundary(MAX_VALUE_LEN - HASH_LEN);
    Cow::Owned(format!("{}~{:016x}", &value[..end], hasher.finish()))
}

/// Whatever could end the label or the line is written otherwise. What steers terminals is not for
/// them who look at the text.
fn push_escaped(text: &mut String, value: &str) {
    for char in value.chars() {
        match char {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            char if char.is_control() => text.push(char::REPLACEMENT_CHARACTER),
            char => text.push(char),
        }
    }
}

/// Bytes of a label's value. A proxy's name may fill a message.
const MAX_VALUE_LEN: usize = 128;

/// Of these, for the tail of a shortened one.
const HASH_LEN: usize = 17;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(add: impl FnOnce(&mut Family<'_>)) -> String {
        let mut out = Exposition::default();
        add(&mut out.family("a", Kind::Gauge, "Help."));
        out.into_text()
    }

    fn samples(text: &str) -> Vec<&str> {
        text.lines().filter(|line| !line.starts_with('#')).collect()
    }

    #[test]
    fn a_family_has_a_head_and_its_samples_and_frps_are_not_there_without() {
        let written = text(|family| family.add(&[("name", "x"), ("type", "tcp")], 1.0));
        let expected = "# HELP a Help.\n# TYPE a gauge\na{name=\"x\",type=\"tcp\"} 1\n";
        assert_eq!(written, expected);
        assert_eq!(text(|_| {}), "# HELP a Help.\n# TYPE a gauge\n");
        let mut out = Exposition::default();
        drop(out.family("a", Kind::Counter, "Help.").optional());
        assert_eq!(out.into_text(), "");
    }

    #[test]
    fn a_name_cannot_break_out_of_its_label_or_line() {
        let hostile = "a\"b\\c\nd\re\u{1b}[31m\u{0}";
        let written = text(|family| family.add(&[("name", hostile)], 1.0));
        let shown = "a{name=\"a\\\"b\\\\c\\nd\u{fffd}e\u{fffd}[31m\u{fffd}\"} 1";
        assert_eq!(samples(&written), [shown]);
    }

    #[test]
    fn long_names_are_shortened_and_stay_different() {
        let long = |last: char| format!("{}{last}", "ä".repeat(30_000));
        let written = text(|family| {
            family.add(&[("name", &long('x'))], 1.0);
            family.add(&[("name", &long('y'))], 2.0);
        });
        let samples = samples(&written);
        assert_eq!(samples.len(), 2);
        assert!(samples.iter().all(|line| line.len() < 160));
    }

    #[test]
    fn samples_with_the_same_labels_become_one() {
        let twice = |family: &mut Family<'_>| {
            family.add(&[("name", "a\u{1}")], 1.0);
            family.add(&[("name", "a\u{2}")], 2.0);
        };
        assert_eq!(samples(&text(twice)), ["a{name=\"a\u{fffd}\"} 3"]);
        let mut out = Exposition::default();
        twice(&mut out.family("a", Kind::Gauge, "Help.").highest());
        assert_eq!(samples(&out.into_text()), ["a{name=\"a\u{fffd}\"} 2"]);
    }
}
