//! Alerts: who is told of trouble, and when it is over.
//!
//! [`Alerts::raise`] and [`Alerts::resolve`] return at once. What is told to whom is decided by the
//! pure [`book`]: by level, and not again before the time that is set for that. Each entry of the
//! configuration has a queue and a task ([`sink`]), which asks a [`webhook`] or starts a
//! [`command`]. One that is dead, or slow, fills its own queue and delays nobody.

pub mod book;
mod command;
mod sink;
mod webhook;

use std::time::Instant;

use frp_core::config::{AlertConfig, AlertLevel, ClientConfig};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::context::unix_now;
use book::{Book, Rule};
use sink::Sink;

/// What is sent: the body of a webhook's request, and a command's standard input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `frpc`.
    pub program: &'static str,
    /// Ours.
    pub version: &'static str,
    /// Which client this is: `user.clientID`, or the host's name.
    pub client: String,
    /// The server, as the configuration has it.
    pub server: String,
    /// Names the trouble: the same until it is resolved.
    pub key: String,
    /// `firing` or `resolved`.
    pub state: &'static str,
    /// `info`, `warning` or `critical`: the highest so far.
    pub level: &'static str,
    /// What is wrong, or is over, in a sentence.
    pub summary: String,
    /// When it began, in seconds since 1970.
    pub since: i64,
    /// When this was said, in seconds since 1970.
    pub at: i64,
}

/// Everybody who is told. Ends its tasks when it is dropped.
#[derive(Debug)]
pub struct Alerts {
    client: String,
    server: String,
    book: Mutex<Book>,
    sinks: Vec<Sink>,
}

/// What became of the messages to one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SinkStatus {
    /// `webhook` or `command`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The webhook's host, or the command's name: the rest may be secret.
    pub target: String,
    /// From which level on.
    pub level: String,
    /// Messages that were taken.
    pub sent: u64,
    /// Messages that were not, after all attempts.
    pub failed: u64,
    /// Messages that found the queue full.
    pub dropped: u64,
    /// Messages that wait.
    pub waiting: usize,
    /// What went wrong last, or empty once it works again.
    pub error: String,
}

/// One trouble that is not over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ActiveStatus {
    /// Names it.
    pub key: String,
    /// The highest so far.
    pub level: String,
    /// In a sentence.
    pub summary: String,
    /// In seconds since 1970.
    pub since: i64,
}

impl Alerts {
    /// Tells those of `configs`, in the name of the client of `config`. Needs a runtime where there
    /// is somebody to tell.
    pub fn new(config: &ClientConfig, configs: &[AlertConfig]) -> Self {
        let rules = configs.iter().map(|config| Rule {
            level: config.level,
            repeat: config.repeat,
        });
        Self {
            client: name_of(config),
            server: format!("{}:{}", config.server_addr, config.server_port),
            book: Mutex::new(Book::new(rules.collect())),
            sinks: configs.iter().map(Sink::start).collect(),
        }
    }

    /// Something is wrong, or still is. Returns at once.
    pub fn raise(&self, key: &str, level: AlertLevel, summary: &str) {
        let mut book = self.book.lock();
        let told = book.raise(Instant::now(), unix_now(), key, level, summary);
        self.tell(key, "firing", told);
    }

    /// It is over. Whoever was told of it is told that as well. Returns at once.
    pub fn resolve(&self, key: &str, summary: &str) {
        let mut book = self.book.lock();
        let told = book.resolve(key, summary);
        self.tell(key, "resolved", told);
    }

    /// What became of the messages.
    pub fn sinks(&self) -> Vec<SinkStatus> {
        self.sinks.iter().map(Sink::status).collect()
    }

    /// What is not over.
    pub fn active(&self) -> Vec<ActiveStatus> {
        self.book.lock().active()
    }

    fn tell(&self, key: &str, state: &'static str, told: Option<book::Told>) {
        let Some(told) = told else { return };
        let message = Message {
            program: "frpc",
            version: env!("CARGO_PKG_VERSION"),
            client: self.client.clone(),
            server: self.server.clone(),
            key: key.to_owned(),
            state,
            level: told.level.name(),
            summary: told.summary,
            since: told.since,
            at: unix_now(),
        };
        for idx in told.sinks {
            if let Some(sink) = self.sinks.get(idx) {
                sink.queue(message.clone());
            }
        }
    }
}

/// What this client is called.
fn name_of(config: &ClientConfig) -> String {
    let parts = [config.user.as_str(), config.client_id.as_str()];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    match parts.is_empty() {
        true => crate::context::hostname(),
        false => parts.join("."),
    }
}

/// Counts what became of a message.
fn count(kind: &'static str, result: &'static str) {
    metrics::counter!("holdfast_alerts_total", "type" => kind, "result" => result).increment(1);
}
