//! frpc against a server that does exactly what a test tells it to, over a transport in memory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests"
)]

mod admin;
mod held;
mod hostile;
mod login;
mod proxies;
mod server;
mod udp;
mod visitor;
