//! How much one stream sends before the next one's turn.
//!
//! Small turns keep streams even on a slow path; on a fast one they only cost frames and system
//! calls. So a turn lasts about a millisecond at the rate of late, within bounds.

use std::time::{Duration, Instant};

/// The turn of a slow path.
pub(super) const TURN_LEN_MIN: usize = 16 * 1024;

/// The turn of a fast path: half of what is handed to the byte stream at once.
const TURN_LEN_MAX: usize = 64 * 1024;

/// What a turn lasts.
const TURN: Duration = Duration::from_millis(1);

/// The rate is taken over at least this long, so that one full socket buffer does not look like a
/// fast path.
const PERIOD: Duration = Duration::from_millis(20);

/// Follows the rate of a carrier.
#[derive(Debug)]
pub(super) struct Turn {
    period_start: Instant,
    /// Bytes sent by the carrier when the period began.
    sent_before: u64,
    len: usize,
}

impl Turn {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            period_start: now,
            sent_before: 0,
            len: TURN_LEN_MIN,
        }
    }

    /// Bytes of a turn, for a carrier that has sent `bytes_sent` up to now.
    pub(super) fn len(&mut self, bytes_sent: u64, now: Instant) -> usize {
        let elapsed = now.saturating_duration_since(self.period_start);
        if elapsed >= PERIOD {
            let sent = u128::from(bytes_sent - self.sent_before);
            let len = sent * TURN.as_micros() / elapsed.as_micros();
            self.len = usize::try_from(len)
                .unwrap_or(TURN_LEN_MAX)
                .clamp(TURN_LEN_MIN, TURN_LEN_MAX);
            self.period_start = now;
            self.sent_before = bytes_sent;
        }
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_follows_the_rate_of_the_path() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut turn = Turn::new(start);

        assert_eq!(
            turn.len(1_000_000, at(1)),
            TURN_LEN_MIN,
            "too early to tell"
        );
        assert_eq!(turn.len(2_000_000, at(20)), TURN_LEN_MAX, "100 MB/s");
        assert_eq!(turn.len(2_800_000, at(40)), 40_000, "40 MB/s");
        assert_eq!(turn.len(2_800_100, at(5_000)), TURN_LEN_MIN, "idle");
    }
}
