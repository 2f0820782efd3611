//! Sessions between two Holdfasts across simulated links: what share of them they use. The links and
//! what runs over them are those of the tests of `kcp-proto`.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::print_stderr,
    unreachable_pub,
    dead_code,
    missing_docs,
    unfulfilled_lint_expectations,
    reason = "tests, and what others of them use"
)]

#[path = "../../../../crates/kcp-proto/tests/sim/link.rs"]
mod link;
#[path = "../../../../crates/kcp-proto/tests/sim/pair.rs"]
mod pair;

use std::time::Duration;

use kcp_proto::Config;
use kcp_proto::segment::Header;

use self::link::Profile;
use self::pair::Pair;
use super::Fast;

/// What a transfer has come to.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    /// From second 2 to second 8, as a share of what the link lets through.
    goodput: f64,
    /// Bytes sent x (1 - loss) / bytes delivered.
    wire: f64,
    longest_gap: Duration,
}

fn run(profile: Profile, seed: u64) -> Outcome {
    let config = || Config::frp(7);
    let mut pair = Pair::with(profile, seed, [config(), config()]);
    // A login.
    for i in 0..2 {
        pair.write(i, 500);
    }
    pair.run(Duration::from_secs(10));
    let now = pair.began_at + pair.now;
    for end in &mut pair.ends {
        Fast::lossy(None).apply(&mut end.session, now);
        end.may_window_shrink = true;
        end.are_bytes_checked = false;
    }
    pair.run_for(Duration::from_millis(1500));

    let began_with = (pair.ends[1].n_read, pair.links[0].n_bytes);
    pair.write(0, u64::MAX / 2);
    let mut longest_gap = Duration::ZERO;
    let mut read_at = (pair.now, began_with.0);
    let mut at_two = began_with;
    let tick = Duration::from_millis(10);
    for i in 0..800_u32 {
        pair.run_for(tick);
        let n_read = pair.ends[1].n_read;
        if n_read > read_at.1 {
            longest_gap = longest_gap.max(pair.now - read_at.0);
            read_at = (pair.now, n_read);
        }
        if i == 199 {
            at_two = (n_read, pair.links[0].n_bytes);
        }
    }
    longest_gap = longest_gap.max(pair.now - read_at.0);
    let n_read = pair.ends[1].n_read;
    let mss = config().mss() as f64;
    let overhead = (Header::LEN + DATAGRAM_OVERHEAD) as f64;
    let (rate, _) = profile.rate.unwrap();
    let rate = rate as f64 * (1.0 - profile.loss) * mss / (mss + overhead);
    Outcome {
        goodput: (n_read - at_two.0) as f64 / 6.0 / rate,
        wire: (pair.links[0].n_bytes - at_two.1) as f64 * (1.0 - profile.loss)
            / (n_read - at_two.0) as f64,
        longest_gap,
    }
}

/// A link of 100 Mbit/s.
fn link(delay_ms: u64, loss: f64, burst: f64, n_queued: usize) -> Profile {
    Profile::clean(delay_ms)
        .loss(loss)
        .burst(burst)
        .rate_mbit(100, n_queued)
}

/// Runs `profile` with some seeds. `SEED=123` runs one alone.
fn assert_share(profile: Profile, least: f64) {
    let seed = std::env::var("SEED").map(|seed| seed.parse().unwrap());
    for seed in seed.map_or(1..=N_SEEDS, |seed| seed..=seed) {
        let outcome = run(profile, seed);
        eprintln!("SEED={seed}: {outcome:?}");
        assert!(outcome.goodput >= least, "{outcome:?} with SEED={seed}");
        assert!(outcome.wire <= 1.1, "{outcome:?} with SEED={seed}");
        assert!(outcome.longest_gap < SECOND, "{outcome:?} with SEED={seed}");
    }
}

#[test]
fn a_link_that_loses_a_third_is_filled() {
    assert_share(link(25, 0.3, 1.0, 500), 0.93);
}

#[test]
fn bursts_of_losses_are_no_reason_to_send_less() {
    assert_share(link(25, 0.0909, 10.0, 500), 0.9);
}

#[test]
fn a_long_link_is_filled_from_its_third_second_on() {
    assert_share(link(100, 0.02, 1.0, 1000), 0.88);
}

#[test]
fn jitter_neither_ends_the_start_early_nor_lets_the_rate_dwindle() {
    assert_share(link(15, 0.01, 1.0, 500).jitter_ms(20), 0.88);
}

/// The headers of error correction, UDP and IP.
const DATAGRAM_OVERHEAD: usize = 8 + 28;

const SECOND: Duration = Duration::from_secs(1);

/// Of each link. What went wrong before did so with one seed in five or more.
const N_SEEDS: u64 = 4;
