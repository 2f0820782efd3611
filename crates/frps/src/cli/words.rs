//! What differs between clap and frp's parser: how flags may be written, and what errors read like.

use std::ffi::OsString;
use std::num::IntErrorKind;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use frp_core::config::parse_port_ranges;

use super::{EarlyExit, command};

/// `--bind_addr=x_y` is `--bind-addr=x_y`.
pub(super) fn normalise(arg: OsString) -> OsString {
    let Some(flag) = arg.to_str().and_then(|text| text.strip_prefix("--")) else {
        return arg;
    };
    let (name, value) = match flag.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (flag, None),
    };
    // A value that merely starts with two hyphens is left alone unless it looks like a flag.
    if !name.contains('_')
        || !name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
    {
        return arg;
    }
    let name = name.replace('_', "-");
    match value {
        Some(value) => format!("--{name}={value}").into(),
        None => format!("--{name}").into(),
    }
}

/// Says what clap found in frp's words.
pub(super) fn explain(error: &clap::Error) -> EarlyExit {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let flag = || context(ContextKind::InvalidArg).unwrap_or_default();
    let text = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let stdout = error.render().to_string();
            return EarlyExit {
                stdout,
                stderr: String::new(),
                code: 0,
            };
        }
        ErrorKind::InvalidSubcommand => {
            return unknown_command(&context(ContextKind::InvalidSubcommand).unwrap_or_default());
        }
        ErrorKind::UnknownArgument => match flag() {
            flag if flag.starts_with("--") => format!("unknown flag: {flag}"),
            flag => match flag.strip_prefix('-') {
                Some(short) => format!("unknown shorthand flag: '{short}' in -{short}"),
                None => return unknown_command(&flag),
            },
        },
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let flag = flag();
            let name = bare_name(&flag);
            match context(ContextKind::InvalidValue).filter(|value| !value.is_empty()) {
                None => format!("flag needs an argument: {name}"),
                Some(value) => {
                    let cause = std::error::Error::source(error)
                        .map_or_else(|| "invalid value".to_owned(), ToString::to_string);
                    format!("invalid argument \"{value}\" for \"{name}\" flag: {cause}")
                }
            }
        }
        _ => {
            let rendered = error.render().to_string();
            let first = rendered.lines().next().unwrap_or_default();
            first.strip_prefix("error: ").unwrap_or(first).to_owned()
        }
    };
    let stderr = format!("Error: {text}\n{}\n", command().render_help());
    EarlyExit {
        stdout: String::new(),
        stderr,
        code: 1,
    }
}

/// `--config` of clap's `--config <CONFIG>`, `--strict-config` of `--strict-config[=<BOOL>]`.
fn bare_name(flag: &str) -> &str {
    flag.split([' ', '[', '=']).next().unwrap_or_default()
}

fn unknown_command(word: &str) -> EarlyExit {
    let stderr =
        format!("Error: unknown command \"{word}\" for \"frps\"\nRun 'frps --help' for usage.\n");
    EarlyExit {
        stdout: String::new(),
        stderr,
        code: 1,
    }
}

/// Takes whatever was given: the configuration's own checks come later.
pub(super) fn any_text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// Takes what Go's parser takes for an integer in decimal.
pub(super) fn check_int(text: &str) -> Result<String, String> {
    let refuse = |why: &str| Err(format!("strconv.ParseInt: parsing \"{text}\": {why}"));
    match text.parse::<i64>() {
        Ok(number) => Ok(number.to_string()),
        Err(error) => match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => refuse("value out of range"),
            _ => refuse("invalid syntax"),
        },
    }
}

/// Takes `1000-2000,3000`; nothing at all is no rule.
pub(super) fn check_ports(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    parse_port_ranges(text)
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}
