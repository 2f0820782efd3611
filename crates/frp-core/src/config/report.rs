//! Collects what is wrong, and knows where each key was given.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::{ConfigError, ConfigErrors, Origin};
use super::source::Source;

/// How many errors are listed. A wrong file can have one for each of its lines.
const MAX_ERRORS: usize = 100;

/// What has been found out about a configuration.
#[derive(Debug, Default)]
pub(super) struct Report {
    sources: Vec<Source>,
    /// For each file, the byte at which each key stands.
    places: Vec<BTreeMap<String, usize>>,
    /// The keys that the environment or flags have set.
    overrides: BTreeMap<String, Origin>,
    /// The keys that could not be read.
    broken: Vec<(usize, String)>,
    errors: Vec<ConfigError>,
    warnings: Vec<String>,
}

impl Report {
    /// Adds a file. Returns its number; the first one, 0, is the main file.
    pub(super) fn add_source(&mut self, source: Source) -> usize {
        self.sources.push(source);
        self.places.push(BTreeMap::new());
        self.sources.len() - 1
    }

    /// The number that the next file gets.
    pub(super) fn next_source(&self) -> usize {
        self.sources.len()
    }

    /// Remembers that `key` stands at byte `at` of a file.
    pub(super) fn place(&mut self, file: usize, key: &str, at: usize) {
        if let Some(places) = self.places.get_mut(file) {
            places.insert(key.to_owned(), at);
        }
    }

    /// Remembers that `key` was given elsewhere, which counts more than the main file.
    pub(super) fn set_override(&mut self, key: &str, origin: Origin) {
        self.overrides.insert(key.to_owned(), origin);
    }

    /// An error at a known byte of a file.
    pub(super) fn error_at(
        &mut self,
        file: usize,
        at: usize,
        key: &str,
        hint: Option<String>,
        message: String,
    ) {
        let origin = self.sources.get(file).map(|source| source.origin(at));
        self.set_broken(file, key);
        self.push(ConfigError {
            origin: origin.unwrap_or_else(unknown_origin),
            key: key.to_owned(),
            hint,
            message,
        });
    }

    /// Remembers that `key` could not be read: what is not in it now is no further error.
    pub(super) fn set_broken(&mut self, file: usize, key: &str) {
        self.broken.push((file, key.to_owned()));
    }

    /// An error about `key` of a file, wherever it was given. A key that could not even be read
    /// gets no second error.
    pub(super) fn error(&mut self, file: usize, key: &str, message: impl Into<String>) {
        let origin = self.origin(file, key);
        let mut broken = self.broken.iter();
        let is_known = broken.any(|(f, above)| *f == file && is_same_or_above(above, key));
        if !is_known {
            self.push(ConfigError {
                origin,
                key: key.to_owned(),
                hint: None,
                message: message.into(),
            });
        }
    }

    /// Adds an error.
    pub(super) fn push(&mut self, error: ConfigError) {
        self.errors.push(error);
    }

    /// Adds a warning.
    pub(super) fn warn(&mut self, message: impl Into<String>) {
        self.warnings.push(message.into());
    }

    /// The warnings, or the errors in the order of the files.
    pub(super) fn finish(self) -> Result<Vec<String>, ConfigErrors> {
        if self.errors.is_empty() {
            return Ok(self.warnings);
        }
        let mut errors = self.errors;
        let file_idx = |file: &Path| self.sources.iter().position(|source| source.path == file);
        errors.sort_by_key(|error| match &error.origin {
            Origin::File { file, place } => (
                0,
                file_idx(file).unwrap_or(usize::MAX),
                // What is missing comes after what is there.
                place.unwrap_or((u32::MAX, u32::MAX)),
            ),
            Origin::Env(_) => (1, 0, (0, 0)),
            Origin::Flag(_) => (2, 0, (0, 0)),
        });
        let n_more = errors.len().saturating_sub(MAX_ERRORS);
        errors.truncate(MAX_ERRORS);
        if n_more > 0 {
            errors.push(ConfigError {
                origin: unknown_origin(),
                key: String::new(),
                hint: None,
                message: format!("and {n_more} more errors"),
            });
        }
        Err(ConfigErrors::new(errors))
    }

    /// Where `key` was given, or the nearest table around it.
    fn origin(&self, file: usize, key: &str) -> Origin {
        let mut key = key;
        loop {
            if file == 0
                && let Some(origin) = self.overrides.get(key)
            {
                return origin.clone();
            }
            let at = self.places.get(file).and_then(|places| places.get(key));
            if let (Some(at), Some(source)) = (at, self.sources.get(file)) {
                return source.origin(*at);
            }
            match key.rfind(['.', '[']) {
                Some(end) => key = &key[..end],
                None => break,
            }
        }
        match self.sources.get(file) {
            Some(source) => Origin::File {
                file: source.path.clone(),
                place: None,
            },
            None => unknown_origin(),
        }
    }
}

/// Whether `above` is `key` or a table around it.
fn is_same_or_above(above: &str, key: &str) -> bool {
    above.is_empty()
        || key
            .strip_prefix(above)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Without a file, errors are printed bare.
fn unknown_origin() -> Origin {
    Origin::Flag(String::new())
}
