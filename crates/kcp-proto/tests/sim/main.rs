//! Sessions across simulated links, thousands of short runs. A run is its seed: `SEED=123` runs
//! that one alone, and `RUNS=` sets how many there are.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::print_stderr,
    unreachable_pub,
    missing_docs,
    reason = "tests"
)]

mod copies;
mod detection;
mod link;
mod pair;

use std::time::Duration;

use kcp_proto::Config;
use kcp_proto::config::FirstNumbers;
use kcp_proto::control::{LossDetection, SendControl};

use crate::link::{Profile, Random};
use crate::pair::Pair;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const SEC: Duration = Duration::from_secs(1);

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

#[test]
fn what_is_written_is_read_on_any_link() {
    for_seeds(4000, |seed| {
        let mut random = Random::new(seed);
        let profile = Profile::random(&mut random);
        let mut pair = Pair::new(profile, random.next());
        for i in 0..2 {
            let n_bytes = random.below(60) * KIB + random.below(3000);
            pair.write(i, n_bytes);
            pair.ends[i].write_size = 1 + random.below(20_000) as usize;
        }
        pair.run(120 * SEC);
    });
}

#[test]
fn any_configuration_delivers() {
    for_seeds(1500, |seed| {
        let mut random = Random::new(seed);
        let profile = Profile::random(&mut random);
        let mut config = || Config {
            mtu: 100 + random.below(1390) as usize,
            send_window: 1 + random.below(300) as u32,
            receive_window: 1 + random.below(300) as u32,
            interval: Duration::from_millis(1 + random.below(50)),
            is_write_delayed: random.chance(0.5),
            ack_after: 1 + random.below(100) as usize,
            n_ack_repeats: random.below(20) as usize,
            fec: random.chance(0.7).then_some(kcp_proto::fec::Shards::FRP),
            ..Config::frp(7)
        };
        let configs = [config(), config()];
        let mut pair = Pair::with(profile, random.next(), configs);
        pair.write(0, random.below(8) * KIB);
        pair.write(1, random.below(8) * KIB);
        pair.run(600 * SEC);
    });
}

#[test]
fn numbers_may_wrap_in_mid_transfer() {
    for_seeds(200, |seed| {
        let mut random = Random::new(seed);
        let profile = Profile::random(&mut random);
        let mut first = || u32::MAX - random.below(60) as u32;
        let (a, b, ts, seqid) = (first(), first(), first(), first());
        let config = |send_sn, receive_sn| Config {
            first: FirstNumbers {
                send_sn,
                receive_sn,
                ts,
                seqid,
            },
            ..Config::frp(7)
        };
        let mut pair = Pair::with(profile, random.next(), [config(a, b), config(b, a)]);
        pair.write(0, 150 * KIB);
        pair.write(1, 150 * KIB);
        pair.run(120 * SEC);
    });
}

#[test]
fn pauses_between_writes_do_no_harm() {
    for_seeds(200, |seed| {
        let mut random = Random::new(seed);
        let profile = Profile::random(&mut random);
        let mut pair = Pair::new(profile, random.next());
        for _ in 0..30 {
            pair.write(random.below(2) as usize, 1 + random.below(3000));
            pair.run_for(Duration::from_millis(random.below(1500)));
        }
        pair.run(60 * SEC);
    });
}

#[test]
fn a_slow_reader_holds_the_writer_up_and_loses_nothing() {
    for_seeds(50, |seed| {
        let profile = Profile::clean(20).loss(0.1);
        let mut pair = Pair::new(profile, seed);
        pair.ends[1].read_rate = Some(200_000);
        pair.write(0, 4 * MIB);
        let took = pair.run(60 * SEC);
        assert!(took < 27 * SEC, "4 MiB at 200 kB/s take 21 s, not {took:?}");
    });
}

#[test]
fn a_window_that_was_shut_opens_again() {
    for_seeds(100, |seed| {
        let mut pair = Pair::new(Profile::clean(20).loss(0.3), seed);
        pair.ends[1].is_reading = false;
        pair.write(0, 3 * MIB);
        pair.run_for(20 * SEC);
        assert_eq!(pair.ends[0].session.peer_window(), 0);
        let n_bytes = pair.links[0].n_bytes;
        pair.run_for(20 * SEC);
        let n_asking = pair.links[0].n_bytes - n_bytes;
        assert!(
            n_asking < 2_000,
            "{n_asking} bytes in 20 s to ask for the window"
        );

        pair.ends[1].is_reading = true;
        let took = pair.run(30 * SEC);
        assert!(took < 20 * SEC, "the rest took {took:?}");
    });
}

#[test]
fn an_outage_ends_within_seconds() {
    for_seeds(20, |seed| {
        let mut pair = Pair::new(Profile::clean(25).loss(0.05), seed);
        pair.write(0, 200 * KIB);
        pair.run(20 * SEC);
        pair.write(0, 500 * KIB);
        for link in &mut pair.links {
            link.is_down = true;
        }
        pair.run_for(50 * SEC);
        for link in &mut pair.links {
            link.is_down = false;
        }
        let took = pair.run(60 * SEC);
        assert!(took < 5 * SEC, "{took:?} after the outage");
    });
}

#[test]
fn any_control_delivers_and_may_change_in_mid_transfer() {
    for_seeds(1000, |seed| {
        let mut random = Random::new(seed);
        let profile = Profile::random(&mut random);
        let mut pair = Pair::new(profile, random.next());
        pair.write(0, 300 * KIB);
        pair.write(1, random.below(100) * KIB);
        pair.run_for(Duration::from_millis(random.below(400)));
        for end in &mut pair.ends {
            let n_reordered = 1 + random.below(30) as u32;
            let reorder_time = Duration::from_millis(random.below(50));
            let control = Any {
                window: 1500 + random.below(3000) as u32,
                rate: random.chance(0.7).then(|| 50_000 + random.below(5_000_000)),
                detection: if random.chance(0.7) {
                    LossDetection::Rack {
                        n_reordered,
                        reorder_time,
                    }
                } else {
                    LossDetection::Classic {
                        n_skips: n_reordered,
                    }
                },
            };
            end.session.set_control(Box::new(control));
            end.session
                .set_delays(random.chance(0.5), 8, random.below(40) as usize);
            end.session.grow_windows(4096, 4096);
            end.session.set_parity(random.below(4) as usize);
        }
        pair.run(120 * SEC);
    });
}

#[derive(Debug)]
struct Any {
    window: u32,
    rate: Option<u64>,
    detection: LossDetection,
}

impl SendControl for Any {
    fn window(&self) -> u32 {
        self.window
    }

    fn pacing_rate(&self) -> Option<u64> {
        self.rate
    }

    fn loss_detection(&self) -> LossDetection {
        self.detection
    }
}

#[test]
fn an_idle_session_is_silent() {
    let mut pair = Pair::new(Profile::clean(10), 1);
    pair.write(0, 100 * KIB);
    pair.run(10 * SEC);
    pair.run_for(10 * SEC);
    let before = (pair.links.each_ref().map(|link| link.n_bytes), pair.n_steps);
    pair.run_for(3600 * SEC);
    assert_eq!(
        (
            pair.links.each_ref().map(|link| link.n_bytes),
            pair.n_steps - 1
        ),
        before
    );
    for end in &pair.ends {
        assert!(end.session.is_settled());
        assert_eq!(end.session.poll_timeout(), None);
    }
}

#[test]
fn nothing_is_sent_twice_on_a_clean_link() {
    for delay_ms in [0, 1, 5, 25, 100, 300] {
        let mut pair = Pair::new(Profile::clean(delay_ms), 1);
        pair.write(0, 2 * MIB);
        pair.run(60 * SEC);
        let stats = pair.ends[0].session.stats();
        let n_resent = stats.n_resent_overtaken + stats.n_resent_timed_out;
        // The first window leaves before there is a round-trip time to go by.
        let n_early = if delay_ms >= 100 { 64 } else { 0 };
        assert!(
            n_resent <= n_early,
            "{n_resent} at {delay_ms} ms: {stats:?}"
        );
    }
}

#[test]
fn parity_recovers_losses_before_they_are_sent_again() {
    let resent = |fec: bool, loss: f64| {
        let mut config = Config::frp(7);
        config.fec = config.fec.filter(|_| fec);
        let mut pair = Pair::with(Profile::clean(50).loss(loss), 5, [config.clone(), config]);
        pair.write(0, 4 * MIB);
        pair.run(120 * SEC);
        let [sent, received] = pair.ends.each_ref().map(|end| end.session.stats());
        let n_resent = sent.n_resent_overtaken + sent.n_resent_timed_out;
        eprintln!(
            "loss {loss}, fec {fec}: sent {} segments, {n_resent} again, {} spurious; received {}; \
             recovered {} of {} groups rejected",
            sent.n_segments_sent,
            sent.n_spurious,
            received.n_repeats_received,
            received.fec.n_recovered,
            received.fec.n_rejected,
        );
        assert_eq!(received.fec.n_rejected, 0);
        assert_eq!(received.fec.n_recovered > 0, fec);
        let n_lost = (sent.n_segments_sent as f64 * loss) as u64;
        (n_resent, n_lost, received.fec.n_recovered)
    };
    let (_, n_lost, n_recovered) = resent(true, 0.02);
    assert!(
        n_recovered * 100 > n_lost * 90,
        "{n_recovered} of {n_lost} lost packets recovered"
    );
    let (_, n_lost, n_recovered) = resent(true, 0.1);
    assert!(
        n_recovered * 100 > n_lost * 75,
        "{n_recovered} of {n_lost} lost packets recovered"
    );
    resent(false, 0.1);
}

/// What a controller for lossy links will do, minus finding the rate out.
#[derive(Debug)]
struct FixedRate {
    rate: u64,
}

impl SendControl for FixedRate {
    fn window(&self) -> u32 {
        8192
    }

    fn pacing_rate(&self) -> Option<u64> {
        Some(self.rate)
    }

    fn loss_detection(&self) -> LossDetection {
        LossDetection::Rack {
            n_reordered: 3,
            reorder_time: Duration::from_millis(15),
        }
    }
}

#[test]
fn paced_and_with_a_large_window_a_lossy_link_is_filled() {
    for (loss, burst, jitter_ms) in [
        (0.0, 1.0, 0),
        (0.05, 1.0, 0),
        (0.1, 5.0, 0),
        (0.3, 1.0, 0),
        (0.01, 1.0, 10),
    ] {
        let profile = Profile::clean(25)
            .loss(loss)
            .burst(burst)
            .jitter_ms(jitter_ms)
            .rate_mbit(50, 500);
        let config = || Config {
            send_window: 8192,
            receive_window: 8192,
            interval: Duration::from_millis(5),
            is_write_delayed: false,
            ack_after: 8,
            n_ack_repeats: 40,
            ..Config::frp(7)
        };
        let control = || -> Box<dyn SendControl> { Box::new(FixedRate { rate: 6_050_000 }) };
        let mut pair = Pair::controlled(profile, 9, [config(), config()], [control(), control()]);
        for end in &mut pair.ends {
            end.session.set_parity(0);
        }
        pair.write(0, u64::MAX / 2);
        pair.run_for(2 * SEC);
        let before = pair.ends[1].n_read;
        pair.run_for(4 * SEC);
        let goodput = (pair.ends[1].n_read - before) as f64 / 4.0;
        let share = goodput / (6_250_000.0 * (1.0 - loss));
        let stats = pair.ends[0].session.stats();
        eprintln!(
            "loss {loss} burst {burst} jitter {jitter_ms}: {share:.3} of the rate; {} sent, \
             {} overtaken, {} timed out, {} spurious",
            stats.n_segments_sent,
            stats.n_resent_overtaken,
            stats.n_resent_timed_out,
            stats.n_spurious,
        );
        assert!(
            share > 0.88,
            "{share:.3} of (1 - loss) x rate at loss {loss}"
        );
    }
}
