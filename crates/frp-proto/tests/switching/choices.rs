//! What somebody has chosen: by hand, by pinning a transport, or to be told only.

use frp_proto::policy::Transport::{Quic, Tcp};
use frp_proto::policy::{Candidate, Config};

use crate::begin::{each_seed, on_quic, on_tcp};
use crate::candidates;
use crate::link::{Link, Loss};
use crate::run::{Demand, Run};

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
