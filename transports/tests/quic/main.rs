//! QUIC on loopback: who gets in, what holds on a bad path, and what a stream does at its end.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(
    unreachable_pub,
    reason = "a program, whose modules see each other's items"
)]

mod path;
mod strangers;
mod streams;
mod support;
mod tls;
