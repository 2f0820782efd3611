//! WebSocket on loopback: every branch of dialling and listening.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(
    unreachable_pub,
    dead_code,
    reason = "a program, whose modules see each other's items; some of the support is for another"
)]

mod dial;
mod listen;
mod support;
#[path = "../tcp/support.rs"]
mod tcp_support;
