//! One tree for all three formats. Each node knows where it stands in the rendered text.

use super::{json, toml, yaml};

/// The deepest nesting. frp's own keys reach a depth of 6.
pub(super) const MAX_DEPTH: usize = 64;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    /// The first byte, in the rendered text.
    pub(super) at: usize,
    /// What stands there.
    pub(super) value: Value,
}

/// A value of any format.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Leaves the default.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number, also one that is too large to be an `Int`.
    Float(f64),
    /// Text.
    Str(String),
    /// A list.
    List(Vec<Node>),
    /// A table, in the order of the file. The keys differ.
    Table(Vec<Entry>),
}

impl Value {
    /// What Go's JSON decoder calls it in errors.
    pub(super) fn go_name(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(_) => "bool".to_owned(),
            Self::Int(_) => "number".to_owned(),
            Self::Float(number) => format!("number {number}"),
            Self::Str(_) => "string".to_owned(),
            Self::List(_) => "array".to_owned(),
            Self::Table(_) => "object".to_owned(),
        }
    }
}

/// A key of a table with its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// The key's first byte, in the rendered text.
    pub(super) at: usize,
    /// The key.
    pub(super) key: String,
    /// Its value.
    pub(super) node: Node,
}

/// A text that is not in its format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    /// The byte of the rendered text where it goes wrong.
    pub(super) at: usize,
    /// What is wrong.
    pub(super) message: String,
}

impl SyntaxError {
    pub(super) fn new(at: usize, message: impl Into<String>) -> Self {
        Self {
            at,
            message: message.into(),
        }
    }
}

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
