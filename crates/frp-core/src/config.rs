//! Configuration: from a file, or flags, to checked values.
//!
//! A file goes through these steps (`load`). Its template is rendered (`template`), its format is
//! found by its content and it is parsed into one tree that knows lines and columns (`node`). The
//! tree is walked against the keys that exist (`check`, `shape`, `raw`), which finds unknown keys
//! and wrong types, all of them. figment lays the environment (`HOLDFAST_*`) over it
//! (`overrides`). What comes out has frp's meaning of "not set", gets defaults, and is checked
//! (`validate`). Features that frp has and we do not have yet are refused when used
//! (`unsupported`).

mod auth;
mod check;
mod client;
mod common;
mod env;
mod error;
mod format;
mod includes;
mod json;
mod link;
mod load;
mod node;
mod overrides;
mod proxy;
mod raw;
mod raw_proxy;
mod raw_recovery;
mod raw_switching;
mod recovery;
mod report;
mod server;
mod shape;
mod source;
mod suggest;
mod switching;
mod template;
mod texts;
mod toml;
mod unsupported;
mod validate;
mod values;
mod yaml;

use std::path::Path;

use env::Env;
use load::Input;

pub use auth::{AuthConfig, AuthScopes, TokenError, TokenSource, resolve_token};
pub use client::{ClientConfig, ClientTls, ClientTransport, WireProtocol};
pub use common::{LogConfig, LogFormat, LogLevel, LogTarget, UnknownLogLevel, WebServerConfig};
pub use error::{ConfigError, ConfigErrors, Origin};
pub use link::{
    MaxRate, MaxRateError, QuicBackend, QuicConfig, QuicCongestion, TcpConfig, TcpCongestion,
};
pub use proxy::{
    LimitMode, ProxyConfig, ProxyKind, ProxyProtocol, ProxyTransport, VisitorConfig, VisitorKind,
    VisitorTransport,
};
pub use recovery::{AlertConfig, AlertLevel, AlertTarget, RecoveryConfig, RecoveryPart};
pub use server::{ServerConfig, ServerTls, ServerTransport};
pub use switching::{AutoEndpoint, ClientAuto, HoldConfig, Protocol, ServerAuto};
pub use texts::{ClientTexts, TextFile};
pub use values::{
    Bandwidth, BandwidthError, CertificatePin, PinError, PortRange, PortRanges, ProxyUrl,
    RangeError, Secret, parse_port_ranges,
};

/// How a configuration is read.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Whether unknown keys are errors (`--strict-config`).
    pub strict: bool,
    /// Whether `HOLDFAST_*` variables are laid over the file.
    pub env: bool,
    /// The risky features that are allowed (`--allow-unsafe`): `TokenSourceExec`.
    pub allow_unsafe: Vec<String>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            strict: true,
            env: true,
            allow_unsafe: Vec::new(),
        }
    }
}

/// A configuration that may be used, and what the operator should hear about it.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The checked values.
    pub config: T,
    /// To be printed as `WARNING: ...`, a line each, on standard output.
    pub warnings: Vec<String>,
}

/// A command-line flag and the key that it sets. Its value is text, read as the key's type asks;
/// lists are separated by commas, maps are `k=v,k2=v2`, `allowPorts` is `1000-2000,3000`.
#[derive(Clone, Debug)]
pub struct Flag {
    /// The flag's name, for errors: `--bind-port`.
    pub flag: String,
    /// The key, with dots: `transport.tls.force`.
    pub key: String,
    /// Its value.
    pub value: String,
}

impl Flag {
    /// The flag `flag` that sets `key` to `value`.
    pub fn new(flag: impl Into<String>, key: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            flag: flag.into(),
            key: key.into(),
            value: value.into(),
        }
    }
}

/// Loads the configuration of frps from `path`.
pub fn load_server(
    path: &Path,
    options: &LoadOptions,
) -> Result<Loaded<ServerConfig>, ConfigErrors> {
    load::server(&Input::File(path), options, &Env::of_process())
}

/// Loads the configuration of frpc from `path` and the files that it includes.
pub fn load_client(
    path: &Path,
    options: &LoadOptions,
) -> Result<Loaded<ClientConfig>, ConfigErrors> {
    load::client(&Input::File(path), None, options, &Env::of_process())
}

/// Does the same, and returns the texts that it read as well, wrong or right, so that exactly these
/// can be kept.
pub fn load_client_with_texts(
    path: &Path,
    options: &LoadOptions,
) -> (Result<Loaded<ClientConfig>, ConfigErrors>, ClientTexts) {
    let mut texts = ClientTexts::default();
    let input = Input::File(path);
    let loaded = load::client_with_texts(&input, None, options, &Env::of_process(), &mut texts);
    (loaded, texts)
}

/// Loads the configuration of frpc from texts that were kept, as if they were the files.
pub fn load_client_from_texts(
    texts: &ClientTexts,
    options: &LoadOptions,
) -> Result<Loaded<ClientConfig>, ConfigErrors> {
    load::client(&Input::Kept(texts), None, options, &Env::of_process())
}

/// The configuration of frps from flags alone, without a file.
pub fn server_from_flags(
    flags: &[Flag],
    options: &LoadOptions,
) -> Result<Loaded<ServerConfig>, ConfigErrors> {
    load::server(&Input::Flags(flags), options, &Env::of_process())
}

/// What the single-proxy commands of frpc run: exactly one proxy or visitor.
#[derive(Clone, Debug)]
pub enum Single {
    /// An entry of `proxies`; `type` among the flags.
    Proxy(Vec<Flag>),
    /// An entry of `visitors`; `type` among the flags.
    Visitor(Vec<Flag>),
}

/// The configuration of frpc from flags alone, without a file.
pub fn client_from_flags(
    common: &[Flag],
    single: &Single,
    options: &LoadOptions,
) -> Result<Loaded<ClientConfig>, ConfigErrors> {
    load::client(
        &Input::Flags(common),
        Some(single),
        options,
        &Env::of_process(),
    )
}

/// Checks the text of a client's file as [`load_client`] does, as if it were the file `path`: for
/// an admin API that takes a new file and must not keep a broken one.
pub fn check_client_text(
    path: &Path,
    text: &[u8],
    options: &LoadOptions,
) -> Result<Loaded<ClientConfig>, ConfigErrors> {
    load::client(&Input::Text(path, text), None, options, &Env::of_process())
}

/// Loads `data` in every way, for [`crate::fuzzing`].
pub(crate) fn read_any_bytes(data: &[u8]) {
    let env = Env::sealed(&[("NAME", "value"), ("HOLDFAST_USER", "someone")]);
    for (name, strict) in [("any", true), ("any.toml", false)] {
        let options = LoadOptions {
            strict,
            ..LoadOptions::default()
        };
        let input = Input::Text(Path::new(name), data);
        if let Err(errors) = load::client(&input, None, &options, &env) {
            assert!(!errors.to_string().is_empty(), "an error says something");
        }
        if let Err(errors) = load::server(&input, &options, &env) {
            for error in errors.iter() {
                if let Origin::File { place, .. } = &error.origin {
                    assert!(place.is_none_or(|(line, column)| line > 0 && column > 0));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
