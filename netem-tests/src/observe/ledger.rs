//! What has arrived of a stream, and when.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The arrivals of one direction, written by the receiver and asked by everybody.
#[derive(Debug, Default)]
pub struct Ledger {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    arrivals: Vec<Arrival>,
    end: Option<(Instant, End)>,
}

/// What came within a moment.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    first: Instant,
    last: Instant,
    n_bytes: u64,
}

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The sender said that it was done, and everything had come.
    Complete,
    /// The connection ended before that.
    Broken(String),
    /// A word was not the one that had to come.
    Wrong(String),
}

impl Ledger {
    pub(crate) fn note_bytes(&self, n_bytes: usize) {
        let now = Instant::now();
        let mut state = self.state();
        match state.arrivals.last_mut() {
            Some(last) if now.saturating_duration_since(last.first) < MOMENT => {
                last.last = now;
                last.n_bytes += n_bytes as u64;
            }
            _ => {
                state.arrivals.push(Arrival {
                    first: now,
                    last: now,
                    n_bytes: n_bytes as u64,
                });
                self.changed.notify_all();
            }
        }
    }

    pub(crate) fn note_end(&self, end: End) {
        // The first one counts: what follows it are its consequences.
        self.state()
            .end
            .get_or_insert_with(|| (Instant::now(), end));
        self.changed.notify_all();
    }

    /// Returns how the stream ended and when, once it has.
    pub fn end(&self) -> Option<(Instant, End)> {
        self.state().end.clone()
    }

    /// Waits until the stream has ended, for so long.
    pub fn wait_for_end(&self, patience: Duration) -> Option<End> {
        let (state, _) = self
            .changed
            .wait_timeout_while(self.state(), patience, |state| state.end.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        state.end.as_ref().map(|(_, end)| end.clone())
    }

    /// Waits until something arrives after `since`, for so long.
    pub fn wait_for_bytes(&self, since: Instant, patience: Duration) -> bool {
        let (state, _) = self
            .changed
            .wait_timeout_while(self.state(), patience, |state| {
                state.end.is_none() && !state.has_bytes_after(since)
            })
            .unwrap_or_else(PoisonError::into_inner);
        state.has_bytes_after(since)
    }

    /// Returns how many bytes have come.
    pub fn n_bytes(&self) -> u64 {
        self.state().arrivals.iter().map(|one| one.n_bytes).sum()
    }

    /// Returns how many bytes came in a period, to within 10 ms.
    pub fn n_bytes_between(&self, from: Instant, until: Instant) -> u64 {
        let state = self.state();
        let inside = state
            .arrivals
            .iter()
            .filter(|one| one.first >= from && one.first < until);
        inside.map(|one| one.n_bytes).sum()
    }

    /// Returns when the first bytes after `since` came.
    pub fn first_after(&self, since: Instant) -> Option<Instant> {
        let state = self.state();
        let next = state.arrivals.iter().find(|one| one.last > since)?;
        Some(if next.first > since {
            next.first
        } else {
            next.last
        })
    }

    /// Returns the longest time in a period in which nothing came. What begins before the period
    /// counts from its beginning, and what lasts beyond it to its end.
    pub fn longest_gap(&self, from: Instant, until: Instant) -> Duration {
        let state = self.state();
        let mut longest = Duration::ZERO;
        let mut last = from;
        for one in &state.arrivals {
            if one.last < from {
                continue;
            }
            if one.first > until {
                break;
            }
            longest = longest.max(one.first.saturating_duration_since(last));
            last = last.max(one.last);
        }
        longest.max(until.saturating_duration_since(last))
    }

    /// Returns how much came in each `step` of a period.
    pub fn by_time(&self, from: Instant, until: Instant, step: Duration) -> Vec<u64> {
        let state = self.state();
        let n_steps = until
            .saturating_duration_since(from)
            .as_nanos()
            .div_ceil(step.as_nanos().max(1));
        let mut sums = vec![0; usize::try_from(n_steps).unwrap_or(0)];
        for one in &state.arrivals {
            let Some(since) = one.first.checked_duration_since(from) else {
                continue;
            };
            let number = since.as_nanos() / step.as_nanos().max(1);
            let sum = usize::try_from(number)
                .ok()
                .and_then(|number| sums.get_mut(number));
            if let Some(sum) = sum {
                *sum += one.n_bytes;
            }
        }
        sums
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_bytes_after(&self, since: Instant) -> bool {
        self.arrivals.last().is_some_and(|one| one.last > since)
    }
}

/// What comes within it is one entry: an hour of a stream is then some megabytes of notes.
const MOMENT: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_lasts_from_one_arrival_to_the_next() {
        let start = Instant::now();
        let ledger = ledger(start, &[0, 10, 20, 520, 530]);

        assert_eq!(gap(&ledger, start, 0, 530), 500);
        assert_eq!(gap(&ledger, start, 100, 530), 420, "from the beginning");
        assert_eq!(gap(&ledger, start, 100, 300), 200, "nothing at all");
        assert_eq!(gap(&ledger, start, 525, 1530), 1000, "to the end");
    }

    #[test]
    fn bytes_are_counted_where_they_came() {
        let start = Instant::now();
        let ledger = ledger(start, &[0, 10, 20, 520, 530]);
        let at = |ms| start + Duration::from_millis(ms);

        assert_eq!(ledger.n_bytes_between(at(5), at(525)), 300);
        assert_eq!(ledger.first_after(at(21)), Some(at(520)));
        assert_eq!(ledger.first_after(at(531)), None);
        assert_eq!(
            ledger.by_time(start, at(600), Duration::from_millis(200)),
            [300, 0, 200]
        );
    }

    #[test]
    fn the_first_end_counts() {
        let ledger = Ledger::default();

        ledger.note_end(End::Complete);
        ledger.note_end(End::Broken("later".to_owned()));

        assert_eq!(ledger.wait_for_end(Duration::ZERO), Some(End::Complete));
    }

    fn ledger(start: Instant, at_ms: &[u64]) -> Ledger {
        let ledger = Ledger::default();
        ledger.state().arrivals = at_ms
            .iter()
            .map(|ms| {
                let at = start + Duration::from_millis(*ms);
                Arrival {
                    first: at,
                    last: at,
                    n_bytes: 100,
                }
            })
            .collect();
        ledger
    }

    fn gap(ledger: &Ledger, start: Instant, from: u64, until: u64) -> u128 {
        let at = |ms| start + Duration::from_millis(ms);
        ledger.longest_gap(at(from), at(until)).as_millis()
    }
}
