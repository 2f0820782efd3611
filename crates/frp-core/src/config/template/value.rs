//! What expressions are made of, and how Go shows it.

/// What an expression can be.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// The value that a missing variable of the environment has.
    Missing,
    /// `nil`
    Nil,
    /// What `.` is at first.
    Root,
    /// `.Envs`
    Envs,
    /// A truth value.
    Bool(bool),
    /// A number.
    Int(i64),
    /// Text.
    Str(String),
    /// A pair of numbers.
    Pair(i64, i64),
    /// A list.
    List(std::rc::Rc<Vec<Value>>),
}

impl Value {
    /// Whether it counts as true.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Missing | Self::Nil => false,
            Self::Root | Self::Envs | Self::Pair(..) => true,
            Self::Bool(flag) => *flag,
            Self::Int(number) => *number != 0,
            Self::Str(text) => !text.is_empty(),
            Self::List(items) => !items.is_empty(),
        }
    }

    /// What printing it gives. The whole environment is never printed: it holds secrets.
    pub(super) fn print(&self) -> Result<String, String> {
        Ok(match self {
            Self::Missing => "<no value>".to_owned(),
            Self::Nil => "<nil>".to_owned(),
            Self::Root | Self::Envs => {
                return Err("printing all of the environment is not supported here".to_owned());
            }
            Self::Bool(flag) => flag.to_string(),
            Self::Int(number) => number.to_string(),
            Self::Str(text) => text.clone(),
            Self::Pair(first, second) => format!("{{{first} {second}}}"),
            Self::List(items) => {
                let items: Result<Vec<_>, _> = items.iter().map(Self::print).collect();
                format!("[{}]", items?.join(" "))
            }
        })
    }

    /// Its type, in Go's words.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Missing | Self::Nil => "nil",
            Self::Root => "*config.Values",
            Self::Envs => "map[string]string",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int64",
            Self::Str(_) => "string",
            Self::Pair(..) => "config.NumberPair",
            Self::List(items) => match items.first() {
                Some(Self::Pair(..)) => "[]config.NumberPair",
                _ => "[]int64",
            },
        }
    }
}
