//! The probers and the switch policy over simulated links.
//!
//! Each scenario runs under many seeds. A failure prints the seed; `SIM_SEED` runs that one alone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bytes and packets of a simulation"
)]

#[path = "sim/carrier.rs"]
mod carrier;
#[path = "sim/link.rs"]
mod link;
#[path = "sim/run.rs"]
mod run;

use std::time::Duration;

use frp_proto::policy::Transport::{Quic, Tcp};
use frp_proto::policy::{Candidate, Cause, Config, DeathCause, Notice, State, Transport};
use link::{Link, Loss, Way};
use run::{Demand, Run};

#[test]
fn probe() {
    for seed in 0..3 {
        let mut run = Run::new(seed).on(Quic).with_demand(Demand::Bulk);
        run.run_secs(10);
        run.mark();
        run.link.drop_udp();
        run.run_secs(20);
        eprintln!("{seed} {:?} pause {:?}", run.transport(), run.longest_pause());
        for n in &run.notices { eprintln!("   {n:?}"); }
    }
}
