//! The rules, one at a time: formats, places of errors, texts of errors, layers.

#![allow(clippy::unwrap_used, reason = "tests")]

mod examples;
mod formats;
mod includes;
mod link;
mod overrides;
mod properties;
mod proxies;
mod recovery;
mod spans;
mod switching;
mod validation;

use std::path::Path;

use super::*;

/// Loads a client's file that is called `frpc.toml`, without an environment.
fn client(text: &str) -> Result<Loaded<ClientConfig>, String> {
    client_named("frpc.toml", text, &[], true)
}

/// Loads a client's file that has no extension, so that its content decides the format.
fn client_of_any_format(text: &str) -> Result<Loaded<ClientConfig>, String> {
    client_named("frpc", text, &[], true)
}

fn client_named(
    name: &str,
    text: &str,
    env: &[(&str, &str)],
    strict: bool,
) -> Result<Loaded<ClientConfig>, String> {
    let options = LoadOptions {
        strict,
        ..LoadOptions::default()
    };
    let input = Input::Text(Path::new(name), text.as_bytes());
    load::client(&input, None, &options, &Env::sealed(env)).map_err(|errors| errors.to_string())
}

/// Loads a server's file that is called `frps.toml`, without an environment.
fn server(text: &str) -> Result<Loaded<ServerConfig>, String> {
    server_with(text, &[], true)
}

fn server_with(
    text: &str,
    env: &[(&str, &str)],
    strict: bool,
) -> Result<Loaded<ServerConfig>, String> {
    let options = LoadOptions {
        strict,
        ..LoadOptions::default()
    };
    let input = Input::Text(Path::new("frps.toml"), text.as_bytes());
    load::server(&input, &options, &Env::sealed(env)).map_err(|errors| errors.to_string())
}

/// The errors of a client's file, without the lines' ends.
fn client_errors(text: &str) -> Vec<String> {
    lines(client(text))
}

/// The errors of a server's file.
fn server_errors(text: &str) -> Vec<String> {
    lines(server(text))
}

fn lines<T: std::fmt::Debug>(result: Result<T, String>) -> Vec<String> {
    result.unwrap_err().lines().map(str::to_owned).collect()
}
