//! A carrier dies, falls silent or moves: how soon the policy knows, and what it uses then.

use std::time::Duration;

use frp_proto::path::ProberEvent;
use frp_proto::policy::Transport::{Kcp, Quic, Tcp};
use frp_proto::policy::{Config, DeathCause, Notice, State};

use crate::begin::{each_seed, millis, on_one_of_three, on_quic, on_tcp};
use crate::candidates;
use crate::link::{Link, Way};
use crate::run::{Demand, Run};

#[test]
fn udp_that_is_dropped_pauses_a_transfer_for_less_than_two_seconds() {
    each_seed(200, |seed| {
        let mut run = Run::new(seed).on(Quic).with_demand(Demand::Bulk);
        run.run_for(millis(8000 + seed * 37));
        run.mark();
        run.link.drop_udp();
        run.run_secs(10);
        assert_eq!(run.transport(), Some(Tcp));
        assert_eq!(run.n_changes(), 1);
        run.pause_below(millis(1800));
    });
}

#[test]
fn udp_that_is_dropped_before_there_is_a_standby_is_left_as_soon_as_there_is_one() {
    each_seed(120, |seed| {
        let config = Config {
            // From before the silence is noticed until the doubt is over.
            tcp_after: millis(300 + seed * 20),
            ..Config::default()
        };
        let tcp_after = config.tcp_after;
        let mut run = Run::with(seed, config, &candidates::two(), Link::new(seed)).on(Quic);
        run.demand = Demand::Bulk;
        // The round-trip time is known by then.
        run.run_for(millis(100));
        run.mark();
        run.link.drop_udp();
        run.run_secs(10);
        assert_eq!(run.transport(), Some(Tcp), "{:?}", run.notices);
        run.pause_below(tcp_after.max(millis(800)) + millis(1100));
    });
}

#[test]
fn udp_that_is_rejected_pauses_it_for_less_than_half_a_second() {
    each_seed(200, |seed| {
        let mut run = Run::new(seed).on(Quic).with_demand(Demand::Bulk);
        run.run_for(millis(8000 + seed * 37));
        run.mark();
        run.link.udp_rejected = true;
        run.run_secs(10);
        assert_eq!(run.transport(), Some(Tcp));
        // Two of the probes, which come every 250 ms, have to be refused.
        run.pause_below(millis(650));
    });
}

#[test]
fn tcp_that_is_dropped_pauses_a_transfer_over_it_for_less_than_two_seconds() {
    each_seed(60, |seed| {
        let mut run = on_tcp(seed);
        run.mark();
        run.link.drop_tcp();
        run.run_secs(10);
        assert_eq!(run.transport(), Some(Quic));
        run.pause_below(millis(1800));
    });
}

#[test]
fn a_fault_of_everything_ends_when_the_link_is_back() {
    for (outage_secs, pause_after) in [(5, 1000), (30, 1500), (50, 2000)] {
        for first in [Quic, Tcp] {
            each_seed(15, |seed| {
                let mut run = if first == Tcp {
                    on_tcp(seed)
                } else {
                    on_quic(seed)
                };
                run.mark();
                run.link.drop_all();
                run.run_secs(outage_secs);
                assert_eq!(run.state(), State::Holding);
                assert_eq!(run.n_silent_deaths(), 0, "there was no alternative");
                run.link.restore();
                run.run_secs(10);
                assert!(run.is_moving());
                assert!(run.n_changes() <= 1, "{:?}", run.switches());
                run.pause_below(millis(1000 * outage_secs + pause_after));
            });
        }
    }
}

#[test]
fn an_address_change_costs_less_than_two_seconds_and_one_switch() {
    for (first, gap_secs, is_told) in [Quic, Kcp, Tcp]
        .into_iter()
        .flat_map(|first| [0, 3].map(|gap| (first, gap)))
        .flat_map(|(first, gap)| [false, true].map(|is_told| (first, gap, is_told)))
    {
        each_seed(20, |seed| {
            let mut run = on_one_of_three(seed, first);
            run.mark();
            if gap_secs > 0 {
                run.link.drop_all();
                run.run_secs(gap_secs);
                run.link.restore();
            }
            run.change_address(is_told);
            run.run_secs(10);
            assert!(run.is_moving());
            run.pause_below(millis(1000 * gap_secs + 1500));
            let switches = run.switches();
            let n_most = if first == Quic { 0 } else { 1 };
            assert!(switches.len() <= n_most, "{first}, {is_told}: {switches:?}");
        });
    }
}

#[test]
fn a_change_elsewhere_on_the_host_moves_nobody() {
    for first in [Quic, Kcp, Tcp] {
        each_seed(20, |seed| {
            let mut run = on_one_of_three(seed, first);
            run.mark();
            for _ in 0..10 {
                run.tell_policy(|policy, now| policy.handle_network_change(now, &[]));
                run.run_for(millis(300));
            }
            run.run_secs(5);
            assert_eq!(run.switches(), [], "{first}");
        });
    }
}

#[test]
fn a_direction_that_is_dropped_is_noticed_within_three_seconds() {
    for way in [Way::ToServer, Way::ToClient] {
        for first in [Quic, Tcp] {
            each_seed(20, |seed| {
                let mut run = if first == Tcp {
                    on_tcp(seed)
                } else {
                    on_quic(seed)
                };
                run.mark();
                let begin = run.elapsed();
                run.link.drop_way(way);
                run.run_secs(20);
                let noticed = run.first(|notice| matches!(notice, Notice::Suspect { .. }));
                assert!(noticed.unwrap() - begin < Duration::from_secs(3));
                assert_eq!(run.n_silent_deaths(), 0, "the other family is as dead");
                run.link.restore();
                run.run_secs(5);
                assert!(run.is_moving());
            });
        }
    }
}

#[test]
fn a_carrier_in_use_that_lives_is_not_dropped_for_a_burst_that_was_answered_late() {
    each_seed(20, |seed| {
        let mut run = on_quic(seed);
        run.mark();
        let late = ProberEvent::BurstOver { n_answered: 0 };
        run.tell_policy(|policy, now| {
            let in_use = policy.in_use().unwrap();
            policy.handle_prober_event(now, in_use, late);
            assert!(policy.transport_of(in_use).is_some(), "it is still known");
        });
        run.run_secs(5);
        assert!(run.is_moving());
        assert_eq!(run.transport(), Some(Quic));
    });
}

#[test]
fn after_the_end_of_a_session_the_next_one_is_looked_for_at_once() {
    each_seed(20, |seed| {
        let mut run = on_quic(seed);
        run.mark();
        run.tell_policy(|policy, now| policy.handle_session_over(now));
        assert_eq!(run.state(), State::Reconnecting, "nothing is held");
        run.run_secs(5);
        assert!(run.is_moving());
        assert_eq!(run.n_changes(), 0, "it begins, and comes from nowhere");
        run.pause_below(millis(1000));
    });
}

#[test]
fn a_carrier_that_is_closed_is_replaced_at_once() {
    each_seed(50, |seed| {
        let mut run = on_quic(seed);
        run.mark();
        run.kill_in_use(DeathCause::Closed);
        assert_eq!(run.transport(), Some(Tcp), "the standby was warm");
        run.run_secs(5);
        run.pause_below(millis(200));
    });
}
