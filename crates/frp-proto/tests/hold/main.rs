//! Two ends of a session over carriers that die, come back, repeat and overtake each other. A run
//! is its seed: `SEED=123` runs that one alone, and `RUNS=` sets how many there are.
//!
//! What is checked in every run: the reader gets an exact prefix of what the writer wrote, and the
//! end if and only if the writer ended; once a carrier lives everything comes to its end; buffers
//! stay within their bounds, and nothing is kept at the end.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::print_stderr,
    clippy::disallowed_methods,
    unreachable_pub,
    missing_docs,
    reason = "tests"
)]

mod app;
mod carrier;
mod random;
mod world;

use crate::random::Random;
use crate::world::{Plan, World};

/// Divided over this many threads of the test runner.
const N_RUNS: u64 = 100_000;

macro_rules! quarters {
    ($($name:ident $n:expr),*) => {$(
        #[test]
        fn $name() {
            run_all($n, 4);
        }
    )*};
}

quarters!(
    streams_survive_their_carriers_first_quarter 0,
    streams_survive_their_carriers_second_quarter 1,
    streams_survive_their_carriers_third_quarter 2,
    streams_survive_their_carriers_fourth_quarter 3
);

/// Runs the seed in `SEED`, or one part of all. Says which one has failed.
fn run_all(part: u64, n_parts: u64) {
    let number = |name| {
        std::env::var(name)
            .ok()
            .map(|text: String| text.parse().unwrap())
    };
    if let Some(seed) = number("SEED") {
        if part == 0 {
            run(seed);
        }
        return;
    }
    let n_runs = number("RUNS").unwrap_or(N_RUNS);
    let mut seen = world::Seen::default();
    for seed in (part..n_runs).step_by(n_parts as usize) {
        let guard = SayOnPanic(seed);
        seen.add(&run(seed));
        std::mem::forget(guard);
    }
    eprintln!("{seen:?}");
    if n_runs >= N_RUNS {
        seen.assert_all_came_up();
    }
}

fn run(seed: u64) -> world::Seen {
    let mut random = Random::new(seed);
    let plan = Plan::random(&mut random);
    World::new(plan, random).run()
}

struct SayOnPanic(u64);

impl Drop for SayOnPanic {
    fn drop(&mut self) {
        eprintln!("failed with SEED={}", self.0);
    }
}
