//! The probers and the switch policy over simulated links.
//!
//! Each scenario runs under many seeds. A failure prints the seed; `SIM_SEED` runs that one alone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "what was measured, for the documents")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bytes and packets of a simulation"
)]

mod begin;
mod candidates;
mod carrier;
mod choices;
mod comparisons;
mod deaths;
mod link;
mod run;
mod starts;
