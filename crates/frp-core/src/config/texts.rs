//! The texts that a client's configuration was read from, to be kept and loaded again.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// One configuration with all that it includes, as it was in its files: templates are not rendered,
/// and what the environment says is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientTexts {
    /// The file that was asked for.
    pub main: TextFile,
    /// What it includes, in the order in which that was read.
    pub included: Vec<TextFile>,
}

/// A file at one moment. Its `Debug` leaves out the text, which has secrets.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextFile {
    /// Where it was, for people and for the format that a name may tell.
    pub path: String,
    /// What it said.
    pub text: String,
}

impl TextFile {
    /// The file at `path` with these bytes. What is not UTF-8 is replaced: such a text is
    /// refused before it is used.
    pub(super) fn new(path: &Path, bytes: &[u8]) -> Self {
        Self {
            path: path.display().to_string(),
            text: String::from_utf8_lossy(bytes).into_owned(),
        }
    }
}

impl fmt::Debug for TextFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.path, self.text.len())
    }
}

impl ClientTexts {
    /// How much there is to keep, in bytes.
    pub fn len(&self) -> usize {
        let texts = std::iter::once(&self.main).chain(&self.included);
        texts.map(|file| file.path.len() + file.text.len()).sum()
    }

    /// What is included, as it would be read.
    pub(super) fn included_bytes(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = self.included.iter();
        files
            .map(|file| (PathBuf::from(&file.path), file.text.clone().into_bytes()))
            .collect()
    }

    /// Whether nothing was read.
    pub fn is_empty(&self) -> bool {
        self.main.text.is_empty() && self.included.is_empty()
    }
}
