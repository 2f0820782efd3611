//! Held streams between two sessions, over carriers that come and go.
//!
//! `SEED=` repeats a run with the same faults (the scheduler's order is its own).

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod bounds;
mod carriers;
mod cost;
mod ends;
mod faults;
mod rig;
mod switching;
mod traffic;
