//! Spaces datagrams out in time.

use super::Micros;

/// How late a sender may be and still catch up: timers are a millisecond coarse.
const MAX_CATCH_UP: Micros = 2_000;

/// When the next datagram may leave.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    next_at: Micros,
}

impl Pacer {
    /// Counts a datagram of `n_bytes` at `rate` bytes per second.
    pub(super) fn handle_sent(&mut self, n_bytes: usize, rate: u64, now: Micros) {
        let spacing = n_bytes as u64 * 1_000_000 / rate.max(1);
        self.next_at = self
            .next_at
            .max(now.saturating_sub(MAX_CATCH_UP))
            .saturating_add(spacing);
    }

    pub(super) fn is_ready(&self, now: Micros) -> bool {
        self.next_at <= now
    }

    pub(super) fn next_at(&self) -> Micros {
        self.next_at
    }
}
