//! How scenarios begin, and how often they run.

use std::time::Duration;

use frp_proto::policy::Config;
use frp_proto::policy::Transport::{self, Quic, Tcp};

use crate::candidates;
use crate::link::Link;
use crate::run::{Demand, Run};

/// On QUIC since a while, with a standby.
pub(crate) fn on_quic(seed: u64) -> Run {
    let mut run = Run::new(seed).on(Quic).with_demand(Demand::Bulk);
    run.run_for(millis(6000 + seed * 37));
    assert_eq!(run.transport(), Some(Quic));
    run
}

/// On TCP, because somebody has put it there; then the policy decides again.
pub(crate) fn on_tcp(seed: u64) -> Run {
    let mut run = on_quic(seed);
    run.tell_policy(|policy, now| policy.switch_to(now, Tcp));
    run.run_secs(3);
    run.tell_policy(|policy, now| policy.release(now));
    assert_eq!(run.transport(), Some(Tcp));
    run
}

/// QUIC, KCP and TCP are there, and the policy stays on `first`, which somebody has put in use,
/// for as long as it has no reason to leave it.
pub(crate) fn on_one_of_three(seed: u64, first: Transport) -> Run {
    let candidates = candidates::three();
    let mut run = Run::with(seed, Config::default(), &candidates, Link::new(seed));
    run.demand = Demand::Bulk;
    run.run_for(millis(6000 + seed * 37));
    run.tell_policy(|policy, now| policy.switch_to(now, first));
    run.run_secs(3);
    run.tell_policy(|policy, now| policy.release(now));
    assert_eq!(run.transport(), Some(first));
    run
}

/// Runs a scenario under seeds 0 to `n`, or under `SIM_SEED` alone.
pub(crate) fn each_seed(n: u64, mut scenario: impl FnMut(u64)) {
    let only = std::env::var("SIM_SEED")
        .ok()
        .map(|seed| seed.parse().unwrap());
    for seed in only.map_or(0..n, |seed| seed..seed + 1) {
        let run = std::panic::AssertUnwindSafe(|| scenario(seed));
        if let Err(panic) = std::panic::catch_unwind(run) {
            let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            panic!("SIM_SEED={seed}: {text}");
        }
    }
}

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
