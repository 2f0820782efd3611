//! A client that changes its carrier towards a server that holds no connections: ours with holding
//! off, which stands for frp's. `tests/peer.rs` has the same with that.

#![allow(clippy::unwrap_used, reason = "tests")]

use netem_tests::{Sides, plain_scenario};

#[test]
fn a_switch_by_hand_leaves_open_connections_where_they_are() {
    plain_scenario::switches_by_hand(&Sides::ours().unwrap()).unwrap();
}

#[test]
fn a_carrier_that_falls_silent_is_left_before_its_heartbeats_time_out() {
    plain_scenario::leaves_a_silent_carrier(&Sides::ours().unwrap()).unwrap();
}

#[test]
fn a_dry_run_only_tells() {
    plain_scenario::only_tells_in_a_dry_run(&Sides::ours().unwrap()).unwrap();
}
