//! Which of the three formats a text is in.

use super::node::{Node, SyntaxError, Value};
use super::{json, toml, yaml};

/// The format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// TOML.
    Toml,
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

/// Parses `text` in the format that its content shows, as frp does: TOML if it is that, else JSON
/// if it begins with a brace, else YAML.
///
/// `named_toml` says that the file's name ends in `.toml`: it is nothing else then, so the errors
/// are about TOML.
pub(super) fn parse(text: &str, named_toml: bool) -> Result<(Node, Format), Vec<SyntaxError>> {
    let toml_errors = match toml::parse(text) {
        Ok(root) => return Ok((root, Format::Toml)),
        Err(errors) => errors,
    };
    if named_toml {
        return Err(toml_errors);
    }
    if text.trim_start().starts_with('{') {
        return match json::parse(text) {
            Ok(root) => Ok((root, Format::Json)),
            Err(error) => Err(vec![error]),
        };
    }
    match yaml::parse(text) {
        // Broken TOML often is a valid YAML scalar or an odd YAML error; neither helps its author.
        Ok(root) if matches!(root.value, Value::Str(_)) && looks_like_toml(text) => {
            Err(toml_errors)
        }
        Ok(root) => Ok((root, Format::Yaml)),
        Err(_) if looks_like_toml(text) => Err(toml_errors),
        Err(error) => Err(vec![error]),
    }
}

/// Whether the first line with content is a TOML table header or an assignment.
fn looks_like_toml(text: &str) -> bool {
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'));
    line.is_some_and(|line| {
        let key_end = line.find(['=', ':', ' ']).unwrap_or(line.len());
        line.starts_with('[') || line[key_end..].trim_start().starts_with('=')
    })
}
