//! The text of one file, and the way back from it to line and column.
//!
//! Parsers work on the rendered text. What the template put there has no line of its own in the
//! file: its place is that of the action (`{{ ... }}`) which made it. Everything else maps back
//! exactly.

use std::path::{Path, PathBuf};

use super::error::{ConfigError, Origin};

/// The largest file, and the largest text that a template may make of one. Ten thousand proxies
/// come to about one megabyte.
pub(super) const MAX_TEXT_LEN: usize = 4 * 1024 * 1024;

/// One file after its template has been rendered.
#[derive(Debug)]
pub(super) struct Source {
    /// The path as it was given.
    pub(super) path: PathBuf,
    /// What the parsers read.
    pub(super) text: String,
    original: String,
    segments: Vec<Segment>,
}

/// Where a stretch of the rendered text comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Its first byte in the rendered text.
    pub(super) rendered: usize,
    /// Its first byte in the file; for the output of an action, the action's.
    pub(super) original: usize,
    /// Whether it was copied from the file as it stood.
    pub(super) copied: bool,
}

impl Source {
    /// The file `path` with its text and what became of it.
    pub(super) fn new(path: &Path, original: String, text: String, segments: Vec<Segment>) -> Self {
        Self {
            path: path.to_owned(),
            text,
            original,
            segments,
        }
    }

    /// An error at a byte of the rendered text.
    pub(super) fn error(&self, at: usize, message: impl Into<String>) -> ConfigError {
        ConfigError {
            origin: self.origin(at),
            key: String::new(),
            hint: None,
            message: message.into(),
        }
    }

    /// Line and column in the file of a byte of the rendered text.
    pub(super) fn origin(&self, at: usize) -> Origin {
        let next = self.segments.partition_point(|s| s.rendered <= at);
        let original = match next.checked_sub(1).and_then(|idx| self.segments.get(idx)) {
            Some(segment) if segment.copied => segment.original + (at - segment.rendered),
            Some(segment) => segment.original,
            None => at,
        };
        origin_in(&self.path, &self.original, original)
    }
}

/// Line and column of a byte of `text`, the text of the file `path`.
pub(super) fn origin_in(path: &Path, text: &str, at: usize) -> Origin {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before[line_start..].chars().count() + 1;
    Origin::File {
        file: path.to_owned(),
        place: Some((saturating_u32(line), saturating_u32(column))),
    }
}

fn saturating_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
