//! What is taken for lost between two Holdfasts, and how soon.

use std::time::Duration;

use kcp_proto::Config;
use kcp_proto::control::SendControl;

use crate::link::Profile;
use crate::pair::Pair;
use crate::{FixedRate, KIB, MIB, SEC};

fn pair(profile: Profile, rate: u64) -> Pair {
    let config = || Config {
        send_window: 8192,
        receive_window: 8192,
        interval: Duration::from_millis(5),
        is_write_delayed: false,
        ack_after: 4,
        n_ack_repeats: 64,
        fec: None,
        ..Config::frp(7)
    };
    let control = || -> Box<dyn SendControl> { Box::new(FixedRate { rate }) };
    Pair::controlled(profile, 11, [config(), config()], [control(), control()])
}

#[test]
fn what_has_arrived_is_hardly_sent_again_when_acknowledgements_get_lost() {
    for (loss, burst) in [(0.3, 1.0), (0.1, 10.0)] {
        let mut pair = pair(Profile::clean(25).loss(loss), 6_000_000);
        pair.links[1].profile.burst = burst;
        pair.write(0, 20 * MIB);
        pair.run(60 * SEC);
        let stats = pair.ends[1].session.stats();
        eprintln!("{loss} in bursts of {burst}: {stats:?}");
        assert!(stats.n_repeats_received * 100 < stats.n_segments_received);
    }
}

#[test]
fn a_queue_that_grows_within_a_round_trip_is_no_time_out() {
    let profile = Profile::clean(25).rate_mbit(50, 1000);
    let mut pair = pair(profile, 25_000_000);
    pair.write(0, MIB);
    pair.run(10 * SEC);
    let stats = pair.ends[0].session.stats();
    assert_eq!(pair.links[0].n_overflown, 0);
    assert_eq!(stats.n_resent_timed_out, 0, "{stats:?}");
}

#[test]
fn a_first_time_out_that_was_too_short_does_not_delay_what_is_noticed_later() {
    // A round trip of 360 ms is longer than the first guess.
    let mut pair = pair(Profile::clean(180), 12_000_000);
    pair.write(0, 10 * KIB);
    pair.run_for(2 * SEC);
    let stats = pair.ends[0].session.stats();
    assert!(stats.n_resent_timed_out > 0, "{stats:?}");

    pair.links[0].is_down = true;
    pair.write(0, 200 * KIB);
    pair.run_for(Duration::from_millis(2));
    pair.links[0].is_down = false;
    let took = pair.run(10 * SEC);
    let stats = pair.ends[0].session.stats();
    assert!(stats.n_resent_overtaken > 0, "{stats:?}");
    assert!(took < Duration::from_millis(650), "{took:?}: {stats:?}");
}
