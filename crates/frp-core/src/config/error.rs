//! What is wrong with a configuration: all of it, each with its place.

use std::fmt;
use std::path::{Path, PathBuf};

/// Everything that is wrong. Displays as one line for each error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
}

impl ConfigErrors {
    /// All of `errors`, of which there is at least one.
    pub(super) fn new(errors: Vec<ConfigError>) -> Self {
        Self { errors }
    }

    /// An error about a whole file.
    pub fn one(file: &Path, message: impl Into<String>) -> Self {
        Self {
            errors: vec![ConfigError {
                origin: Origin::File {
                    file: file.to_owned(),
                    place: None,
                },
                key: String::new(),
                hint: None,
                message: message.into(),
            }],
        }
    }

    /// The errors, in the order in which they were found. Never empty.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.errors.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (idx, error) in self.errors.iter().enumerate() {
            if idx > 0 {
                f.write_str("\n")?;
            }
            fmt::Display::fmt(error, f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// One thing that is wrong. Displays as `file:line:column: key: hint: message`, without the parts
/// that do not exist; the message, in frp's words where it has some, is always the line's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where the value comes from.
    pub origin: Origin,
    /// The key, with dots and indexes: `proxies[0].localPort`. Empty when it is not about a key.
    pub key: String,
    /// What was probably meant.
    pub hint: Option<String>,
    /// What is wrong.
    pub message: String,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File {
        /// Its path as it was given.
        file: PathBuf,
        /// Line and column, both from 1, the column in characters. `None`: the file as a whole,
        /// for instance because a key is missing.
        place: Option<(u32, u32)>,
    },
    /// An environment variable.
    Env(String),
    /// A flag. Its errors are printed bare, as frp does.
    Flag(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::File { file, place } => {
                if !file.as_os_str().is_empty() {
                    write!(f, "{}", file.display())?;
                    if let Some((line, column)) = place {
                        write!(f, ":{line}:{column}")?;
                    }
                    f.write_str(": ")?;
                }
            }
            Origin::Env(name) => write!(f, "{name}: ")?,
            Origin::Flag(_) => return f.write_str(&self.message),
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "{hint}: ")?;
        }
        f.write_str(&self.message)
    }
}
