//! BBR alone, beside others and over all kinds of links.

use super::*;
use crate::tcp_sim::{Flow, Link, a_time};

#[test]
fn a_cubic_flow_beside_it_is_noticed() {
    for queue in [300.0, 500.0, 1000.0] {
        for begins in [0.0, 1.0, 10.0] {
            let mut link = Link::new(1);
            link.queue = queue;
            let mut flows = [Flow::bbr(0.0), Flow::cubic(begins)];
            let found = first_sure(&mut link, &mut flows, begins + 40.0);
            let at = found.unwrap_or_else(|| panic!("queue {queue}, from {begins} s on"));
            assert!(at > begins && at < begins + 30.0, "queue {queue}: {at} s");
        }
    }
}

#[test]
fn a_cubic_flow_that_was_there_before_is_noticed() {
    // The shortest round trip that it knows of is one through somebody else's queue, until that
    // has been empty once.
    for seed in 0..3 {
        let mut link = Link::slower(seed);
        let mut flows = [Flow::bbr(20.0 + link.chance()), Flow::cubic(0.0)];
        let found = first_sure(&mut link, &mut flows, 100.0);
        assert!(found.is_some(), "seed {seed}");
    }
}

#[test]
fn its_own_queue_is_not_taken_for_anothers() {
    for seed in 0..100 {
        let mut link = Link::slower(seed);
        link.rate = 300.0 * 10.0f64.powf(link.chance());
        link.rtt = 0.01 * 20.0f64.powf(link.chance());
        link.queue = 20.0 + link.rate * link.rtt * 3.0 * link.chance();
        nobody_is_found(link, 20.0);
    }
}

#[test]
fn a_narrow_link_is_not_taken_for_others() {
    for (rate, queue) in [(83.0, 20.0), (83.0, 100.0), (166.0, 20.0), (830.0, 50.0)] {
        let mut link = Link::new(1);
        (link.rate, link.queue) = (rate, queue);
        nobody_is_found(link, 60.0);
    }
}

#[test]
fn losses_are_not_taken_for_others() {
    for seed in 0..40 {
        let mut link = Link::slower(seed);
        link.loss = 0.001 * 300.0f64.powf(link.chance());
        nobody_is_found(link, 20.0);
    }
}

#[test]
fn uneven_links_that_lose_are_not_taken_for_others() {
    for seed in 0..20 {
        let mut link = Link::slower(seed);
        link.loss = 0.01;
        for mut link in uneven(&mut link) {
            let found = first_sure(&mut link, &mut [Flow::bbr(0.0)], 20.0);
            assert!(found.is_none(), "{link:?}: {found:?}");
        }
    }
}

#[test]
fn uneven_links_that_lose_nothing_are_seldom_taken_for_others() {
    // BBR takes such a path for faster than it is, and has a queue of its own that comes back after
    // each drain. Giving way does little harm there: nothing is lost but by a full queue.
    let (mut n_found, mut n_links) = (0, 0);
    for seed in 0..20 {
        for mut link in uneven(&mut Link::slower(seed)) {
            let found = first_sure(&mut link, &mut [Flow::bbr(0.0)], 20.0);
            n_found += u32::from(found.is_some());
            n_links += 1;
        }
    }
    assert!(n_found * 4 <= n_links, "{n_found} of {n_links}");
}

/// The link with jitter, with acknowledgements that come together, and with both.
fn uneven(link: &mut Link) -> [Link; 3] {
    let (jitter, grid) = (0.025 * link.chance(), 0.03 * link.chance());
    [(jitter, 0.0), (jitter, grid), (0.0, grid)].map(|(jitter, grid)| {
        let mut link = link.clone();
        (link.jitter, link.grid) = (jitter, grid);
        link
    })
}

#[test]
fn a_rate_that_falls_is_not_taken_for_others() {
    for queue in [100.0, 300.0, 1000.0] {
        for factor in [0.5, 0.2, 0.1, 0.05] {
            let mut link = Link::slower(1);
            link.queue = queue;
            link.change = Some((5.0, link.rate * factor));
            nobody_is_found(link, 60.0);
        }
    }
}

#[test]
fn another_bbr_on_a_link_that_loses_is_left_alone() {
    // Each fills a queue for the other, so that hardly any of the losses meets none.
    for loss in [0.01, 0.05] {
        for seed in 0..10 {
            let mut link = Link::slower(seed);
            link.loss = loss;
            let mut flows = [Flow::bbr(0.0), Flow::bbr(link.chance())];
            let found = first_sure(&mut link, &mut flows, 30.0);
            assert!(found.is_none(), "{loss}, seed {seed}: {found:?}");
        }
    }
}

#[test]
fn whoever_does_not_send_all_it_could_has_nothing_to_give() {
    let is_sure = |change: fn(u32, &mut Look)| {
        let mut rule = OthersQueue::default();
        let mut looks = behind_a_queue();
        (0..400u32).any(|n| {
            let mut look = looks.next().unwrap();
            change(n, &mut look);
            is_others(rule.handle_look(look, false))
        })
    };
    assert!(is_sure(|_, _| {}));
    assert!(is_sure(|n, look| look.has_more = n % 20 > 0));
    assert!(!is_sure(|n, look| look.has_more = n % 4 > 0));
    assert!(!is_sure(
        |n, look| look.peer_full = Duration::from_millis(5) * n
    ));
}

#[test]
fn a_loss_that_met_no_queue_forbids_giving_way_for_a_while() {
    let mut rule = OthersQueue::default();
    let mut looks = behind_a_queue();
    let begin = looks.next().unwrap();
    rule.handle_look(begin, false);
    let lost = Look {
        at: begin.at + Duration::from_millis(1),
        sent_again: 1,
        srtt: begin.min_rtt,
        ..begin
    };
    rule.handle_look(lost, false);
    let found = looks.find(|look| {
        let after = Look {
            sent_again: 1,
            ..*look
        };
        rule.handle_look(after, false).is_some()
    });
    let waited = found.unwrap().at - lost.at;
    let (least, most) = (CHANCE_MEMORY, CHANCE_MEMORY + Duration::from_secs(1));
    assert!(least < waited && waited < most, "{waited:?}");
}

#[test]
fn it_says_what_got_through() {
    let mut rule = OthersQueue::default();
    let findings: Vec<_> = behind_a_queue()
        .take(400)
        .filter_map(|look| rule.handle_look(look, false))
        .take(3)
        .collect();
    // A megabyte in each 20 ms.
    let (at_most, rate) = (25_000_000, 50_000_000);
    let expected = [
        Finding::Standing { at_most },
        Finding::Drained,
        Finding::Others { rate },
    ];
    assert_eq!(findings, expected);
}

#[test]
fn nothing_is_found_out_while_it_is_held() {
    let mut rule = OthersQueue::default();
    let mut looks = behind_a_queue();
    assert!(
        looks
            .by_ref()
            .take(1000)
            .all(|look| rule.handle_look(look, true).is_none())
    );
    assert!(
        looks
            .next()
            .is_some_and(|look| rule.handle_look(look, false).is_some())
    );
}

/// Looks at a connection that sends all it can through a queue as long as its path.
fn behind_a_queue() -> impl Iterator<Item = Look> {
    let quiet = Look::quiet(a_time(), Duration::from_millis(50));
    (0..u32::MAX).map(move |n| Look {
        at: quiet.at + Duration::from_millis(20) * n,
        acked: u64::from(n) * 1_000_000,
        srtt: quiet.min_rtt * 2,
        ..quiet
    })
}

fn nobody_is_found(mut link: Link, seconds: f64) {
    let before = link.clone();
    let found = first_sure(&mut link, &mut [Flow::bbr(0.0)], seconds);
    assert!(found.is_none(), "{before:?}: {found:?}");
}

/// When it is sure that others fill the queue of the first flow.
fn first_sure(link: &mut Link, flows: &mut [Flow], seconds: f64) -> Option<f64> {
    let mut rule = OthersQueue::default();
    let found = link.run(flows, seconds, |look, flow| {
        match rule.handle_look(look, false)? {
            Finding::Standing { at_most } => flow.bound(at_most),
            Finding::Drained => flow.bound(u64::MAX),
            Finding::Others { .. } => return Some(()),
        }
        None
    });
    found.map(|(at, ())| at)
}

fn is_others(finding: Option<Finding>) -> bool {
    matches!(finding, Some(Finding::Others { .. }))
}
