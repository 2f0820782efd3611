//! Real `netem` and the user-space link make the same of the same profile, and both make of it what
//! it says: loss within 10 %, delay and rate within 3 %, TCP as the formula of Mathis has it.
//!
//! Where the kernel has no netem, only the user-space link is held against its profile; `make
//! netem` then runs this in a guest whose kernel has it. `QUICK=1` measures for a shorter time.
//! These tests need root. Without it each of them says that it is skipped.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::env;
use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use netem_tests::lab::gauge;
use netem_tests::{BackEnd, Direction, Lab, Profile};

#[test]
fn delays_agree() {
    for delay_ms in [20, 50] {
        let profile = Profile::delay_ms(delay_ms).rate_mbit(50);
        compare(
            &format!("round trip at {delay_ms} ms each way, in ms"),
            |back_end| {
                let lab = start(back_end, &profile);
                let times = gauge::echo_times(&lab, 200, Duration::from_millis(5)).unwrap();
                Measured {
                    value: gauge::median(&times).unwrap().as_secs_f64() * 1000.0,
                    expected: f64::from(delay_ms) * 2.0,
                    tolerance: 0.03,
                }
            },
        );
    }
}

#[test]
fn rates_agree() {
    for rate_mbit in [2.0, 20.0] {
        let profile = Profile::delay_ms(10)
            .rate_mbit(rate_mbit)
            .queue_packets(100);
        for way in Direction::BOTH {
            compare(&format!("rate of {rate_mbit} Mbit/s {way}"), |back_end| {
                let lab = start(back_end, &profile);
                let duration = Duration::from_secs(if is_quick() { 2 } else { 6 });
                let stream = gauge::stream(&lab, way, rate_mbit * 1.3, duration).unwrap();
                Measured {
                    value: stream.rate_mbit,
                    expected: rate_mbit,
                    tolerance: 0.03,
                }
            });
        }
    }
}

#[test]
fn random_losses_agree() {
    for loss_pct in [1.0, 5.0, 20.0] {
        // The relative deviation of n packets is sqrt((1 - p) / (p n)): with 1 %, a quarter of
        // what is allowed needs 150,000 of them. The quick form leaves that out.
        if is_quick() && loss_pct < 5.0 {
            continue;
        }
        let profile = Profile::delay_ms(5).loss_pct(loss_pct);
        compare(&format!("loss of {loss_pct} %"), |back_end| Measured {
            value: stream(back_end, &profile, loss_pct < 5.0).loss_pct(),
            expected: loss_pct,
            tolerance: 0.1,
        });
    }
}

#[test]
fn bursts_agree() {
    let profile = Profile::delay_ms(5).gilbert_elliott(5, 50);
    let measure = |back_end| stream(back_end, &profile, false);

    compare("loss in bursts of 2, in %", |back_end| Measured {
        value: measure(back_end).loss_pct(),
        expected: profile.way(Direction::ToNear).loss.mean_pct(),
        tolerance: 0.1,
    });
    compare("packets per burst", |back_end| Measured {
        value: measure(back_end).mean_burst(),
        expected: 2.0,
        tolerance: 0.1,
    });
}

/// Cubic behaves as Reno on such small windows, and the formula is Reno's: 1.22 segments over the
/// round trip and the root of the loss. It knows no timeouts, which 5 % of loss has many of: with
/// five packets under way, a loss often leaves too few behind it for a fast retransmission.
#[test]
fn tcp_is_as_fast_as_its_formula_says() {
    for (loss_pct, least, most) in [(1.0, 0.7, 1.3), (5.0, 0.45, 1.15)] {
        let profile = Profile::delay_ms(25)
            .rate_mbit(100)
            .to_near(|link| link.loss_pct(loss_pct));
        let formula = TCP_SEGMENT_BITS / 0.05 * 1.22 / (loss_pct / 100.0_f64).sqrt() / 1e6;
        let middle = f64::midpoint(least, most);
        compare(
            &format!("Cubic at {loss_pct} %, in units of Mathis"),
            |back_end| Measured {
                value: mean_tcp_mbit(back_end, &profile) / formula,
                expected: middle,
                tolerance: (most - least) / 2.0 / middle,
            },
        );
    }
}

/// What one back end made of a profile, and what it should have.
struct Measured {
    value: f64,
    expected: f64,
    /// How far it may be off, as a part of what is expected.
    tolerance: f64,
}

impl Measured {
    fn is_right(&self) -> bool {
        (self.value / self.expected - 1.0).abs() <= self.tolerance
    }
}

/// Measures with every back end there is: each has to be right, and no further from the other one than
/// it may be from what is right.
fn compare(what: &str, measure: impl Fn(BackEnd) -> Measured) {
    let mut results: Vec<Measured> = Vec::new();
    for back_end in back_ends(what) {
        // Other programs of the machine disturb a measurement, and never make a wrong link right.
        let result = (0..N_ATTEMPTS).map(|_| measure(back_end));
        let mut last = None;
        for result in result {
            let is_right = result.is_right();
            report(&format!(
                "{what}: {back_end:?} {:.3}, expected {:.3} within {:.0} %{}",
                result.value,
                result.expected,
                result.tolerance * 100.0,
                if is_right { "" } else { ": NOT RIGHT" }
            ));
            last = Some(result);
            if is_right {
                break;
            }
        }
        results.extend(last);
    }
    for result in &results {
        assert!(result.is_right(), "{what}: {:.3}", result.value);
    }
    if let [one, other] = results.as_slice() {
        let apart = (one.value / other.value - 1.0).abs();
        assert!(
            apart <= one.tolerance,
            "{what}: apart by {:.1} %",
            apart * 100.0
        );
    }
}

fn back_ends(what: &str) -> Vec<BackEnd> {
    if !Lab::is_available_for(what) {
        return Vec::new();
    }
    let mut back_ends = vec![BackEnd::UserSpace];
    match Lab::netem_available() {
        Ok(()) => back_ends.push(BackEnd::Netem),
        Err(reason) => report(&format!("NOT COMPARED with netem: {what}: {reason}")),
    }
    back_ends
}

fn start(back_end: BackEnd, profile: &Profile) -> Lab {
    let seed = env::var("LAB_SEED").map_or(1, |seed| seed.parse().unwrap());
    Lab::start_on(back_end, "agreement", profile, seed).unwrap()
}

/// Sends enough packets to know their loss.
fn stream(back_end: BackEnd, profile: &Profile, is_rare: bool) -> gauge::Stream {
    let lab = start(back_end, profile);
    let seconds = match (is_rare, is_quick()) {
        (true, _) => 25,
        (false, false) => 12,
        (false, true) => 8,
    };
    let way = Direction::ToNear;
    gauge::stream(&lab, way, STREAM_MBIT, Duration::from_secs(seconds)).unwrap()
}

/// Several connections, each in a lab of its own, all at the same time: one alone would have to run
/// for minutes.
fn mean_tcp_mbit(back_end: BackEnd, profile: &Profile) -> f64 {
    let duration = Duration::from_secs(if is_quick() { 10 } else { 30 });
    let measure = |number: u64| {
        let lab = Lab::start_on(back_end, "Mathis", profile, number).unwrap();
        // Slow start is over by then.
        let warm_up = Duration::from_secs(3);
        gauge::tcp_mbit(&lab, Direction::ToNear, "cubic", warm_up, duration).unwrap()
    };
    let sum: f64 = thread::scope(|scope| {
        let threads: Vec<_> = (1..=N_CONNECTIONS)
            .map(|number| scope.spawn(move || measure(number)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    sum / N_CONNECTIONS as f64
}

fn is_quick() -> bool {
    env::var("QUICK").is_ok_and(|value| !value.is_empty())
}

/// Straight to the file: the figures are worth reading when all is well, too.
fn report(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// 6667 packets in a second: a guest's one processor can do that.
const STREAM_MBIT: f64 = 80.0;
/// 1448 bytes of payload, as with timestamps.
const TCP_SEGMENT_BITS: f64 = 1448.0 * 8.0;
const N_CONNECTIONS: u64 = 4;
const N_ATTEMPTS: usize = 3;
