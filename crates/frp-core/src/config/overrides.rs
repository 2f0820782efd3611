//! Keys from the environment and from flags: text that is read as the key's type asks.

use figment::value::{Dict, Tag, Value as Figment};

use super::Flag;
use super::error::{ConfigError, Origin};
use super::report::Report;
use super::shape::{Field, Shape, Table};
use super::suggest;
use super::values::{PortRange, parse_port_ranges};

/// What the names of our variables begin with.
const PREFIX: &str = "HOLDFAST_";

/// Reads the `HOLDFAST_*` variables among `variables`.
///
/// `HOLDFAST_TRANSPORT__TLS__FORCE` is `transport.tls.force`: two underscores go one table deeper,
/// single ones and the case do not matter. A variable that only the other program knows
/// (`other`) is not for us: both may run in one environment.
pub(super) fn from_env(
    report: &mut Report,
    variables: impl Iterator<Item = (String, String)>,
    root: &'static Table,
    other: &'static Table,
    strict: bool,
) -> Dict {
    let mut dict = Dict::new();
    let mut variables: Vec<_> = variables
        .filter(|(name, _)| {
            let prefix = name.get(..PREFIX.len());
            prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(PREFIX))
        })
        .collect();
    variables.sort();
    for (name, value) in variables {
        let segments: Vec<&str> = name[PREFIX.len()..].split("__").collect();
        let origin = Origin::Env(name.clone());
        match find(root, &segments, is_same_plainly) {
            Some((path, shape)) => {
                set(report, &mut dict, origin, &path, shape, &value);
            }
            None if !strict || find(other, &segments, is_same_plainly).is_some() => {}
            None => {
                let hint = nearest_variable(root, &name);
                report.push(ConfigError {
                    origin,
                    key: String::new(),
                    hint,
                    message: "no such key".to_owned(),
                });
            }
        }
    }
    dict
}

/// Reads `flags`, whose keys are spelled exactly.
pub(super) fn from_flags(report: &mut Report, flags: &[Flag], root: &'static Table) -> Dict {
    let mut dict = Dict::new();
    for flag in flags {
        let segments: Vec<&str> = flag.key.split('.').collect();
        let origin = Origin::Flag(flag.flag.clone());
        match find(root, &segments, |key, segment| key == segment) {
            Some((path, shape)) => set(report, &mut dict, origin, &path, shape, &flag.value),
            None => report.push(ConfigError {
                origin,
                key: flag.key.clone(),
                hint: None,
                message: format!("{}: no such key: {}", flag.flag, flag.key),
            }),
        }
    }
    dict
}

/// The path of a key in frp's spelling, and its shape.
fn find(
    root: &'static Table,
    segments: &[&str],
    is_same: fn(&str, &str) -> bool,
) -> Option<(Vec<String>, Shape)> {
    let mut shape = Shape::Table(root);
    let mut path = Vec::new();
    for segment in segments {
        match shape {
            Shape::Table(table) => {
                let is_meant = |field: &&Field| is_same(field.key, segment);
                let field = table.fields.iter().find(is_meant)?;
                path.push(field.key.to_owned());
                shape = (field.shape)();
            }
            // The keys of maps are the user's own.
            Shape::Map(item) if !segment.is_empty() => {
                path.push((*segment).to_owned());
                shape = item();
            }
            _ => return None,
        }
    }
    Some((path, shape))
}

/// `SERVER_ADDR` is `serverAddr`.
fn is_same_plainly(key: &str, segment: &str) -> bool {
    let letters = segment.bytes().filter(|byte| *byte != b'_');
    letters
        .map(|byte| byte.to_ascii_lowercase())
        .eq(key.bytes().map(|byte| byte.to_ascii_lowercase()))
}

/// The hint for a variable that names no key.
fn nearest_variable(root: &'static Table, name: &str) -> Option<String> {
    let mut names = Vec::new();
    collect(root, PREFIX, 0, &mut names);
    suggest::nearest(name, names.iter().map(String::as_str))
}

/// The variables of all keys under `table`.
fn collect(table: &'static Table, prefix: &str, depth: usize, names: &mut Vec<String>) {
    for field in table.fields {
        let name = format!("{prefix}{}", upper(field.key));
        match (field.shape)() {
            Shape::Table(inner) if depth < 5 => {
                collect(inner, &format!("{name}__"), depth + 1, names);
            }
            _ => names.push(name),
        }
    }
}

/// `serverAddr` as `SERVER_ADDR`, `proxyURL` as `PROXY_URL`.
fn upper(key: &str) -> String {
    let mut name = String::new();
    let mut was_lower = false;
    for c in key.chars() {
        if c.is_ascii_uppercase() && was_lower {
            name.push('_');
        }
        was_lower = !c.is_ascii_uppercase();
        name.push(c.to_ascii_uppercase());
    }
    name
}

fn set(
    report: &mut Report,
    dict: &mut Dict,
    origin: Origin,
    path: &[String],
    shape: Shape,
    text: &str,
) {
    let key = path.join(".");
    match read(shape, text, &key) {
        Ok(value) => {
            let mut path = path.to_vec();
            if let Shape::Table(Table {
                short: Some(short), ..
            }) = shape
            {
                path.push((*short).to_owned());
            }
            report.set_override(&path.join("."), origin);
            insert(dict, &path, value);
        }
        Err(message) => {
            report.set_broken(0, &key);
            report.push(ConfigError {
                message: match &origin {
                    // A flag's error is printed bare, so it has to name the flag itself.
                    Origin::Flag(flag) => {
                        format!("invalid argument {text:?} for {flag:?} flag: {message}")
                    }
                    _ => message,
                },
                origin,
                key,
                hint: None,
            });
        }
    }
}

fn insert(dict: &mut Dict, path: &[String], value: Figment) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        dict.insert(first.clone(), value);
        return;
    }
    let inner = dict
        .entry(first.clone())
        .or_insert_with(|| Figment::Dict(Tag::Default, Dict::new()));
    if let Figment::Dict(_, inner) = inner {
        insert(inner, rest, value);
    }
}

/// Reads text as a shape asks.
fn read(shape: Shape, text: &str, key: &str) -> Result<Figment, String> {
    let wrong = |go_name: &str| format!("field {key:?}: cannot unmarshal string into {go_name}");
    match shape {
        Shape::Str | Shape::Table(Table { short: Some(_), .. }) => Ok(Figment::from(text)),
        Shape::Int(go_name) => {
            let number = text.trim().parse::<i64>().map_err(|_| wrong(go_name))?;
            Ok(Figment::from(number))
        }
        Shape::Float => {
            let number = text.trim().parse::<f64>().map_err(|_| wrong("float64"))?;
            Ok(Figment::from(number))
        }
        Shape::Bool => match text.trim() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Figment::from(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Figment::from(false)),
            _ => Err(wrong("bool")),
        },
        Shape::List(item) => match item() {
            Shape::Str => Ok(Figment::from(
                items(text).map(Figment::from).collect::<Vec<_>>(),
            )),
            Shape::Table(table) if table.go_name == "types.PortsRange" => port_ranges(text),
            Shape::Table(table) if table.go_name == "transport.auto.endpoints" => endpoints(text),
            _ => Err("cannot be given as text; use a file".to_owned()),
        },
        Shape::Map(item) => {
            let mut map = Dict::new();
            for entry in items(text) {
                let (name, value) = entry
                    .split_once('=')
                    .ok_or_else(|| format!("{entry} must be formatted as key=value"))?;
                map.insert(name.to_owned(), read(item(), value, key)?);
            }
            Ok(Figment::Dict(Tag::Default, map))
        }
        Shape::Table(_) => Err("is a table: give one of its keys".to_owned()),
    }
}

/// The parts of a list, without surrounding blanks and without empty ones.
fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

fn port_ranges(text: &str) -> Result<Figment, String> {
    if text.trim().is_empty() {
        return Ok(Figment::from(Vec::<Figment>::new()));
    }
    let ranges = parse_port_ranges(text).map_err(|err| err.to_string())?;
    let ranges = ranges.entries().iter().map(|range| {
        let dict = match range {
            PortRange::Single(port) => vec![("single", *port)],
            PortRange::Span { start, end } => vec![("start", *start), ("end", *end)],
        };
        let dict = dict
            .into_iter()
            .map(|(key, port)| (key.to_owned(), Figment::from(port)));
        Figment::Dict(Tag::Default, dict.collect())
    });
    Ok(Figment::from(ranges.collect::<Vec<_>>()))
}

/// Reads the text form of `transport.auto.endpoints`, `quic:7001,tcp:443`.
fn endpoints(text: &str) -> Result<Figment, String> {
    let endpoints = items(text).map(|item| {
        let parts = item.split_once(':');
        let parts =
            parts.and_then(|(transport, port)| Some((transport, port.parse::<i64>().ok()?)));
        let (transport, port) =
            parts.ok_or_else(|| format!("{item} must be formatted as transport:port"))?;
        let dict = Dict::from([
            ("transport".to_owned(), Figment::from(transport)),
            ("port".to_owned(), Figment::from(port)),
        ]);
        Ok(Figment::Dict(Tag::Default, dict))
    });
    Ok(Figment::from(
        endpoints.collect::<Result<Vec<_>, String>>()?,
    ))
}
