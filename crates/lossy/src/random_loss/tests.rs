//! Cubic over one link that loses by chance or by a full queue.

use super::*;
use crate::tcp_sim::{Flow, Link, a_time};

#[test]
fn random_loss_is_known_within_a_second_of_sending() {
    for loss in [0.01, 0.05, 0.1, 0.3] {
        let mut times: Vec<_> = (0..100)
            .map(|seed| {
                let mut link = Link::new(seed);
                link.loss = loss;
                let found = first_sure(&mut link, &mut [Flow::cubic(0.0)], 30.0);
                found.unwrap_or_else(|| panic!("{loss} is never noticed, seed {seed}"))
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let (median, late) = (times[50], times[95]);
        assert!(median < 1.2, "{loss}: {median:?}");
        assert!(late < 4.0, "{loss}: {late:?}");
    }
}

#[test]
fn a_queue_that_overflows_is_no_random_loss() {
    // A window that doubles until hundreds are dropped at once, and saw teeth for a minute.
    for queue in [200.0, 500.0, 1000.0] {
        for seed in 0..5 {
            let mut link = Link::new(seed);
            link.queue = queue;
            let found = first_sure(&mut link, &mut [Flow::cubic(0.0)], 60.0);
            assert!(found.is_none(), "queue {queue}, seed {seed}: {found:?}");
        }
    }
}

#[test]
fn narrow_links_with_short_queues_are_no_random_loss() {
    for (rate, queue) in [(83.0, 20.0), (830.0, 50.0), (830.0, 100.0)] {
        let mut link = Link::new(1);
        link.rate = rate;
        link.queue = queue;
        let found = first_sure(&mut link, &mut [Flow::cubic(0.0)], 120.0);
        assert!(found.is_none(), "{rate}/s, queue {queue}: {found:?}");
    }
}

#[test]
fn others_who_fill_the_queue_are_no_random_loss() {
    for seed in 0..5 {
        let mut link = Link::new(seed);
        // Whoever comes later meets a standing queue, and its drops.
        let mut flows = [5.0, 0.0, 1.0].map(Flow::cubic);
        let found = first_sure(&mut link, &mut flows, 60.0);
        assert!(found.is_none(), "seed {seed}: {found:?}");
    }
}

#[test]
fn losses_with_long_rests_between_them_are_no_random_loss() {
    let start = a_time();
    let mut rule = RandomLoss::default();
    let rtt = Duration::from_millis(50);
    for n in 0..100 {
        let look = Look {
            at: start + Duration::from_secs(15) * n,
            sent: u64::from(n) * 2,
            sent_again: u64::from(n),
            ..Look::quiet(start, rtt)
        };
        assert!(!rule.handle_look(look));
    }
}

#[test]
fn silence_through_two_timeouts_is_random_loss_whatever_the_queue_was_and_one_is_not() {
    let start = a_time();
    let rtt = Duration::from_millis(50);
    let mut rule = RandomLoss::default();
    let look = |n: u32, timeouts| Look {
        at: start + Duration::from_millis(300) * n,
        sent: 1000,
        sent_again: u64::from(n),
        srtt: rtt * 2,
        timeouts,
        ..Look::quiet(start, rtt)
    };
    assert!(!rule.handle_look(look(0, 0)));
    assert!(!rule.handle_look(look(1, 1)));
    assert!(rule.handle_look(look(2, 2)));
}

/// When it is sure that the first flow loses by chance.
fn first_sure(link: &mut Link, flows: &mut [Flow], seconds: f64) -> Option<f64> {
    let mut rule = RandomLoss::default();
    let found = link.run(flows, seconds, |look, _| {
        rule.handle_look(look).then_some(())
    });
    found.map(|(at, ())| at)
}
