//! The functions of templates: frp's two and Go's own, as far as they are in use.

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::rc::Rc;

use super::super::values::parse_range_item;
use super::MAX_TEXT_LEN;
use super::value::Value;

/// How many numbers a range may have: every port, twice over.
const MAX_NUMBERS: usize = 131_072;

/// The widest field that `printf` fills.
const MAX_WIDTH: usize = 1024;

/// A function that a template may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    And,
    Eq,
    Ge,
    Gt,
    Index,
    Le,
    Len,
    Lt,
    Ne,
    Not,
    Or,
    ParseNumberRange,
    ParseNumberRangePair,
    Print,
    Printf,
    Println,
}

impl Function {
    /// The function `name`, or why there is none.
    pub(super) fn by_name(name: &str) -> Result<Self, String> {
        Ok(match name {
            "and" => Self::And,
            "eq" => Self::Eq,
            "ge" => Self::Ge,
            "gt" => Self::Gt,
            "index" => Self::Index,
            "le" => Self::Le,
            "len" => Self::Len,
            "lt" => Self::Lt,
            "ne" => Self::Ne,
            "not" => Self::Not,
            "or" => Self::Or,
            "parseNumberRange" => Self::ParseNumberRange,
            "parseNumberRangePair" => Self::ParseNumberRangePair,
            "print" => Self::Print,
            "printf" => Self::Printf,
            "println" => Self::Println,
            "call" | "html" | "js" | "slice" | "urlquery" => {
                return Err(format!("function {name:?} is not supported here"));
            }
            _ => return Err(format!("function {name:?} not defined")),
        })
    }
}

/// Calls `function`. `And` and `Or` are run where their arguments are evaluated.
pub(super) fn call(
    function: Function,
    values: &[Value],
    envs: &dyn Fn(&str) -> Option<String>,
) -> Result<Value, String> {
    match (function, values) {
        (Function::Not, [value]) => Ok(Value::Bool(!value.is_true())),
        (Function::Len, [value]) => len(value),
        (Function::Index, [value, indexes @ ..]) => index(value, indexes, envs),
        (Function::Eq, [first, others @ ..]) if !others.is_empty() => {
            let mut is_equal = false;
            for other in others {
                is_equal |= equal(first, other)?;
            }
            Ok(Value::Bool(is_equal))
        }
        (Function::Ne, [a, b]) => Ok(Value::Bool(!equal(a, b)?)),
        (Function::Lt, [a, b]) => Ok(Value::Bool(order(a, b)?.is_lt())),
        (Function::Le, [a, b]) => Ok(Value::Bool(order(a, b)?.is_le())),
        (Function::Gt, [a, b]) => Ok(Value::Bool(order(a, b)?.is_gt())),
        (Function::Ge, [a, b]) => Ok(Value::Bool(order(a, b)?.is_ge())),
        (Function::Print, values) => print(values).map(Value::Str),
        (Function::Println, values) => {
            let texts: Result<Vec<_>, _> = values.iter().map(Value::print).collect();
            Ok(Value::Str(texts?.join(" ") + "\n"))
        }
        (Function::Printf, [format, values @ ..]) => {
            printf(string(format)?, values).map(Value::Str)
        }
        (Function::ParseNumberRange, [text]) => {
            let numbers = numbers(string(text)?)?;
            Ok(Value::List(Rc::new(
                numbers.into_iter().map(Value::Int).collect(),
            )))
        }
        (Function::ParseNumberRangePair, [first, second]) => {
            let (first, second) = (numbers(string(first)?)?, numbers(string(second)?)?);
            if first.len() != second.len() {
                return Err("first and second range numbers are not in pairs".to_owned());
            }
            let pairs = first.into_iter().zip(second);
            Ok(Value::List(Rc::new(
                pairs.map(|(a, b)| Value::Pair(a, b)).collect(),
            )))
        }
        _ => Err("wrong number of args".to_owned()),
    }
}

fn string(value: &Value) -> Result<&str, String> {
    match value {
        Value::Str(text) => Ok(text),
        Value::Missing | Value::Nil => Err("invalid value; expected string".to_owned()),
        other => Err(format!(
            "wrong type for value; expected string; got {}",
            other.type_name()
        )),
    }
}

/// The numbers of `1000-1002,2000`.
fn numbers(text: &str) -> Result<Vec<i64>, String> {
    let mut numbers = Vec::new();
    for item in text.trim().split(',') {
        let (start, end) = parse_range_item(item).map_err(|err| err.to_string())?;
        let len = end.abs_diff(start).saturating_add(1);
        if len > (MAX_NUMBERS - numbers.len()) as u64 {
            return Err(format!("more than {MAX_NUMBERS} numbers in a range"));
        }
        numbers.extend(start..=end);
    }
    Ok(numbers)
}

fn len(value: &Value) -> Result<Value, String> {
    let len = match value {
        Value::Str(text) => text.len(),
        Value::List(items) => items.len(),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(Value::Int(i64::try_from(len).unwrap_or(i64::MAX)))
}

fn index(
    value: &Value,
    indexes: &[Value],
    envs: &dyn Fn(&str) -> Option<String>,
) -> Result<Value, String> {
    let Some((first, rest)) = indexes.split_first() else {
        return Ok(value.clone());
    };
    let item = match (value, first) {
        // Unlike `.Envs.NAME`, a missing variable is empty here: so it is in Go.
        (Value::Envs, Value::Str(name)) => Value::Str(envs(name).unwrap_or_default()),
        (Value::List(items), Value::Int(idx)) => {
            let item = usize::try_from(*idx).ok().and_then(|idx| items.get(idx));
            item.cloned()
                .ok_or_else(|| format!("index out of range: {idx}"))?
        }
        (Value::Str(text), Value::Int(idx)) => {
            let byte = usize::try_from(*idx)
                .ok()
                .and_then(|idx| text.as_bytes().get(idx));
            Value::Int(i64::from(
                *byte.ok_or_else(|| format!("index out of range: {idx}"))?,
            ))
        }
        (value, _) => return Err(format!("can't index item of type {}", value.type_name())),
    };
    index(&item, rest, envs)
}

fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Bool(_), Value::Bool(_))
        | (Value::Int(_), Value::Int(_))
        | (Value::Str(_), Value::Str(_))
        | (Value::Pair(..), Value::Pair(..)) => Ok(a == b),
        (Value::Missing | Value::Nil, other) | (other, Value::Missing | Value::Nil) => {
            Ok(matches!(other, Value::Missing | Value::Nil))
        }
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn order(a: &Value, b: &Value) -> Result<Ordering, String> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Ok(a.cmp(b)),
        (Value::Str(a), Value::Str(b)) => Ok(a.cmp(b)),
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

/// Blanks go between two values when neither is text.
fn print(values: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    for (idx, value) in values.iter().enumerate() {
        let is_text = |value: &Value| matches!(value, Value::Str(_));
        if idx > 0 && !is_text(value) && !is_text(&values[idx - 1]) {
            out.push(' ');
        }
        out.push_str(&value.print()?);
    }
    Ok(out)
}

fn printf(format: &str, values: &[Value]) -> Result<String, String> {
    let mut values = values.iter();
    let mut out = String::new();
    let mut rest = format.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let (mut is_left, mut is_zero, mut is_signed) = (false, false, false);
        while let Some(flag) = rest.next_if(|c| matches!(c, '-' | '0' | '+')) {
            is_left |= flag == '-';
            is_zero |= flag == '0';
            is_signed |= flag == '+';
        }
        let mut width = 0;
        while let Some(digit) = rest.peek().and_then(|c| c.to_digit(10)) {
            rest.next();
            width = width * 10 + digit as usize;
            if width > MAX_WIDTH {
                return Err(format!(
                    "printf: a width above {MAX_WIDTH} is not supported here"
                ));
            }
        }
        let Some(verb) = rest.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(value) = values.next() else {
            let _ = write!(out, "%!{verb}(MISSING)");
            continue;
        };
        let mut text = verb_text(verb, value)?;
        if is_signed && matches!(value, Value::Int(0..)) {
            text.insert(0, '+');
        }
        out.push_str(&padded(&text, width, is_left, is_zero));
        if out.len() > MAX_TEXT_LEN {
            return Err(format!("printf: more than {MAX_TEXT_LEN} bytes"));
        }
    }
    if values.next().is_some() {
        return Err("printf: more values than verbs".to_owned());
    }
    Ok(out)
}

fn verb_text(verb: char, value: &Value) -> Result<String, String> {
    Ok(match (verb, value) {
        ('v', value) => value.print()?,
        ('s', Value::Str(text)) => text.clone(),
        ('q', Value::Str(text)) => format!("{text:?}"),
        ('d', Value::Int(number)) => number.to_string(),
        ('x', Value::Int(number)) if *number >= 0 => format!("{number:x}"),
        ('X', Value::Int(number)) if *number >= 0 => format!("{number:X}"),
        ('t', Value::Bool(flag)) => flag.to_string(),
        ('s' | 'q' | 'd' | 'x' | 'X' | 't', value) => {
            let type_name = value.type_name();
            return Err(format!("printf: %{verb} of a value of type {type_name}"));
        }
        _ => return Err(format!("printf: %{verb} is not supported here")),
    })
}

fn padded(text: &str, width: usize, is_left: bool, is_zero: bool) -> String {
    if is_left {
        return format!("{text:<width$}");
    }
    if !is_zero {
        return format!("{text:>width$}");
    }
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => text.split_at(text.len() - digits.len()),
        None => ("", text),
    };
    let width = width.saturating_sub(sign.len());
    format!("{sign}{digits:0>width$}")
}
