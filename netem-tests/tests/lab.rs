//! The link lab itself: that a link is what its profile says.
//!
//! These tests need root. Without it each of them says that it is skipped.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use netem_tests::lab::gauge;
use netem_tests::traffic::{self, EchoConn};
use netem_tests::{BackEnd, Direction, Lab, PairBuilder, Profile, Proxy, Service, Sides};

#[test]
fn a_packet_takes_the_delay_of_both_ways() {
    let Some(lab) = lab(
        "delay",
        &Profile::delay_ms(20).to_far(|link| link.one_way_delay_ms(30)),
    ) else {
        return;
    };

    let times = gauge::echo_times(&lab, 100, Duration::from_millis(5)).unwrap();

    assert_eq!(times.len(), 100);
    let earliest = times.iter().min().copied().unwrap();
    assert!(earliest >= Duration::from_micros(49_800), "{earliest:?}");
    // How exact it is, tests/agreement.rs says. What a busy machine adds, it adds to some, not to all.
    assert!(earliest < Duration::from_millis(80), "{earliest:?}");
}

#[test]
fn no_more_than_the_rate_comes_through_and_the_queue_overflows() {
    for way in Direction::BOTH {
        let profile = Profile::delay_ms(5).rate_mbit(20).queue_packets(50);
        // A machine that is busy makes a link slow, never fast: one good round shows that it is
        // as fast as it should be.
        let mut rates = Vec::new();
        while rates.last().is_none_or(|rate| *rate < 19.4) {
            assert!(rates.len() < N_ROUNDS, "{way}: {rates:?} Mbit/s");
            let Some(lab) = lab("rate", &profile) else {
                return;
            };

            let stream = gauge::stream(&lab, way, 30.0, Duration::from_secs(2)).unwrap();

            assert!(stream.rate_mbit < 20.6, "{way}: {stream:?}");
            let counters = lab.counters().unwrap();
            let counters = counters.way(way);
            if lab.back_end() == BackEnd::UserSpace {
                assert_eq!(counters.longest_queue, 50, "{counters}");
            }
            assert_eq!(counters.missed, 0, "{counters}");
            assert!(counters.overflowed > 0, "{counters}");
            assert_eq!(counters.packets_in, stream.n_sent, "{counters}");
            assert_eq!(counters.packets_delivered, stream.n_received, "{counters}");
            rates.push(stream.rate_mbit);
        }
    }
}

#[test]
fn loss_begins_and_ends_while_traffic_runs() {
    let clean = Profile::delay_ms(5);
    let Some(lab) = lab("loss", &clean) else {
        return;
    };
    let send = || gauge::stream(&lab, Direction::ToNear, 20.0, Duration::from_secs(1)).unwrap();

    assert_eq!(send().loss_pct(), 0.0);

    lab.set_link(&clean.clone().to_near(|link| link.loss_pct(20)))
        .unwrap();
    let lossy = send();
    assert!((15.0..25.0).contains(&lossy.loss_pct()), "{lossy:?}");

    lab.set_link(&clean).unwrap();
    assert_eq!(send().loss_pct(), 0.0);
}

#[test]
fn corrupt_packets_are_dropped_by_their_checksum_or_reach_the_program() {
    let profile = Profile::delay_ms(1).corrupt_pct(50);
    let Some(lab) = lab("corruption", &profile) else {
        return;
    };
    let send = || gauge::stream(&lab, Direction::ToFar, 20.0, Duration::from_millis(500)).unwrap();

    let wrong = send();
    assert!(wrong.loss_pct() > 30.0, "{wrong:?}");
    assert_eq!(wrong.n_corrupt, 0, "{wrong:?}");

    let repairing = lab.set_link(&profile.with_right_checksums());
    if lab.back_end() == BackEnd::Netem {
        assert!(repairing.is_err(), "netem cannot");
        return;
    }
    let right = send();
    assert_eq!(right.loss_pct(), 0.0, "{right:?}");
    assert!(right.n_corrupt > right.n_sent / 3, "{right:?}");
}

#[test]
fn labs_run_side_by_side() {
    let (Some(one), Some(other)) = (
        lab("one of two", &Profile::delay_ms(200)),
        lab("other of two", &Profile::delay_ms(1)),
    ) else {
        return;
    };

    let earliest = |lab: &Lab| {
        let times = gauge::echo_times(lab, 10, Duration::from_millis(5)).unwrap();
        times.into_iter().min().unwrap()
    };

    assert!(earliest(&one) > Duration::from_millis(399));
    assert!(earliest(&other) < Duration::from_millis(399));
}

#[test]
fn programs_inside_end_with_the_lab() {
    let Some(lab) = lab("end", &Profile::unlimited()) else {
        return;
    };
    let mut sleeper = lab.far().command("sleep").arg("1000").spawn().unwrap();

    drop(lab);

    assert!(!sleeper.wait().unwrap().success());
}

#[test]
fn a_pair_works_across_a_lossy_link() {
    let Some(lab) = lab("pair", &Profile::delay_ms(10).loss_pct(2)) else {
        return;
    };
    let service = lab.far().enter(Service::start).unwrap();
    let pair = PairBuilder::new(&Sides::ours().unwrap())
        .in_lab(&lab)
        .proxies([
            Proxy::tcp("tcp", service.port()),
            Proxy::stcp("stcp", service.port()),
        ])
        .start()
        .unwrap();
    let port = pair.port("tcp").unwrap();

    pair.as_user(|| traffic::both_ways(port, 256 * 1024, lab.seed()))
        .unwrap();

    let counters = lab.counters().unwrap();
    assert!(counters.to_far.bytes_delivered > 256 * 1024, "{counters}");
    assert!(counters.to_near.bytes_delivered > 256 * 1024, "{counters}");
    let took = pair
        .as_user(|| EchoConn::open(port).unwrap().round())
        .unwrap();
    assert!(took >= lab.link().round_trip(), "{took:?}");
}

fn lab(name: &str, profile: &Profile) -> Option<Lab> {
    Lab::is_available_for(name).then(|| Lab::start(name, profile).unwrap())
}

const N_ROUNDS: usize = 3;
