//! Walks a tree against the keys that exist. What is wrong is reported, all of it; what is right
//! comes out as a figment value under frp's own spelling of the keys.

use std::collections::BTreeSet;

use figment::value::{Dict, Tag, Value as Figment};

use super::format::Format;
use super::node::{Entry, Node, Value};
use super::report::Report;
use super::shape::{Field, Shape, Table, Variant, Variants};
use super::suggest;

/// Walks the tree of file number `file` of the report. What is `None` counts as not set.
pub(super) fn check(
    report: &mut Report,
    file: usize,
    root: &Node,
    format: Format,
    shape: Shape,
    strict: bool,
) -> Dict {
    let Shape::Table(table) = shape else {
        return Dict::new();
    };
    let mut walk = Walk {
        report,
        file,
        strict,
        format,
        root: table,
    };
    match &root.value {
        Value::Null => Dict::new(),
        Value::Table(entries) => walk.table(root, entries, table, &Place::root()),
        other => {
            let message = format!(
                "json: cannot unmarshal {} into Go value of type {}",
                other.go_name(),
                table.go_name,
            );
            walk.report.error_at(file, root.at, "", None, message);
            Dict::new()
        }
    }
}

struct Walk<'a> {
    report: &'a mut Report,
    file: usize,
    strict: bool,
    format: Format,
    root: &'static Table,
}

/// Where the walk is.
#[derive(Clone)]
struct Place {
    /// The key, with dots and indexes.
    path: String,
    /// What frp's decoder says first about errors in an entry of `proxies` or `visitors`.
    entry_context: String,
    /// What it says before its errors here; begins with `entry_context`.
    context: String,
    /// Go's name of the struct, inside of which errors are worded differently.
    go_struct: Option<&'static str>,
}

impl Place {
    fn root() -> Self {
        Self {
            path: String::new(),
            entry_context: String::new(),
            context: String::new(),
            go_struct: None,
        }
    }

    fn key(&self, key: &str) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        Self {
            path: format!("{}{dot}{key}", self.path),
            ..self.clone()
        }
    }

    fn index(&self, idx: usize) -> Self {
        let path = format!("{}[{idx}]", self.path);
        let context = match self.path.as_str() {
            "proxies" => format!("decode proxy at index {idx}: "),
            "visitors" => format!("decode visitor at index {idx}: "),
            _ => {
                return Self {
                    path,
                    ..self.clone()
                };
            }
        };
        Self {
            path,
            entry_context: context.clone(),
            context,
            go_struct: None,
        }
    }
}

impl Walk<'_> {
    fn value(&mut self, node: &Node, shape: Shape, place: &Place) -> Option<Figment> {
        self.report.place(self.file, &place.path, node.at);
        match (shape, &node.value) {
            (_, Value::Null) => None,
            (Shape::Str, Value::Str(text)) => Some(Figment::from(text.as_str())),
            (Shape::Bool, Value::Bool(flag)) => Some(Figment::from(*flag)),
            (Shape::Int(_), Value::Int(number)) => Some(Figment::from(*number)),
            (Shape::Int(go_name), Value::Float(number)) => match whole(*number) {
                Some(number) => Some(Figment::from(number)),
                None => self.wrong_type(node, go_name, place),
            },
            (Shape::Float, Value::Float(number)) => Some(Figment::from(*number)),
            #[expect(
                clippy::cast_precision_loss,
                reason = "no such number has so many digits"
            )]
            (Shape::Float, Value::Int(number)) => Some(Figment::from(*number as f64)),
            (Shape::List(item), Value::List(nodes)) => {
                let items = nodes.iter().enumerate();
                let items = items.map(|(idx, node)| {
                    let (shape, place) = (item(), place.index(idx));
                    // A bad entry leaves its place, so that the ones after it keep their numbers.
                    self.item(node, shape, &place)
                        .unwrap_or_else(|| zero(shape))
                });
                Some(Figment::Array(Tag::Default, items.collect()))
            }
            (Shape::Map(item), Value::Table(entries)) => {
                let mut map = Dict::new();
                for entry in entries {
                    let place = place.key(&entry.key);
                    if let Some(value) = self.value(&entry.node, item(), &place) {
                        map.insert(entry.key.clone(), value);
                    }
                }
                Some(Figment::Dict(Tag::Default, map))
            }
            (Shape::Table(table), Value::Table(entries)) => {
                let dict = self.table(node, entries, table, place);
                Some(Figment::Dict(Tag::Default, dict))
            }
            (
                Shape::Table(Table {
                    short: Some(key), ..
                }),
                Value::Str(text),
            ) => {
                self.report.place(self.file, &place.key(key).path, node.at);
                let text = Figment::from(text.as_str());
                let dict = Dict::from([((*key).to_owned(), text)]);
                Some(Figment::Dict(Tag::Default, dict))
            }
            (shape, _) => self.wrong_type(node, &go_name(shape), place),
        }
    }

    /// An entry of a list. A null is the zero value, except where a type is needed.
    fn item(&mut self, node: &Node, shape: Shape, place: &Place) -> Option<Figment> {
        let needs_type = matches!(shape, Shape::Table(table) if table.variants.is_some());
        if node.value == Value::Null && needs_type {
            let message = format!("{}type is required", place.context);
            self.error(node.at, place, None, message);
            return None;
        }
        self.value(node, shape, place)
    }

    fn table(
        &mut self,
        node: &Node,
        entries: &[Entry],
        table: &'static Table,
        place: &Place,
    ) -> Dict {
        let mut place = place.clone();
        let mut keys: Vec<&'static str> = table.fields.iter().map(|field| field.key).collect();
        if let Some(variants) = table.variants {
            // frp decodes a plugin after its proxy, not inside of it.
            place.context = format!("{}{}", place.entry_context, variants.outer);
            let Some(variant) = self.variant(node, entries, table, variants, &place) else {
                self.report.set_broken(self.file, &place.path);
                return Dict::new();
            };
            place.context.push_str(variants.context);
            place.go_struct = Some(variant.go_name);
            keys.retain(|key| variants.base.contains(key) || variant.keys.contains(key));
        }
        let mut dict = Dict::new();
        let mut seen = BTreeSet::new();
        for entry in entries {
            let field = table
                .field(&entry.key)
                .filter(|field| keys.contains(&field.key));
            let Some(field) = field else {
                self.unknown(entry, &keys, &place);
                continue;
            };
            let place = place.key(field.key);
            if !seen.insert(field.key) {
                let message = format!("{}key {} is already defined", place.context, entry.key);
                self.error(entry.at, &place, None, message);
                continue;
            }
            if let Some(value) = self.value(&entry.node, (field.shape)(), &place) {
                dict.insert(field.key.to_owned(), value);
            }
            // The key says more about where a value is than the value itself.
            self.report.place(self.file, &place.path, entry.at);
        }
        dict
    }

    /// The variant that `type` names.
    fn variant(
        &mut self,
        node: &Node,
        entries: &[Entry],
        table: &'static Table,
        variants: &'static Variants,
        place: &Place,
    ) -> Option<&'static Variant> {
        let is_type = |field: &Field| field.key == "type";
        let entry = entries
            .iter()
            .find(|entry| table.field(&entry.key).is_some_and(is_type));
        let (at, name, place) = match entry.map(|entry| (entry, &entry.node.value)) {
            None => (node.at, "", place.clone()),
            Some((entry, Value::Null)) => (entry.at, "", place.key("type")),
            Some((entry, Value::Str(name))) => (entry.node.at, name.as_str(), place.key("type")),
            Some((entry, other)) => {
                let message = format!(
                    "{}json: cannot unmarshal {} into Go struct field {} of type string",
                    place.context,
                    other.go_name(),
                    "typedEnvelope.type",
                );
                self.error(entry.node.at, &place.key("type"), None, message);
                return None;
            }
        };
        let variant = variants.types.iter().find(|variant| variant.name == name);
        if variant.is_none() {
            let text = match variants.missing {
                Some(missing) if name.is_empty() => missing.to_owned(),
                _ => format!("unknown {}: {name}", variants.noun),
            };
            let hint = suggest::nearest(name, variants.types.iter().map(|variant| variant.name));
            self.error(at, &place, hint, format!("{}{text}", place.context));
        }
        variant
    }

    fn unknown(&mut self, entry: &Entry, keys: &[&'static str], place: &Place) {
        let is_anchor_holder =
            self.format == Format::Yaml && place.path.is_empty() && entry.key.starts_with('.');
        if !self.strict || is_anchor_holder {
            return;
        }
        let hint = suggest::key(&entry.key, keys, &place.path, self.root);
        let message = format!("{}json: unknown field {:?}", place.context, entry.key);
        self.error(entry.at, &place.key(&entry.key), hint, message);
    }

    fn wrong_type(&mut self, node: &Node, go_name: &str, place: &Place) -> Option<Figment> {
        let what = node.value.go_name();
        let message = match place.go_struct {
            Some(go_struct) => {
                let field = place.path.rsplit('.').next().unwrap_or_default();
                format!(
                    "{}json: cannot unmarshal {what} into Go struct field {go_struct}.{field} of \
                     type {go_name}",
                    place.context,
                )
            }
            None if !place.context.is_empty() => format!(
                "{}json: cannot unmarshal {what} into Go value of type {go_name}",
                place.context,
            ),
            None => format!(
                "field \"{}\": cannot unmarshal {what} into {go_name}",
                place.path
            ),
        };
        self.error(node.at, place, None, message);
        None
    }

    fn error(&mut self, at: usize, place: &Place, hint: Option<String>, message: String) {
        self.report
            .error_at(self.file, at, &place.path, hint, message);
    }
}

/// What stands for a value that is not there.
fn zero(shape: Shape) -> Figment {
    match shape {
        Shape::Str => Figment::from(""),
        Shape::Int(_) => Figment::from(0),
        Shape::Float => Figment::from(0.0),
        Shape::Bool => Figment::from(false),
        Shape::List(_) => Figment::Array(Tag::Default, Vec::new()),
        Shape::Map(_) | Shape::Table(_) => Figment::Dict(Tag::Default, Dict::new()),
    }
}

/// A number without a fraction. TOML and YAML reach frp's decoder as JSON, where 7000.0 is 7000.
fn whole(number: f64) -> Option<i64> {
    /// Beyond it a float does not say which whole number is meant.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "checked to be whole and in range"
    )]
    let whole = (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64);
    whole
}

/// Go's name of the type that was expected.
fn go_name(shape: Shape) -> String {
    match shape {
        Shape::Str => "string".to_owned(),
        Shape::Int(name) => name.to_owned(),
        Shape::Float => "float64".to_owned(),
        Shape::Bool => "bool".to_owned(),
        Shape::List(item) => match item() {
            // frp decodes these one by one.
            Shape::Table(table) if table.variants.is_some() => "[]jsonx.RawMessage".to_owned(),
            item => format!("[]{}", go_name(item)),
        },
        Shape::Map(item) => format!("map[string]{}", go_name(item())),
        Shape::Table(table) => table.go_name.to_owned(),
    }
}
