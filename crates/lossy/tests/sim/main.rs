//! The controller on simulated links. A run is its seed: `SEED=123` runs that one alone, `RUNS=`
//! sets how many there are, and `TRACE=1` prints what the controllers think.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    clippy::print_stderr,
    clippy::disallowed_methods,
    unreachable_pub,
    missing_docs,
    reason = "tests"
)]

mod flow;
mod link;
mod rival;
mod world;

use crate::flow::Load::{Bulk, Limited, OnOff, Talk};
use crate::flow::MTU;
use crate::link::{LossModel, Profile};
use crate::world::World;

const MBIT: f64 = 1e6 / 8.0;

/// Design's link: 100 Mbit/s, 50 ms, 500 packets.
fn plain() -> Profile {
    Profile::new(100.0, 50.0)
}

fn bursts() -> Profile {
    Profile {
        loss: LossModel::Bursts {
            to_bad: 0.01,
            to_good: 0.1,
        },
        ..plain()
    }
}

fn far() -> Profile {
    Profile {
        queue_packets: 1000,
        ..Profile::new(100.0, 200.0).loss_pct(2.0)
    }
}

fn jitter() -> Profile {
    Profile {
        jitter: 0.02,
        delay: 0.015,
        ..plain().loss_pct(1.0)
    }
}

/// Runs `test` with the seed in `SEED`, or with many. Says which one has failed.
fn for_seeds(n_runs: u64, test: impl Fn(u64)) {
    let number = |name| {
        std::env::var(name)
            .ok()
            .map(|text: String| text.parse().unwrap())
    };
    if let Some(seed) = number("SEED") {
        return test(seed);
    }
    for seed in 0..number("RUNS").unwrap_or(n_runs) {
        let guard = SayOnPanic(seed);
        test(seed);
        std::mem::forget(guard);
    }
}

struct SayOnPanic(u64);

impl Drop for SayOnPanic {
    fn drop(&mut self) {
        eprintln!("failed with SEED={}", self.0);
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn it_fills_the_links_of_the_design_whatever_they_lose() {
    let links = [
        ("clean", plain(), 0.97),
        ("1 %", plain().loss_pct(1.0), 0.97),
        ("5 %", plain().loss_pct(5.0), 0.97),
        ("10 %", plain().loss_pct(10.0), 0.97),
        ("20 %", plain().loss_pct(20.0), 0.97),
        ("30 %", plain().loss_pct(30.0), 0.97),
        ("bursts", bursts(), 0.96),
        ("slow", Profile::new(10.0, 80.0).loss_pct(5.0), 0.97),
        ("far", far(), 0.95),
        ("jitter", jitter(), 0.95),
        ("fast", Profile::new(500.0, 20.0).loss_pct(1.0), 0.97),
    ];
    for (name, link, least) in links {
        let goodput = (0..3).map(|seed| {
            let world = World::new(link, seed).ours(Bulk, 0.0).run(8.0);
            world.goodput(0, 2.0, 8.0) / link.goodput()
        });
        let goodput = median(goodput.collect());
        assert!(
            goodput >= least,
            "{name}: {goodput:.3} of what is left of the rate"
        );
    }
}

#[test]
fn a_start_takes_ten_round_trips_and_hardly_overflows() {
    for (name, link) in [
        ("30 %", plain().loss_pct(30.0)),
        ("bursts", bursts()),
        ("far", far()),
    ] {
        let world = World::new(link, 1).ours(Bulk, 0.0).run(4.0);
        let reached = world.reaches(0, 0.85 * link.goodput(), 0.0);
        assert!(
            reached <= 20.0 * link.delay + 0.2,
            "{name}: after {reached:.1} s"
        );
        assert!(
            world.overflow() < 0.06,
            "{name}: {:.3} overflowed",
            world.overflow()
        );
    }
}

#[test]
fn a_start_is_as_quick_after_a_few_words() {
    for link in [plain(), plain().loss_pct(10.0), far()] {
        let world = World::new(link, 1).ours(Talk(3.0), 0.0).run(8.0);
        let reached = world.reaches(0, 0.85 * link.goodput(), 3.0);
        assert!(
            reached <= 20.0 * link.delay + 0.2,
            "{link:?}: after {reached:.1} s"
        );
    }
}

#[test]
fn its_queue_is_a_tenth_of_the_round_trip_or_some_milliseconds() {
    for link in [plain(), plain().loss_pct(10.0), bursts(), far()] {
        let world = World::new(link, 1).ours(Bulk, 0.0).run(3.0);
        let world = world.fresh_counters().run(10.0);
        let bound = (0.1 * 2.0 * link.delay).max(0.008);
        assert!(
            world.mean_queue() < bound,
            "{link:?}: {:.4} s",
            world.mean_queue()
        );
        assert!(
            world.overflow() < 0.001,
            "{link:?}: {:.4}",
            world.overflow()
        );
    }
}

#[test]
fn it_does_not_collapse_on_a_narrow_link_with_a_short_queue() {
    for loss_pct in [0.0, 5.0] {
        let mut link = Profile::new(1.0, 50.0).loss_pct(loss_pct);
        link.queue_packets = 20;
        let world = World::new(link, 1).ours(Bulk, 0.0).run(20.0);
        let goodput = world.goodput(0, 2.0, 20.0) / link.goodput();
        assert!(goodput > 0.9, "{goodput:.3}");
        assert!(world.overflow() < 0.04, "{:.3}", world.overflow());
        assert!(world.mean_queue() < 0.1, "{:.3} s", world.mean_queue());
    }
}

#[test]
fn it_is_content_with_what_a_policer_lets_through() {
    for loss_pct in [0.0, 10.0] {
        let police = Some(40.0 * MBIT);
        let link = Profile {
            police,
            ..plain().loss_pct(loss_pct)
        };
        let world = World::new(link, 1).ours(Bulk, 0.0).run(3.0);
        let world = world.fresh_counters().run(15.0);
        let goodput = world.goodput(0, 3.0, 15.0) / link.goodput();
        assert!(goodput > 0.8, "{goodput:.3}");
        assert!(world.overflow() < 0.15, "{:.3} policed", world.overflow());
    }
}

#[test]
fn it_is_content_with_a_link_that_has_hardly_any_queue() {
    let mut link = plain();
    link.queue_packets = 15;
    let world = World::new(link, 1).ours(Bulk, 0.0).run(3.0);
    let world = world.fresh_counters().run(15.0);
    let goodput = world.goodput(0, 3.0, 15.0) / link.goodput();
    assert!(goodput > 0.75, "{goodput:.3}");
    assert!(world.overflow() < 0.15, "{:.3}", world.overflow());
}

#[test]
fn it_and_cubic_leave_each_other_a_third() {
    for rtt_ms in [20.0, 50.0, 100.0] {
        let link = Profile::new(100.0, rtt_ms);
        let second = World::new(link, 1).cubic(0.0).ours(Bulk, 5.0).run(65.0);
        let first = World::new(link, 1).ours(Bulk, 0.0).cubic(5.0).run(65.0);
        for (world, ours) in [(second, 1), (first, 0)] {
            let share = world.goodput(ours, 5.0, 65.0) / link.rate;
            let theirs = world.goodput(1 - ours, 5.0, 65.0) / link.rate;
            assert!(
                share >= 0.3 && theirs >= 0.3,
                "{rtt_ms} ms: {share:.2} and {theirs:.2}"
            );
        }
    }
}

#[test]
fn two_of_a_kind_share_evenly_and_keep_the_queue_short() {
    for rtt_ms in [20.0, 50.0, 100.0] {
        let link = Profile::new(100.0, rtt_ms);
        let world = World::new(link, 1)
            .ours(Bulk, 0.0)
            .ours(Bulk, 5.0)
            .run(45.0);
        let shares = [0, 1].map(|idx| world.goodput(idx, 25.0, 45.0) / link.rate);
        assert!(
            shares[0] > 0.35 && shares[1] > 0.35,
            "{rtt_ms} ms: {shares:.2?}"
        );
        assert!(world.mean_queue() < 0.02, "{:.4} s", world.mean_queue());
    }
}

#[test]
fn it_follows_a_link_that_changes() {
    let link = plain();
    let narrow = Profile {
        rate: 30.0 * MBIT,
        ..link
    };
    let longer = Profile {
        delay: 0.06,
        ..link
    };
    let police = Profile {
        police: Some(40.0 * MBIT),
        ..link
    };
    let steps = [
        ("rate", link.loss_pct(5.0), narrow.loss_pct(5.0), 0.9),
        ("loss", link, link.loss_pct(30.0), 0.9),
        ("delay", link.loss_pct(1.0), longer.loss_pct(1.0), 0.8),
        ("policer", link, police, 0.8),
    ];
    for (name, before, after, least) in steps {
        let world = World::new(before, 1).ours(Bulk, 0.0);
        let world = world.step(6.0, after).step(16.0, before).run(24.0);
        let there = world.goodput(0, 8.0, 16.0) / after.goodput();
        let back = world.goodput(0, 18.0, 24.0) / before.goodput();
        assert!(there > least, "{name}, there: {there:.3}");
        assert!(back > 0.9, "{name}, back: {back:.3}");
    }
}

#[test]
fn it_comes_back_after_an_outage() {
    let link = plain().loss_pct(5.0);
    let world = World::new(link, 1).ours(Bulk, 0.0);
    let world = world
        .step(5.0, link.loss_pct(100.0))
        .step(10.0, link)
        .run(20.0);
    let back = world.reaches(0, 0.85 * link.goodput(), 10.0);
    assert!(back < 3.0, "{back:.1} s after the link");
}

#[test]
fn what_is_sent_on_and_off_neither_hides_the_rate_nor_fills_the_queue() {
    let link = plain().loss_pct(2.0);
    let world = World::new(link, 1)
        .ours(Limited(20.0 * MBIT), 0.0)
        .run(10.0);
    let goodput = world.goodput(0, 2.0, 10.0) / (20.0 * MBIT);
    assert!((0.95..1.05).contains(&(goodput / 0.98)), "{goodput:.3}");
    assert!(world.mean_queue() < 0.002, "{:.4} s", world.mean_queue());

    let world = World::new(link, 1).ours(OnOff(2.0, 8.0), 0.0).run(32.0);
    for from in [10.0, 20.0, 30.0] {
        let goodput = world.goodput(0, from, from + 2.0) / link.goodput();
        assert!(goodput > 0.75, "from {from} s on: {goodput:.3}");
    }
    assert!(world.overflow() < 0.01, "{:.4}", world.overflow());
}

#[test]
fn it_never_sends_more_than_it_may() {
    for link in [plain(), plain().loss_pct(20.0), far()] {
        let max_rate = Some((20.0 * MBIT) as u64);
        let world = World::new(link, 1).ours_with(Bulk, 0.0, max_rate).run(10.0);
        let sent = world.sent_rate(10.0) / (20.0 * MBIT);
        assert!((0.85..1.05).contains(&sent), "{link:?}: {sent:.3}");
    }
}

/// `RUNS=5000` and a release build for the large number.
#[test]
fn it_fills_random_links_without_flooding_them() {
    let results = std::cell::RefCell::new(Vec::new());
    for_seeds(400, |seed| {
        let link = Profile::random(seed);
        let time = 6.0_f64.max(50.0 * link.delay);
        let world = World::new(link, seed).ours(Bulk, 0.0).run(2.0 * time);
        let goodput = world.goodput(0, time, 2.0 * time) / link.goodput();
        assert!(goodput > 0.45, "{link:?}: {goodput:.3}");
        if link.police.is_none() {
            let bound = (0.3 * 2.0 * link.delay).max(0.03) + 12.0 * MTU / link.rate;
            assert!(
                world.mean_queue() < bound,
                "{link:?}: {:.3} s",
                world.mean_queue()
            );
        }
        results.borrow_mut().push(goodput);
    });
    let median = median(results.into_inner());
    assert!(median > 0.93, "{median:.3} in the middle");
}
