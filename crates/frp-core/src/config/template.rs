//! The part of Go's `text/template` that frp's users write: environment variables, number ranges,
//! `range`, `if`, `with`, variables, pipelines, comparisons and printing.
//!
//! A file is split into text and actions ([`lex`]), the actions become a tree ([`parse`]), and the
//! tree is run ([`eval`]). What the language has beyond that is an error that says so. While the
//! output grows, it is noted where each stretch comes from, so that later errors still point into
//! the file.

mod eval;
mod functions;
mod lex;
mod parse;
mod value;

use super::source::{MAX_TEXT_LEN, Segment};

/// A rendered text, and where its stretches come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rendered {
    /// The text.
    pub(super) text: String,
    /// Its stretches, in order.
    pub(super) segments: Vec<Segment>,
}

/// Why a template cannot be rendered. The texts are Go's where it has the same error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TemplateError {
    /// The byte of the file that it is about.
    pub(super) at: usize,
    /// What is wrong.
    pub(super) message: String,
}

impl TemplateError {
    fn new(at: usize, message: impl Into<String>) -> Self {
        Self {
            at,
            message: message.into(),
        }
    }
}

/// Renders `text`. `envs` is what `.Envs` reads.
pub(super) fn render(
    text: &str,
    envs: &dyn Fn(&str) -> Option<String>,
) -> Result<Rendered, TemplateError> {
    let tree = parse::parse(text)?;
    eval::run(text, &tree, envs)
}

#[cfg(test)]
mod tests;
