//! Carriers that live are compared: which ones are left, which are returned to, and that nobody flaps.

use std::time::Duration;

use frp_proto::path::TcpControl;
use frp_proto::policy::Transport::{Kcp, Quic, Tcp};
use frp_proto::policy::{Cause, Config, Notice};

use crate::begin::{each_seed, millis, on_one_of_three, on_quic, on_tcp};
use crate::candidates;
use crate::link::{Link, Loss};
use crate::run::{Demand, Run};

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
fn a_fast_link_is_not_left_to_bbr_because_a_burst_begins_slowly_and_is_repaired() {
    for (policed, expected) in [(None, Quic), (Some(1_000_000.0), Tcp)] {
        each_seed(20, |seed| {
            let mut run = on_tcp(seed);
            run.link.tcp = TcpControl::Bbr;
            run.link.rate = 12_500_000.0;
            run.link.udp_rate_max = policed;
            run.run_secs(3);
            run.mark();
            run.link.loss = Loss::Random(0.12);
            run.run_secs(10);
            assert_eq!(run.transport(), Some(expected), "{:?}", run.switches());
        });
    }
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
