//! KCP on loopback: who gets in, what holds on a bad path, how it ends, and somebody else's KCP.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(
    unreachable_pub,
    reason = "a program, whose modules see each other's items"
)]

mod ends;
mod fixed;
mod path;
mod strangers;
mod support;
mod theirs;
