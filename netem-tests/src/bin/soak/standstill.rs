//! Users who stand still although nothing is wrong with the link.
//!
//! Everybody moves data in both directions for as long as they are there. While the link is well, and
//! has been for a moment, time in which nothing of a direction comes is counted; what a fault explains
//! is not. Somebody who has stood still for long enough is told of at once, since what the programs
//! know of it is known only then.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use netem_tests::observe::Ledger;

/// Somebody who is there, as whoever watches them sees it.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) id: u64,
    pub(crate) came: Instant,
    /// How much they move, in words.
    pub(crate) habits: String,
    /// What has come at them and at the service, once they are connected.
    pub(crate) ledgers: OnceLock<[Arc<Ledger>; 2]>,
}

/// How long the directions of one user have brought nothing.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    ways: [Way; 2],
}

#[derive(Debug, Default)]
struct Way {
    n_bytes: u64,
    since: Option<Instant>,
    /// How much of the time since then nothing was wrong.
    stood: Duration,
    is_told: bool,
    has_failed: bool,
}

/// Somebody stands still.
#[derive(Debug)]
pub(crate) struct Standstill {
    pub(crate) text: String,
    /// For so long that something must be broken.
    pub(crate) is_failure: bool,
}

impl Watch {
    /// Looks again, a `step` after the last look. `is_well` says that nothing was wrong meanwhile.
    pub(crate) fn look(
        &mut self,
        guest: &Guest,
        now: Instant,
        step: Duration,
        is_well: bool,
    ) -> Option<Standstill> {
        let ledgers = guest.ledgers.get();
        let mut found = None;
        for (number, way) in self.ways.iter_mut().enumerate() {
            let ledger = ledgers.map(|both| &both[number]);
            let n_bytes = ledger.map_or(0, |ledger| ledger.n_bytes());
            let is_over = ledger.is_some_and(|ledger| ledger.end().is_some());
            if n_bytes > way.n_bytes || is_over || way.since.is_none() {
                *way = Way {
                    n_bytes,
                    since: Some(now),
                    ..Way::default()
                };
                continue;
            }
            if is_well {
                way.stood += step;
            }
            let is_failure = way.stood >= BROKEN_AFTER && !way.has_failed;
            if is_failure || (way.stood >= TOLD_AFTER && !way.is_told) {
                way.is_told = true;
                way.has_failed = is_failure;
                found = Some(Standstill {
                    text: way.describe(guest, WAYS[number], now),
                    is_failure,
                });
            }
        }
        found
    }
}

impl Way {
    fn describe(&self, guest: &Guest, way: &str, now: Instant) -> String {
        let seconds = |since: Instant| now.saturating_duration_since(since).as_secs_f64();
        let still = self.since.map_or(0.0, seconds);
        let stage = match guest.ledgers.get() {
            Some(_) => "connected",
            None => "not connected yet",
        };
        format!(
            "user {} ({}, {stage}), who came {:.1} s ago: nothing more {way} for {still:.1} s, {:.1} s \
             of which nothing was wrong with the link; {} bytes came before",
            guest.id,
            guest.habits,
            seconds(guest.came),
            self.stood.as_secs_f64(),
            self.n_bytes
        )
    }
}

/// What comes in which ledger.
const WAYS: [&str; 2] = ["has come to the user", "has come to the service"];

/// Longer than anything that the switch policy promises, and so much that a busy machine explains it
/// rarely.
const TOLD_AFTER: Duration = Duration::from_secs(10);

/// No machine is so busy.
const BROKEN_AFTER: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(100);

    fn look_for(watch: &mut Watch, guest: &Guest, seconds: u64, is_well: bool) -> Vec<bool> {
        let looks = (0..seconds * 10).filter_map(|n| {
            let now = guest.came + STEP * u32::try_from(n).unwrap_or(0);
            watch.look(guest, now, STEP, is_well)
        });
        looks.map(|standstill| standstill.is_failure).collect()
    }

    #[test]
    fn only_time_in_which_nothing_is_wrong_counts_and_each_standstill_is_told_once() {
        let guest = Guest {
            id: 7,
            came: Instant::now(),
            habits: String::new(),
            ledgers: OnceLock::new(),
        };
        let mut watch = Watch::default();
        assert!(look_for(&mut watch, &guest, 100, false).is_empty());
        assert!(look_for(&mut watch, &guest, 9, true).is_empty());
        assert_eq!(look_for(&mut watch, &guest, 5, true), [false]);
        assert_eq!(look_for(&mut watch, &guest, 50, true), [true]);
    }
}
