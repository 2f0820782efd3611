//! Runs the built programs against each other and against Go frp, and measures them.
//!
//! Nothing of Holdfast is linked in here: what is under test are two executables, their
//! configuration files, their logs and their sockets. A test reads like this:
//!
//! 1. [`Programs`] says whose `frps` and `frpc` are meant,
//! 2. [`PairBuilder`] writes both configurations for a [`Link`] and a list of [`Proxy`]s and
//!    starts the two, with a [`Service`] behind them,
//! 3. [`traffic`] sends numbered or checksummed bytes through the tunnel as a user would,
//! 4. dropping the [`Pair`] kills what was started; when the test fails, the logs are printed.
//!
//! A [`Lab`] puts a bad link between the two.
//!
//! Everything waits for an event (a log line, a connect, a reply) with [`PATIENCE`] as its bound.

pub mod bulk;
pub mod bursts;
mod certificates;
pub mod dashboards;
mod data;
mod detour;
pub mod events;
pub mod fault_table;
pub mod fleet;
mod forwarder;
pub mod interrupt;
pub mod intruder;
pub mod lab;
mod link;
pub mod name_server;
pub mod observe;
mod pair;
pub mod plain_scenario;
mod ports;
mod process;
mod programs;
pub mod prometheus;
mod proxy;
pub mod scenario;
mod service;
mod stage;
mod tls_terminator;
pub mod traffic;
pub mod webhook;
pub mod words;

use std::time::Duration;

pub use certificates::Certificates;
pub use data::Pattern;
pub use detour::Detour;
pub use forwarder::Forwarder;
pub use intruder::Intruder;
pub use lab::{BackEnd, Direction, Fault, Lab, Place, Profile};
pub use link::{Link, Mux, Tls, Transport, Wire};
pub use pair::{CLIENT_METRICS, Pair, PairBuilder};
pub use ports::free_port;
pub use process::Process;
pub use programs::{Programs, Sides};
pub use prometheus::Prometheus;
pub use proxy::{Proxy, ProxyKind};
pub use service::{Op, Service, UdpEcho};
pub use stage::{FreshCounts, Manner, Seen, Stage, Tunnel};
pub use tls_terminator::TlsTerminator;

/// How long anything may take before it counts as failed. Far above what is needed, because a
/// machine that also compiles is slow; no test waits this long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(30);
