//! Real `netem` and the user-space link make the same of the same profile, and both make of it what
//! it says: loss within 10 %, delay and rate within 3 %, TCP as the formula of Mathis has it.
//!
//! Where the kernel has no netem, only the user-space link is held against its profile; `make
//! netem` then runs this in a guest whose kernel has it. `FULL=1` measures longer, and more.
//! These tests need root. Without it each of them says that it is skipped.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::env;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use netem_tests::lab::gauge;
use netem_tests::{BackEnd, Direction, Lab, Profile};

#[test]
fn delays_agree() {
    for delay_ms in [20, 50] {
        let profile = Profile::delay_ms(delay_ms).rate_mbit(50);
        compare(
            &format!("by how much {delay_ms} ms each way take longer than {SHORT_DELAY_MS}, in ms"),
            |back_end| {
                let lab = start(back_end, &profile.clone().one_way_delay_ms(SHORT_DELAY_MS));
                // What a machine takes to send, to wake and to receive is no delay of the link,
                // and on a slow one it is several milliseconds: both have it, so it cancels.
                let short = round_trip_ms(&lab);
                lab.set_link(&profile).unwrap();
                let longer_by = f64::from(delay_ms - SHORT_DELAY_MS) * 2.0;
                Measured {
                    value: round_trip_ms(&lab) - short,
                    expected: longer_by,
                    tolerance: 0.03,
                }
            },
        );
    }
}

#[test]
fn rates_agree() {
    for (rate_mbit, way) in [(2.0, Direction::ToFar), (8.0, Direction::ToNear)] {
        let profile = Profile::delay_ms(10)
            .rate_mbit(rate_mbit)
            .queue_packets(100);
        compare(&format!("rate of {rate_mbit} Mbit/s {way}"), |back_end| {
            let lab = start(back_end, &profile);
            let duration = Duration::from_secs(if is_quick() { 2 } else { 8 });
            let stream = gauge::stream(&lab, way, rate_mbit * 1.3, duration).unwrap();
            Measured {
                value: stream.rate_mbit,
                expected: rate_mbit,
                tolerance: 0.03,
            }
        });
    }
}

#[test]
fn random_losses_agree() {
    for loss_pct in [1_u32, 5, 20] {
        if is_quick() && loss_pct < 5 {
            continue;
        }
        let profile = Profile::delay_ms(5).loss_pct(loss_pct);
        // The relative deviation of n packets is sqrt((1 - p) / (p n)): a third of what is allowed
        // for 800 lost ones, a quarter for 1600.
        let n_lost: u64 = if is_quick() { 800 } else { 1_600 };
        let n_packets = n_lost * 100 / u64::from(loss_pct);
        compare(&format!("loss of {loss_pct} %"), |back_end| Measured {
            value: stream(back_end, &profile, n_packets).loss_pct(),
            expected: f64::from(loss_pct),
            tolerance: 0.1,
        });
    }
}

#[test]
fn bursts_agree() {
    let profile = Profile::delay_ms(5).gilbert_elliott(5, 50);
    // Lengths of bursts vary as well, so more are needed.
    let n_packets = if is_quick() { 20_000 } else { 40_000 };

    compare("loss in bursts, in %", |back_end| Measured {
        value: stream(back_end, &profile, n_packets).loss_pct(),
        expected: profile.way(Direction::ToNear).loss.mean_pct(),
        tolerance: 0.1,
    });
    // The number of bursts follows from these two.
    if !is_quick() {
        compare("packets per burst", |back_end| Measured {
            value: stream(back_end, &profile, n_packets).mean_burst(),
            expected: 2.0,
            tolerance: 0.1,
        });
    }
}

/// Cubic behaves as Reno on such small windows, and the formula is Reno's: 1.22 segments over the
/// round trip and the root of the loss. It knows no timeouts, which 5 % of loss has many of: with
/// five packets under way, a loss often leaves too few behind it for a fast retransmission.
#[test]
fn tcp_is_as_fast_as_its_formula_says() {
    for (loss_pct, least, most) in [(1.0, 0.7, 1.3), (5.0, 0.45, 1.15)] {
        // The slower one is less work for a guest.
        if is_quick() && loss_pct < 5.0 {
            continue;
        }
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

/// Measures with every back end there is: each has to be right, and no further from the other one
/// than it may be from what is right.
///
/// What disturbs a measurement, chance or other programs, can do so several times, but it does not
/// make a wrong link right: one good round of [`N_ROUNDS`] is enough.
fn compare(what: &str, measure: impl Fn(BackEnd) -> Measured) {
    // One at a time, or they disturb each other.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let back_ends = back_ends(what);
    let mut problem = None;
    for _ in 0..N_ROUNDS {
        let results: Vec<_> = back_ends
            .iter()
            .map(|back_end| measure(*back_end))
            .collect();
        for (result, back_end) in results.iter().zip(&back_ends) {
            report(&format!(
                "{what}: {back_end:?} {:.3}, expected {:.3} within {:.0} %",
                result.value,
                result.expected,
                result.tolerance * 100.0,
            ));
        }
        problem = problem_of(&results);
        let Some(problem) = &problem else { return };
        report(&format!("{what}: {problem}"));
    }
    panic!("{what}: {}", problem.unwrap_or_default());
}

fn problem_of(results: &[Measured]) -> Option<String> {
    if let Some(wrong) = results.iter().find(|result| !result.is_right()) {
        return Some(format!("{:.3} is not {:.3}", wrong.value, wrong.expected));
    }
    let [one, other] = results else { return None };
    let apart = (one.value / other.value - 1.0).abs();
    (apart > one.tolerance).then(|| format!("apart by {:.1} %", apart * 100.0))
}

fn back_ends(what: &str) -> Vec<BackEnd> {
    if !Lab::is_available_for(what) {
        return Vec::new();
    }
    let mut back_ends = vec![BackEnd::UserSpace];
    match Lab::netem_available() {
        Ok(()) => back_ends.push(BackEnd::Netem),
        Err(_) => report(&format!(
            "NOT COMPARED with netem, which this kernel has not: {what}"
        )),
    }
    back_ends
}

fn start(back_end: BackEnd, profile: &Profile) -> Lab {
    let seed = env::var("LAB_SEED").map_or(1, |seed| seed.parse().unwrap());
    Lab::start_on(back_end, "agreement", profile, seed).unwrap()
}

fn round_trip_ms(lab: &Lab) -> f64 {
    let times = gauge::echo_times(lab, 100, Duration::from_millis(5)).unwrap();
    // What disturbs a packet makes it late, never early, so the earliest know the link best.
    gauge::earliest_tenth(&times).unwrap().as_secs_f64() * 1000.0
}

/// Sends enough packets to know their loss, however slow the machine is.
fn stream(back_end: BackEnd, profile: &Profile, n_packets: u64) -> gauge::Stream {
    let lab = start(back_end, profile);
    let mut sum: Option<gauge::Stream> = None;
    while sum.is_none_or(|sum| sum.n_sent < n_packets) {
        let next = gauge::stream(&lab, Direction::ToNear, STREAM_MBIT, STREAM_DURATION).unwrap();
        let sum = sum.get_or_insert(gauge::Stream {
            n_sent: 0,
            n_received: 0,
            n_bursts: 0,
            ..next
        });
        sum.n_sent += next.n_sent;
        sum.n_received += next.n_received;
        sum.n_bursts += next.n_bursts;
    }
    sum.unwrap()
}

/// Several connections, each in a lab of its own, all at the same time: one alone would have to run
/// for minutes.
fn mean_tcp_mbit(back_end: BackEnd, profile: &Profile) -> f64 {
    let duration = Duration::from_secs(if is_quick() { 8 } else { 30 });
    let measure = |number: u64| {
        let lab = Lab::start_on(back_end, "Mathis", profile, number).unwrap();
        // Slow start is over by then.
        let warm_up = Duration::from_secs(2);
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
    env::var("FULL").map_or(true, |value| value.is_empty())
}

/// Straight to the file: the figures are worth reading when all is well, too.
fn report(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Longer than nothing, so that the link has to wake up for each packet here as well.
const SHORT_DELAY_MS: u32 = 5;
/// 6667 packets in a second: an idle guest's one processor can do that.
const STREAM_MBIT: f64 = 80.0;
const STREAM_DURATION: Duration = Duration::from_secs(2);
/// 1448 bytes of payload, as with timestamps.
const TCP_SEGMENT_BITS: f64 = 1448.0 * 8.0;
const N_CONNECTIONS: u64 = 4;
const N_ROUNDS: usize = 3;
