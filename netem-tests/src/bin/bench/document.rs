//! The documents with measured values: generated parts between hand-written ones.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// A text in a directory, with the pictures that it shows.
#[derive(Debug)]
pub(crate) struct Document {
    dir: PathBuf,
    name: &'static str,
}

impl Document {
    /// `benchmarks.md` in the repository, or beside the results where a quick look must not replace
    /// it.
    pub(crate) fn open(quick: bool) -> Result<Self> {
        Self::open_named("benchmarks.md", quick)
    }

    /// The same of another text.
    pub(crate) fn open_named(name: &'static str, quick: bool) -> Result<Self> {
        ensure!(
            Path::new("docs").is_dir(),
            "run this at the root of the repository: make bench"
        );
        let dir = PathBuf::from(if quick { RESULTS_DIR } else { "docs" });
        fs::create_dir_all(&dir)?;
        Ok(Self { dir, name })
    }

    /// Returns the path of the text.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(self.name)
    }

    /// Puts `text` in the place of the generated part `name`. What stands outside of its marks is
    /// left as it is; a part that is not there yet is added at the end.
    pub(crate) fn replace_part(&self, name: &str, text: &str) -> Result<()> {
        let old = fs::read_to_string(self.path()).unwrap_or_else(|_| HEAD.to_owned());
        let new = replace_part(&old, name, text)?;
        fs::write(self.path(), new)
            .with_context(|| format!("cannot write {}", self.path().display()))
    }

    /// Writes a picture beside the text.
    pub(crate) fn write_picture(&self, name: &str, svg: &str) -> Result<()> {
        let path = self.dir.join(name);
        fs::write(&path, svg).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn replace_part(document: &str, name: &str, text: &str) -> Result<String> {
    let begin = format!("<!-- {name}: written by make bench -->");
    let end = format!("<!-- {name}: end -->");
    let (before, rest) = match document.split_once(&begin) {
        Some((before, rest)) => (before.to_owned(), rest),
        None => (format!("{}\n\n", document.trim_end()), ""),
    };
    let after = if rest.is_empty() {
        "\n"
    } else {
        let (_, after) = rest
            .split_once(&end)
            .with_context(|| format!("the mark of the end of the part {name} is lost"))?;
        after
    };
    Ok(format!(
        "{before}{begin}\n{}\n{end}{after}",
        text.trim_end()
    ))
}

/// Where results are kept as they come. Git ignores it.
pub(crate) const RESULTS_DIR: &str = "target/bench";

const HEAD: &str = "# Benchmarks\n";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn only_the_part_between_the_marks_is_replaced() {
        let old =
            "by hand\n<!-- links: written by make bench -->\nold\n<!-- links: end -->\nmore\n";

        let new = replace_part(old, "links", "new").unwrap();

        assert_eq!(
            new,
            "by hand\n<!-- links: written by make bench -->\nnew\n<!-- links: end -->\nmore\n"
        );
    }

    #[test]
    fn a_part_that_is_not_there_is_added_once() {
        let once = replace_part("by hand\n", "links", "text").unwrap();
        let twice = replace_part(&once, "links", "text").unwrap();

        assert!(once.starts_with("by hand\n\n<!-- links"), "{once}");
        assert_eq!(once, twice);
    }

    #[test]
    fn a_part_without_an_end_is_left_alone() {
        let document = "<!-- links: written by make bench -->\nby hand\n";

        replace_part(document, "links", "text").unwrap_err();
    }
}
