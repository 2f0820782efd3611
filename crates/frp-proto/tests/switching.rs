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

#[path = "sim/begin.rs"]
mod begin;
#[path = "sim/candidates.rs"]
mod candidates;
#[path = "sim/carrier.rs"]
mod carrier;
#[path = "sim/link.rs"]
mod link;
#[path = "sim/run.rs"]
mod run;

use std::time::Duration;

use begin::{each_seed, millis, on_one_of_three, on_quic, on_tcp};
use frp_proto::path::{ProberEvent, TcpControl};
use frp_proto::policy::Transport::{Kcp, Quic, Tcp};
use frp_proto::policy::{Candidate, Cause, Config, DeathCause, Notice, State};
use link::{Link, Loss, Way};
use run::{Demand, Run};

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
fn a_choice_by_hand_ends_a_comparison_that_is_under_way() {
    each_seed(20, |seed| {
        let mut run = on_tcp(seed);
        run.link.loss = Loss::Random(0.10);
        // In the middle of the windows that would decide for QUIC.
        run.run_secs(5);
        assert_eq!(run.transport(), Some(Tcp));
        run.tell_policy(|policy, now| policy.switch_to(now, Tcp));
        run.run_secs(60);
        assert_eq!(run.transport(), Some(Tcp), "{:?}", run.switches());
    });
}

#[test]
fn cubic_is_left_within_ten_seconds_when_loss_rises() {
    for loss in [0.10, 0.20] {
        each_seed(40, |seed| {
            let mut run = on_tcp(seed);
            run.mark();
            let begin = run.elapsed();
            run.link.loss = Loss::Random(loss);
            run.run_secs(60);
            assert_eq!(run.transport(), Some(Quic));
            assert_eq!(run.n_changes(), 1, "{:?}", run.switches());
            let left = run.switches()[0].0 - begin;
            // The transfer needs a second to grow on the new carrier.
            assert!(left < Duration::from_secs(9), "after {left:?}");
        });
    }
}

#[test]
fn bbr_is_left_where_it_loses_a_third_and_not_before() {
    each_seed(20, |seed| {
        let after = |loss, secs| {
            let mut run = on_tcp(seed);
            run.link.tcp = TcpControl::Bbr;
            run.run_secs(3);
            run.mark();
            run.link.loss = Loss::Random(loss);
            // Longer, and QUIC is returned to, because it is preferred.
            run.run_secs(secs);
            (run.transport(), run.switches())
        };
        let (transport, switches) = after(0.04, 20);
        assert_eq!(transport, Some(Tcp), "{switches:?}");

        let (transport, switches) = after(0.12, 10);
        assert_eq!(transport, Some(Quic), "{switches:?}");
        assert!(switches[0].2 != Cause::Return, "{switches:?}");
    });
}

#[test]
fn udp_that_is_policed_to_60_percent_is_left_for_good() {
    for demand in [Demand::Bulk, Demand::Interactive] {
        each_seed(10, |seed| {
            let mut run = on_quic(seed).with_demand(demand);
            run.run_secs(5);
            run.mark();
            let begin = run.elapsed();
            run.link.udp_policed = 0.6;
            run.run_secs(300);
            assert_eq!(run.transport(), Some(Tcp));
            assert!(run.n_changes() <= 2, "{:?}", run.switches());
            let left = run.switches()[0].0 - begin;
            assert!(left < Duration::from_secs(15), "after {left:?}");
        });
    }
}

#[test]
fn udp_that_is_policed_by_rate_is_not_returned_to_because_it_looks_good_when_idle() {
    each_seed(20, |seed| {
        let mut run = on_quic(seed);
        run.mark();
        run.link.udp_rate_max = Some(250_000.0);
        run.run_secs(300);
        assert_eq!(run.transport(), Some(Tcp));
        assert!(run.n_changes() <= 2, "{:?}", run.switches());
    });
}

#[test]
fn a_transport_that_is_not_returned_to_is_compared_ever_more_rarely() {
    each_seed(10, |seed| {
        let mut run = on_quic(seed);
        run.link.udp_rate_max = Some(250_000.0);
        run.run_secs(60);
        assert_eq!(run.transport(), Some(Tcp));
        run.mark();
        run.run_secs(1_200);
        assert_eq!(run.n_changes(), 0, "{:?}", run.switches());
        let is_vain = |(_, notice): &&(Duration, Notice)| matches!(notice, Notice::Stayed { .. });
        let n_vain = run.notices.iter().filter(is_vain).count();
        assert!((3..=10).contains(&n_vain), "{n_vain}");

        run.demand = Demand::Nothing;
        run.mark();
        run.run_secs(86_400);
        let n_vain = run.notices.iter().filter(is_vain).count();
        assert!(n_vain <= 40, "{n_vain} in a day without users");
    });
}

#[test]
fn carriers_are_compared_without_padding_while_nobody_moves_much() {
    each_seed(10, |seed| {
        let mut run = on_quic(seed);
        run.link.udp_rate_max = Some(250_000.0);
        run.run_secs(60);
        assert_eq!(run.transport(), Some(Tcp));
        assert!(run.n_measured > 0);
        run.demand = Demand::Interactive;
        run.run_secs(90);
        run.n_measured = 0;
        run.mark();
        run.run_secs(1_200);
        let is_vain = |(_, notice): &(Duration, Notice)| matches!(notice, Notice::Stayed { .. });
        let n_compared = run.notices.iter().filter(|it| is_vain(it)).count() + run.n_changes();
        assert!(n_compared > 0);
        assert_eq!(run.n_measured, 0);
    });
}

#[test]
fn udp_that_is_policed_below_a_stream_is_left_although_probes_pass() {
    // 8 and 12 of 20 Mbit/s.
    for policed in [1_000_000.0, 1_500_000.0] {
        each_seed(40, |seed| {
            let mut run = on_quic(seed);
            run.mark();
            let begin = run.elapsed();
            run.link.udp_rate_max = Some(policed);
            run.run_secs(300);
            assert_eq!(run.transport(), Some(Tcp), "{:?}", run.switches());
            assert!(run.n_changes() <= 2, "{:?}", run.switches());
            let left = run.switches()[0].0 - begin;
            assert!(left < Duration::from_secs(12), "after {left:?}");
        });
    }
}

#[test]
fn links_that_are_bad_for_all_make_nobody_flap() {
    let links = [
        ("clean", Loss::Random(0.0), 0),
        ("5 %", Loss::Random(0.05), 0),
        ("15 %", Loss::Random(0.15), 0),
        ("30 %", Loss::Random(0.30), 0),
        ("bursts", Loss::Bursts(0.01, 0.1), 0),
        ("jitter of 1 s", Loss::Random(0.0), 1),
    ];
    for demand in [Demand::Bulk, Demand::Interactive] {
        for (name, loss, jitter_secs) in links {
            each_seed(8, |seed| {
                let mut run = on_quic(seed).with_demand(demand);
                run.mark();
                run.link.loss = loss;
                run.link.jitter = Duration::from_secs(jitter_secs);
                run.run_secs(180);
                let switches = run.switches();
                assert_eq!(run.n_changes(), 0, "{name}, {demand:?}: {switches:?}");
            });
        }
    }
}

#[test]
fn a_link_that_flaps_moves_the_session_once_in_thirty_seconds_at_most() {
    for first in [Quic, Kcp, Tcp] {
        each_seed(20, |seed| {
            let mut run = on_one_of_three(seed, first);
            run.mark();
            // Up and down are not in step with anything.
            let up = millis(2900 + seed * 7 % 200);
            for _ in 0..20 {
                run.link.drop_all();
                run.run_secs(3);
                run.link.restore();
                run.run_for(up);
                assert!(run.is_moving(), "{first}: {:?}", run.switches());
            }
            let switches = run.switches();
            for pair in switches.windows(2) {
                assert!(
                    pair[1].0 - pair[0].0 >= Duration::from_secs(30),
                    "{first}: {switches:?}"
                );
            }
            // A UDP carrier goes on by itself; one over TCP is stuck in its timers.
            let n_most = if first == Quic { 0 } else { 1 };
            assert!(run.n_changes() <= n_most, "{first}: {switches:?}");
        });
    }
}

#[test]
fn an_hour_of_30_percent_each_way_or_of_bursts_kills_nobody() {
    for loss in [Loss::Random(0.30), Loss::Bursts(1.0 / 72.0, 1.0 / 8.0)] {
        each_seed(3, |seed| {
            let mut run = on_quic(seed).with_demand(Demand::Interactive);
            run.mark();
            run.link.loss = loss;
            run.run_secs(3600);
            assert_eq!(run.n_silent_deaths(), 0, "{loss:?}: {:?}", run.switches());
        });
    }
}

#[test]
fn udp_that_is_blocked_at_start_costs_less_than_a_second() {
    each_seed(100, |seed| {
        let mut link = Link::new(seed);
        link.drop_udp();
        let mut run = Run::with(seed, Config::default(), &candidates::two(), link);
        run.run_secs(20);
        assert_eq!(run.transport(), Some(Tcp));
        let first = run.switches()[0];
        assert_eq!((first.1, first.2), (Tcp, Cause::Connected));
        assert!(first.0 < Duration::from_secs(1));
    });
}

#[test]
fn a_preferred_transport_that_comes_back_is_returned_to() {
    each_seed(20, |seed| {
        let mut run = on_quic(seed).with_demand(Demand::Interactive);
        run.link.drop_udp();
        run.run_secs(120);
        assert_eq!(run.transport(), Some(Tcp));
        run.mark();
        run.link.restore();
        // The next try may be five minutes away, and then it has to prove itself.
        run.run_secs(420);
        assert_eq!(run.transport(), Some(Quic));
        let switches = run.switches();
        assert_eq!(switches.len(), 1);
        assert_eq!(switches[0].2, Cause::Return);
    });
}

#[test]
fn a_pinned_transport_is_not_left_for_its_quality_but_for_its_death() {
    each_seed(10, |seed| {
        let pinned = |transport, is_fallback| Candidate {
            transport,
            is_ipv6: false,
            is_fallback,
        };
        let candidates = [pinned(Tcp, false), pinned(Quic, true)];
        let mut run = Run::with(seed, Config::default(), &candidates, Link::new(seed)).on(Tcp);
        run.demand = Demand::Bulk;
        run.run_secs(10);
        run.mark();
        run.link.loss = Loss::Random(0.05);
        run.run_secs(60);
        assert_eq!(run.n_changes(), 0, "{:?}", run.switches());

        run.link.loss = Loss::Random(0.0);
        run.link.drop_tcp();
        run.run_secs(60);
        assert_eq!(run.transport(), Some(Quic));
        run.link.restore();
        run.run_secs(420);
        assert_eq!(run.transport(), Some(Tcp), "the pin is returned to");
    });
}

#[test]
fn a_dry_run_tells_what_it_would_do_and_does_nothing() {
    let config = Config {
        is_dry_run: true,
        ..Config::default()
    };
    let mut run = Run::with(1, config, &candidates::two(), Link::new(1)).on(Quic);
    run.demand = Demand::Bulk;
    run.run_secs(10);
    run.mark();
    run.link.udp_policed = 0.6;
    run.run_secs(120);
    assert_eq!(run.transport(), Some(Quic));
    assert_eq!(run.switches()[0].1, Tcp, "{:?}", run.switches());
    let switches = run.switches();
    let n_quality = switches.iter().filter(|(_, _, cause)| cause.is_quality());
    assert!(n_quality.count() <= 4, "{switches:?}");
}

#[test]
fn a_switch_by_hand_stays_until_it_is_released() {
    let mut run = on_quic(1);
    run.tell_policy(|policy, now| policy.switch_to(now, Tcp));
    run.run_secs(5);
    assert_eq!(run.transport(), Some(Tcp));
    run.link.loss = Loss::Random(0.05);
    run.run_secs(60);
    assert_eq!(run.transport(), Some(Tcp), "somebody wants it so");
    run.tell_policy(|policy, now| policy.release(now));
    run.run_secs(20);
    assert_eq!(run.transport(), Some(Quic));
}

#[test]
fn a_transport_that_is_asked_for_in_an_outage_is_used_once_it_can_be_had() {
    each_seed(50, |seed| {
        let mut run = on_quic(seed);
        run.link.drop_all();
        run.run_secs(5);
        run.tell_policy(|policy, now| policy.switch_to(now, Tcp));
        // UDP is back before it.
        run.run_secs(3);
        run.link.restore();
        run.link.drop_tcp();
        run.run_secs(20);
        assert_eq!(run.transport(), Some(Quic), "better than nothing");
        run.link.restore();
        run.run_secs(400);
        assert_eq!(run.transport(), Some(Tcp));
        run.run_secs(60);
        assert_eq!(run.transport(), Some(Tcp));
    });
}

#[test]
fn what_was_asked_for_is_not_insisted_on_once_it_has_died_beside_another() {
    let mut run = on_quic(1);
    run.tell_policy(|policy, now| policy.switch_to(now, Tcp));
    run.run_secs(60);
    assert_eq!(run.transport(), Some(Tcp));
    run.link.drop_tcp();
    run.run_secs(10);
    assert_eq!(run.transport(), Some(Quic));
    run.link.restore();
    run.run_secs(400);
    assert_eq!(run.transport(), Some(Quic));
    assert_eq!(run.policy.by_hand(), None);
}

#[test]
fn a_server_with_two_versions_of_ip_is_reached_over_the_one_that_works() {
    each_seed(50, |seed| {
        let candidates = candidates::of_both_ips(&[Quic, Tcp]);
        let mut link = Link::new(seed);
        link.ipv6_dropped = true;
        let mut run = Run::with(seed, Config::default(), &candidates, link);
        run.run_secs(1);
        assert_eq!(run.transport(), Some(Quic));
        assert_eq!(run.is_ipv6(), Some(false));
        run.run_secs(60);
        assert_eq!(run.is_ipv6(), Some(false));
        assert!(!run.policy.health().last_used_ipv6);
    });
}

#[test]
fn a_version_of_ip_that_dies_is_left_and_the_transport_is_returned_to_over_the_other() {
    each_seed(50, |seed| {
        let candidates = candidates::of_both_ips(&[Quic, Tcp]);
        let link = Link::new(seed);
        let mut run = Run::with(seed, Config::default(), &candidates, link).on(Quic);
        run.demand = Demand::Bulk;
        run.run_for(millis(20_000 + seed * 37));
        assert_eq!((run.transport(), run.is_ipv6()), (Some(Quic), Some(true)));
        run.mark();
        run.link.ipv6_dropped = true;
        run.run_secs(10);
        assert_eq!(run.is_ipv6(), Some(false));
        run.pause_below(millis(1800));
        run.run_secs(400);
        assert_eq!((run.transport(), run.is_ipv6()), (Some(Quic), Some(false)));
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

#[test]
fn an_idle_client_costs_less_than_two_megabytes_a_day() {
    for first in [Quic, Tcp] {
        let mut link = Link::new(1);
        if first == Tcp {
            link.drop_udp();
        }
        let mut run = Run::with(1, Config::default(), &candidates::two(), link);
        run.demand = Demand::Nothing;
        run.run_secs(86_400);
        assert_eq!(run.transport(), Some(first));
        let bytes = run.probe_bytes;
        println!("{first}: {bytes} bytes a day, {} dials", run.n_dials);
        assert!(bytes < 2_000_000, "{first}: {bytes}");
    }
}
