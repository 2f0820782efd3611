//! One tree for all three formats. Each node knows where it stands in the rendered text.

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
