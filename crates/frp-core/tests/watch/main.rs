//! Carriers that join a session, and what goes on beside its streams.

#![allow(clippy::unwrap_used, reason = "tests")]

mod flows;
mod joining;
mod rig;
mod watching;
