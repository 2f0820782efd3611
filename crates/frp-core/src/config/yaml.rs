//! YAML into the common tree: anchors, `<<` merges, and scalars as go-yaml reads them (version 1.1
//! of YAML: `yes` and `off` are truth values, `0777` is octal). Only the first document counts.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

use super::node::{Entry, MAX_DEPTH, Node, SyntaxError, Value};

/// How many nodes may be copied for anchors and aliases. Without a bound, a kilobyte of aliases of
/// aliases unfolds to gigabytes.
const MAX_COPIED_NODES: usize = 100_000;

/// Parses the first YAML document of `text`. No document at all is null.
pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    // The scanner takes a NUL for the end and would silently skip what comes after it.
    if let Some(at) = text.find('\0') {
        return Err(SyntaxError::new(
            at,
            "yaml: control characters are not allowed",
        ));
    }
    let mut builder = Builder {
        parser: Parser::new_from_str(text),
        offsets: Offsets::new(text),
        anchors: BTreeMap::new(),
        copies_left: MAX_COPIED_NODES,
    };
    loop {
        match builder.next()? {
            None | Some((Event::StreamEnd, _)) => {
                return Ok(Node {
                    at: 0,
                    value: Value::Null,
                });
            }
            Some((Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _)) => {}
            Some((event, span)) => return builder.node(event, span, 0),
        }
    }
}

struct Builder<'a> {
    parser: Parser<'a, StrInput<'a>>,
    offsets: Offsets,
    anchors: BTreeMap<usize, Rc<Node>>,
    copies_left: usize,
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, SyntaxError> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok(event)) => Ok(Some(event)),
            Some(Err(error)) => Err(SyntaxError::new(
                self.offsets.byte(error.marker().index()),
                format!("yaml: {}", error.info()),
            )),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, SyntaxError> {
        let at = self.offsets.byte(span.start.index());
        if depth >= MAX_DEPTH {
            return Err(SyntaxError::new(at, "yaml: nested too deeply"));
        }
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                (anchor, scalar(&text, style, tag.as_deref(), at)?)
            }
            Event::SequenceStart(anchor, _) => (anchor, self.list(depth)?),
            Event::MappingStart(anchor, _) => (anchor, self.table(at, depth)?),
            Event::Alias(anchor) => return self.alias(anchor, at, depth),
            _ => return Err(SyntaxError::new(at, "yaml: a value is missing")),
        };
        let node = Node { at, value };
        if anchor > 0 {
            self.count_copy(size(&node).0, at)?;
            self.anchors.insert(anchor, Rc::new(node.clone()));
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        let mut nodes = Vec::new();
        loop {
            match self.next()? {
                None | Some((Event::SequenceEnd, _)) => return Ok(Value::List(nodes)),
                Some((event, span)) => nodes.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn table(&mut self, table_at: usize, depth: usize) -> Result<Value, SyntaxError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen = BTreeSet::new();
        let mut merges = Vec::new();
        loop {
            let (event, span) = match self.next()? {
                None | Some((Event::MappingEnd, _)) => break,
                Some(event) => event,
            };
            let at = self.offsets.byte(span.start.index());
            let is_merge =
                matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, _) if text == "<<");
            let key = self.key(event, span, depth)?;
            let Some((event, span)) = self.next()? else {
                return Err(SyntaxError::new(at, "yaml: a value is missing"));
            };
            let node = self.node(event, span, depth + 1)?;
            if is_merge {
                merges.push(node);
            } else if seen.insert(key.clone()) {
                entries.push(Entry { at, key, node });
            } else {
                // go-yaml's words.
                let message = format!("yaml: key {key:?} already set in map");
                return Err(SyntaxError::new(at, message));
            }
        }
        for node in merges {
            merge(node, &mut entries, &mut seen, table_at)?;
        }
        Ok(Value::Table(entries))
    }

    fn key(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<String, SyntaxError> {
        let text = match &event {
            // A number or truth value as a key is its text.
            Event::Scalar(text, ..) => Some(text.to_string()),
            _ => None,
        };
        let node = self.node(event, span, depth + 1)?;
        match (text, node.value) {
            (Some(text), _) | (None, Value::Str(text)) => Ok(text),
            _ => Err(SyntaxError::new(node.at, "yaml: a key must be text")),
        }
    }

    fn alias(&mut self, anchor: usize, at: usize, depth: usize) -> Result<Node, SyntaxError> {
        let Some(target) = self.anchors.get(&anchor).map(Rc::clone) else {
            return Err(SyntaxError::new(at, "yaml: anchor contains itself"));
        };
        let (n_nodes, levels) = size(&target);
        if depth + levels > MAX_DEPTH {
            return Err(SyntaxError::new(at, "yaml: nested too deeply"));
        }
        self.count_copy(n_nodes, at)?;
        // The places stay those of the anchor: that is where the text stands.
        Ok(Rc::unwrap_or_clone(target))
    }

    fn count_copy(&mut self, n_nodes: usize, at: usize) -> Result<(), SyntaxError> {
        let left = self.copies_left.checked_sub(n_nodes);
        self.copies_left =
            left.ok_or_else(|| SyntaxError::new(at, "yaml: document contains excessive aliasing"))?;
        Ok(())
    }
}

/// Adds what a `<<` brings, for the keys that are not there yet.
fn merge(
    node: Node,
    entries: &mut Vec<Entry>,
    seen: &mut BTreeSet<String>,
    table_at: usize,
) -> Result<(), SyntaxError> {
    match node.value {
        Value::Table(merged) => {
            for entry in merged {
                if seen.insert(entry.key.clone()) {
                    entries.push(entry);
                }
            }
            Ok(())
        }
        Value::List(nodes) if nodes.iter().all(|n| matches!(n.value, Value::Table(_))) => nodes
            .into_iter()
            .try_for_each(|node| merge(node, entries, seen, table_at)),
        _ => Err(SyntaxError::new(
            node.at.max(table_at),
            "yaml: map merge requires map or sequence of maps as the value",
        )),
    }
}

/// How many nodes a tree has, and how many levels.
fn size(node: &Node) -> (usize, usize) {
    let sum = |sizes: &mut dyn Iterator<Item = (usize, usize)>| {
        sizes.fold((1, 1), |(n, levels), (child_n, child_levels)| {
            (n + child_n, levels.max(child_levels + 1))
        })
    };
    match &node.value {
        Value::List(nodes) => sum(&mut nodes.iter().map(size)),
        Value::Table(entries) => sum(&mut entries.iter().map(|entry| size(&entry.node))),
        _ => (1, 1),
    }
}

fn scalar(
    text: &str,
    style: ScalarStyle,
    tag: Option<&Tag>,
    at: usize,
) -> Result<Value, SyntaxError> {
    let tag = tag.filter(|tag| tag.is_yaml_core_schema());
    let tag = tag.map(|tag| tag.suffix.as_str());
    if tag == Some("str") {
        return Ok(Value::Str(text.to_owned()));
    }
    if style != ScalarStyle::Plain && tag.is_none() {
        return Ok(Value::Str(text.to_owned()));
    }
    let value = plain(text);
    let fits = match (tag, &value) {
        (Some("int"), value) => matches!(value, Value::Int(_)),
        (Some("float"), value) => matches!(value, Value::Int(_) | Value::Float(_)),
        (Some("bool"), value) => matches!(value, Value::Bool(_)),
        (Some("null"), value) => matches!(value, Value::Null),
        _ => true,
    };
    if fits {
        return Ok(value);
    }
    let message = format!(
        "yaml: cannot decode `{text}` as a !!{}",
        tag.unwrap_or("str")
    );
    Err(SyntaxError::new(at, message))
}

/// What a plain scalar means to go-yaml.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Value::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Value::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Value::Str(text.to_owned());
    }
    let digits = text.replace('_', "");
    if let Some(number) = whole(&digits) {
        return Value::Int(number);
    }
    let is_float = digits
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))
        && digits.bytes().any(|b| b.is_ascii_digit());
    match digits.parse() {
        Ok(number) if is_float => Value::Float(number),
        _ => Value::Str(text.to_owned()),
    }
}

/// A whole number with Go's prefixes: `0x`, `0o`, `0b`, and a leading zero for octal.
fn whole(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = if let Some(digits) = lower.strip_prefix("0x") {
        (16, digits)
    } else if let Some(digits) = lower.strip_prefix("0o") {
        (8, digits)
    } else if let Some(digits) = lower.strip_prefix("0b") {
        (2, digits)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, &*lower)
    };
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()
}

/// From the parser's positions, in characters, to bytes.
struct Offsets {
    /// The first byte of each character; empty when every character is one byte.
    starts: Vec<usize>,
    len: usize,
}

impl Offsets {
    fn new(text: &str) -> Self {
        let starts = if text.is_ascii() {
            Vec::new()
        } else {
            text.char_indices().map(|(at, _)| at).collect()
        };
        Self {
            starts,
            len: text.len(),
        }
    }

    fn byte(&self, char_idx: usize) -> usize {
        if self.starts.is_empty() {
            return char_idx.min(self.len);
        }
        self.starts.get(char_idx).copied().unwrap_or(self.len)
    }
}
