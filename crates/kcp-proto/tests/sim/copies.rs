//! Data that somebody waits for, on links that lose much of it.

use std::time::{Duration, Instant};

use kcp_proto::Config;
use kcp_proto::control::SendControl;
use kcp_proto::copies::{Copies, CopyPolicy, Piece};

use crate::link::{Profile, Random};
use crate::pair::Pair;
use crate::{FixedRate, SEC};

/// Copies until hardly ever all of them are lost, as the crate `lossy` has it.
#[derive(Debug)]
struct Enough;

impl CopyPolicy for Enough {
    fn copies(&mut self, _: Instant, piece: Piece) -> Copies {
        if !piece.is_alone {
            return Copies::default();
        }
        let mut n_extra = 0;
        let mut all_lost = piece.loss;
        while all_lost > 0.004 && n_extra < 6 {
            all_lost *= piece.loss;
            n_extra += 1;
        }
        Copies {
            n_extra,
            spacing: (piece.srtt / 16).min(Duration::from_millis(5)),
        }
    }
}

/// Two ends as between Holdfasts.
fn pair(profile: Profile, seed: u64, has_copies: bool) -> Pair {
    let config = || Config {
        send_window: 8192,
        receive_window: 8192,
        interval: Duration::from_millis(5),
        is_write_delayed: false,
        ack_after: 8,
        n_ack_repeats: 40,
        ..Config::frp(7)
    };
    let control = || -> Box<dyn SendControl> { Box::new(FixedRate { rate: 12_000_000 }) };
    let mut pair = Pair::controlled(profile, seed, [config(), config()], [control(), control()]);
    for end in &mut pair.ends {
        end.session.set_parity(0);
        if has_copies {
            end.session.set_copies(Box::new(Enough));
        }
    }
    pair
}

/// Round trips of small messages on one session, in milliseconds.
fn echoes(pair: &mut Pair, n_messages: usize, random: &mut Random) -> Vec<u64> {
    let mut times = Vec::new();
    for _ in 0..n_messages {
        let len = 20 + random.below(200);
        let there = pair.now;
        pair.write(0, len);
        pair.run(30 * SEC);
        pair.write(1, len);
        pair.run(30 * SEC);
        times.push(u64::try_from((pair.now - there).as_millis()).unwrap());
        pair.run_for(Duration::from_millis(20 + random.below(200)));
    }
    times
}

/// Many short runs on links like `profile`: all their echoes in order, but for those in which the
/// session finds out how the link is, and how many bytes were sent for each of data.
fn many(profile: Profile, n_runs: u64, has_copies: bool) -> (Vec<u64>, f64) {
    let (mut all, mut n_sent, mut n_bytes) = (Vec::new(), 0, 0);
    for seed in 0..n_runs {
        let mut random = Random::new(seed);
        let mut pair = pair(profile, seed, has_copies);
        echoes(&mut pair, 40, &mut random);
        all.extend(echoes(&mut pair, 60, &mut random));
        n_sent += pair
            .ends
            .iter()
            .map(|e| e.session.stats().n_bytes_sent)
            .sum::<u64>();
        n_bytes += pair.ends.iter().map(|e| e.n_read).sum::<u64>();
    }
    all.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    let ratio = n_sent as f64 / n_bytes as f64;
    (all, ratio)
}

fn percentile(sorted: &[u64], per_mille: usize) -> u64 {
    sorted[(sorted.len() * per_mille / 1000).min(sorted.len() - 1)]
}

#[test]
fn with_copies_echoes_come_in_time_on_links_that_lose_much() {
    // Round trips of 50 ms. The goals are those of an idle connection's 99th percentile; in bursts
    // copies share their fate, and what is left is a retransmission.
    for (loss_pct, burst, most_ms) in [(1, 1.0, 55), (10, 1.0, 75), (30, 1.0, 100), (10, 2.0, 200)]
    {
        let loss = f64::from(loss_pct) / 100.0;
        let profile = Profile::clean(25).loss(loss).burst(burst);
        let (without, _) = many(profile, 100, false);
        let (with, ratio) = many(profile, 500, true);
        let p99 = percentile(&with, 990);
        eprintln!(
            "loss {loss_pct} % in bursts of {burst}: p50 {} p90 {} p99 {p99} p999 {} ms with copies, \
             p50 {} p99 {} without; {ratio:.1} bytes sent for each",
            percentile(&with, 500),
            percentile(&with, 900),
            percentile(&with, 999),
            percentile(&without, 500),
            percentile(&without, 990),
        );
        assert!(p99 <= most_ms, "{p99} ms at {loss_pct} %");
        assert!(p99 <= percentile(&without, 990));
    }
}

#[test]
fn what_is_measured_of_the_loss_is_near_it() {
    for loss in [0.0, 0.1, 0.3] {
        let mut sum = 0.0;
        for seed in 0..30 {
            let mut random = Random::new(seed);
            let mut pair = pair(Profile::clean(25).loss(loss), seed, true);
            echoes(&mut pair, 150, &mut random);
            sum += pair.ends[0].session.loss();
        }
        let mean = sum / 30.0;
        eprintln!("loss {loss}: measured {mean:.3}");
        assert!(
            (loss - 0.03..loss + 0.09).contains(&mean),
            "{mean} of {loss}"
        );
    }
}

#[test]
fn bulk_has_no_copies() {
    let mut pair = pair(Profile::clean(25).loss(0.1).rate_mbit(100, 500), 3, true);
    pair.write(0, 20 << 20);
    pair.run(60 * SEC);
    let stats = pair.ends[0].session.stats();
    assert!(
        stats.n_copies_sent * 100 <= stats.n_segments_sent,
        "{} copies of {} segments",
        stats.n_copies_sent,
        stats.n_segments_sent
    );
}

#[test]
fn reordering_by_hundreds_of_packets_is_hardly_taken_for_loss() {
    // 100 Mbit/s with 20 ms between the fastest and the slowest way: 180 datagrams.
    let profile = Profile::clean(25).jitter_ms(20).rate_mbit(100, 500);
    let mut pair = pair(profile, 4, true);
    pair.write(0, 100 << 20);
    let took = pair.run(60 * SEC);
    let stats = pair.ends[0].session.stats();
    let n_resent = stats.n_resent_overtaken + stats.n_resent_timed_out;
    eprintln!(
        "{took:?}, {n_resent} of {} sent again",
        stats.n_segments_sent
    );
    assert!(n_resent * 50 <= stats.n_segments_sent, "{stats:?}");
}

#[test]
fn much_loss_and_a_long_round_trip_leave_a_transfer_its_rate() {
    for (delay_ms, loss, burst) in [(100, 0.02, 1.0), (25, 0.3, 1.0), (25, 0.09, 10.0)] {
        let profile = Profile::clean(delay_ms)
            .loss(loss)
            .burst(burst)
            .rate_mbit(100, 500);
        let mut pair = pair(profile, 5, true);
        pair.write(0, u64::MAX / 2);
        pair.run_for(3 * SEC);
        let before = pair.ends[1].n_read;
        pair.run_for(5 * SEC);
        #[expect(clippy::cast_precision_loss, reason = "a ratio")]
        let share = (pair.ends[1].n_read - before) as f64 / 5.0 / (12_000_000.0 * (1.0 - loss));
        eprintln!("{delay_ms} ms, loss {loss}, bursts of {burst}: {share:.3} of the rate");
        assert!(share > 0.88, "{share:.3}");
    }
}
