//! The server in this process, spoken to over loopback by a client that follows a script.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod api;
mod client;
mod held;
mod hostile;
mod logins;
mod panics;
mod proxies;
mod replacement;
mod work_streams;
