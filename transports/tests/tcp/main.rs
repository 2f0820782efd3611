//! TCP and TLS on loopback: every branch of dialling and listening.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(
    unreachable_pub,
    reason = "a program, whose modules see each other's items"
)]

mod listen;
mod proxies;
mod sending;
mod support;
mod tls;
