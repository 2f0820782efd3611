//! TOML into the common tree.

use toml::de::{DeTable, DeValue};

use super::node::{Entry, MAX_DEPTH, Node, SyntaxError, Value};

/// Parses a TOML document. All syntax errors that the parser finds are returned.
pub(super) fn parse(text: &str) -> Result<Node, Vec<SyntaxError>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(first_of_each_line(text, &errors));
    }
    table(0, root.into_inner(), 0).map_err(|error| vec![error])
}

/// After an error the parser often stumbles over the rest of the line as well.
fn first_of_each_line(text: &str, errors: &[toml::de::Error]) -> Vec<SyntaxError> {
    let mut errors: Vec<_> = errors
        .iter()
        .map(|error| syntax_error(text, error))
        .collect();
    errors.sort_by_key(|error| error.at);
    errors.dedup_by(|later, earlier| {
        let between = text.get(earlier.at..later.at);
        between.is_some_and(|between| !between.contains('\n'))
    });
    errors
}

fn syntax_error(text: &str, error: &toml::de::Error) -> SyntaxError {
    let span = error.span().unwrap_or(0..0);
    let message = error.message().trim_end().replace('\n', ", ");
    if message.starts_with("duplicate key") {
        let key = text.get(span.clone()).unwrap_or_default().trim();
        // go-toml's words.
        return SyntaxError::new(span.start, format!("toml: key {key} is already defined"));
    }
    SyntaxError::new(span.start, format!("toml: {message}"))
}

fn table(at: usize, table: DeTable<'_>, depth: usize) -> Result<Node, SyntaxError> {
    if depth >= MAX_DEPTH {
        return Err(SyntaxError::new(at, "toml: nested too deeply"));
    }
    let mut entries = Vec::with_capacity(table.len());
    for (key, value) in table {
        entries.push(Entry {
            at: key.span().start,
            key: key.into_inner().into_owned(),
            node: node(value.span().start, value.into_inner(), depth + 1)?,
        });
    }
    // The parser sorts by name; errors and arrays of tables want the order of the file.
    entries.sort_by_key(|entry| entry.at);
    Ok(Node {
        at,
        value: Value::Table(entries),
    })
}

fn node(at: usize, value: DeValue<'_>, depth: usize) -> Result<Node, SyntaxError> {
    let value = match value {
        DeValue::String(text) => Value::Str(text.into_owned()),
        DeValue::Boolean(flag) => Value::Bool(flag),
        DeValue::Datetime(time) => Value::Str(time.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Int(number),
            Err(_) => return Err(SyntaxError::new(at, "toml: integer out of range")),
        },
        DeValue::Float(number) => match number.as_str().parse() {
            Ok(number) => Value::Float(number),
            Err(_) => return Err(SyntaxError::new(at, "toml: invalid float")),
        },
        DeValue::Array(items) => {
            if depth >= MAX_DEPTH {
                return Err(SyntaxError::new(at, "toml: nested too deeply"));
            }
            let mut nodes = Vec::with_capacity(items.len());
            for item in items {
                nodes.push(node(item.span().start, item.into_inner(), depth + 1)?);
            }
            Value::List(nodes)
        }
        DeValue::Table(entries) => return table(at, entries, depth),
    };
    Ok(Node { at, value })
}
