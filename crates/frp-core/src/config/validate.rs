//! Defaults and checks: from what the files say to values that may be used. The texts are frp's.

mod auth;
mod client;
mod common;
mod link;
mod names;
mod proxy;
mod recovery;
mod server;
mod switching;

pub(super) use client::client;
pub(super) use server::server;

use super::LoadOptions;
use super::env::Env;
use super::report::Report;
use super::unsupported::Feature;

/// What the checks need.
pub(super) struct Context<'a> {
    /// Where errors and warnings go.
    pub(super) report: &'a mut Report,
    /// What the operator has allowed.
    pub(super) options: &'a LoadOptions,
    /// The environment, for `http_proxy`.
    pub(super) env: &'a Env,
}

impl Context<'_> {
    /// An error about a key of the main file.
    fn error(&mut self, key: &str, message: impl Into<String>) {
        self.report.error(MAIN_FILE, key, message);
    }

    /// Refuses the features of `table` that `config` uses.
    fn refuse<T>(&mut self, table: &[Feature<T>], config: &T) {
        for (key, message) in table.iter().filter_map(|feature| feature.refuse(config)) {
            self.error(key, message);
        }
    }
}

/// The number of the file that was asked for; the others are included by it.
const MAIN_FILE: usize = 0;

/// An entry of a list, and which one it is.
pub(super) struct Located<T> {
    /// What the file says.
    pub(super) raw: T,
    /// The file's number.
    pub(super) file: usize,
    /// `proxies[2]`, counted within its file. Empty when there is no file.
    pub(super) path: String,
}

impl<T> Located<T> {
    /// An entry that comes from flags.
    pub(super) fn alone(raw: T) -> Self {
        Self {
            raw,
            file: MAIN_FILE,
            path: String::new(),
        }
    }

    /// The full path of one of its keys.
    fn key(&self, key: &str) -> String {
        let dot = if self.path.is_empty() { "" } else { "." };
        format!("{}{dot}{key}", self.path)
    }
}
