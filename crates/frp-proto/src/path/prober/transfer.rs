//! What the transport's own counters say of a carrier.

use std::time::{Duration, Instant};

use crate::path::probe::Queues;
use crate::path::report::{Tally, TcpControl};

/// The counters of a carrier at one moment, all from its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes that the peer has acknowledged.
    pub acked_bytes: u64,
    /// Packets sent, and those taken for lost (quinn's counters, KCP's gaps, `TCP_INFO`).
    pub packets: Option<Tally>,
    /// What waits at this end.
    pub queues: Queues,
    /// Bytes sent and not acknowledged.
    pub in_flight: u64,
    /// Bytes of users' connections, in both directions: what tells a used tunnel from an idle one,
    /// in which probes are acknowledged all the time.
    pub user_bytes: u64,
    /// What sends at this end, where it is TCP.
    pub control: TcpControl,
}

/// Rate and stalls, from counters that are read now and then.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transfer {
    latest: Counters,
    looked_at: Option<Instant>,
    epoch: Option<(Instant, u64)>,
    rate: u64,
    /// Since when data has waited without progress.
    waiting_since: Option<Instant>,
    longest_stalls: [Duration; 2],
    stall_epoch: Option<Instant>,
}

/// Over which the rate is taken.
const RATE_EPOCH: Duration = Duration::from_secs(1);
/// A stall is remembered for one to two of these: the length of a quality window.
const STALL_EPOCH: Duration = Duration::from_secs(3);
/// What a look can say of the time after it. On an idle carrier they are seconds apart, each beside
/// a probe that is acknowledged right after: that is no stall.
const LOOK_HOLDS: Duration = Duration::from_millis(250);

/// So little in flight is no data that waits: users' own is in the queues until it is acknowledged.
/// Probes and reports are, and acknowledgements that quinn pads: those count as in flight and are
/// acknowledged beside the next probe only, a second later on an idle carrier.
const LITTLE: u64 = 400;

impl Transfer {
    /// Returns whether the peer has acknowledged more.
    pub(crate) fn handle_counters(&mut self, now: Instant, counters: Counters) -> bool {
        let has_progress = counters.acked_bytes > self.latest.acked_bytes;
        let waits = counters.in_flight > LITTLE
            || counters.queues.bulk > 0
            || counters.queues.interactive > 0;
        if has_progress || !waits {
            self.longest_stalls[0] = self.longest_stalls[0].max(self.current_stall(now));
            self.waiting_since = None;
        }
        if waits {
            self.waiting_since.get_or_insert(now);
        }
        self.looked_at = Some(now);
        let stall_start = *self.stall_epoch.get_or_insert(now);
        if now.saturating_duration_since(stall_start) >= STALL_EPOCH {
            self.stall_epoch = Some(now);
            self.longest_stalls = [Duration::ZERO, self.longest_stalls[0]];
        }

        let (start, bytes) = *self.epoch.get_or_insert((now, counters.acked_bytes));
        let elapsed = now.saturating_duration_since(start);
        if elapsed >= RATE_EPOCH {
            let acked = counters.acked_bytes.saturating_sub(bytes);
            let per_second = u128::from(acked) * 1_000_000 / elapsed.as_micros().max(1);
            self.rate = u64::try_from(per_second).unwrap_or(u64::MAX);
            self.epoch = Some((now, counters.acked_bytes));
        }
        self.latest = counters;
        has_progress
    }

    pub(crate) fn latest(&self) -> &Counters {
        &self.latest
    }

    pub(crate) fn rate(&self) -> u64 {
        self.rate
    }

    /// The longest of late, that of this moment included.
    pub(crate) fn stall(&self, now: Instant) -> Duration {
        let [this, before] = self.longest_stalls;
        self.current_stall(now).max(this).max(before)
    }

    fn current_stall(&self, now: Instant) -> Duration {
        let (Some(since), Some(looked_at)) = (self.waiting_since, self.looked_at) else {
            return Duration::ZERO;
        };
        let known_until = now.min(looked_at + LOOK_HOLDS);
        known_until.saturating_duration_since(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::test_start;

    #[test]
    fn a_stall_lasts_from_the_wait_to_the_next_acknowledgement_and_is_forgotten() {
        let start = test_start();
        let mut transfer = Transfer::default();
        let mut longest = Vec::new();
        for tick in 0..60_u64 {
            let now = start + Duration::from_millis(250 * tick);
            // Nothing is acknowledged in second 4 to 6; the transfer ends at second 8.
            let acked = if (16..24).contains(&tick) { 15 } else { tick } * 250_000;
            let is_over = tick >= 32;
            transfer.handle_counters(
                now,
                Counters {
                    acked_bytes: if is_over { 8_000_000 } else { acked },
                    in_flight: if is_over { 0 } else { 1000 },
                    ..Counters::default()
                },
            );
            if tick == 12 {
                assert_eq!(transfer.rate(), 1_000_000);
            }
            longest.push(transfer.stall(now).as_millis());
        }
        assert_eq!(longest[12], 250, "between two looks at the counters");
        assert_eq!(longest[24], 2250);
        assert_eq!(longest[59], 0);
    }

    #[test]
    fn an_acknowledgement_that_is_acknowledged_a_second_later_is_no_stall() {
        let start = test_start();
        let mut transfer = Transfer::default();
        for look in 0..60_u64 {
            // The probe leaves, its echo comes, and what acknowledges that stays in flight.
            let (second, is_echo) = (look / 2, look % 2 == 1);
            let now = start + Duration::from_millis(1000 * second + 50 * u64::from(is_echo));
            let counters = Counters {
                acked_bytes: (second + u64::from(is_echo)) * 93,
                in_flight: 36,
                ..Counters::default()
            };
            transfer.handle_counters(now, counters);
            assert_eq!(transfer.stall(now), Duration::ZERO);
        }
    }

    #[test]
    fn what_a_user_waits_for_is_a_stall_however_little_it_is() {
        let start = test_start();
        let mut transfer = Transfer::default();
        let mut counters = Counters::default();
        counters.queues.interactive = 1;
        for tick in 0..=8 {
            transfer.handle_counters(start + Duration::from_millis(250 * tick), counters);
        }
        let now = start + Duration::from_secs(2);
        assert_eq!(transfer.stall(now), Duration::from_secs(2));
    }

    #[test]
    fn probes_of_an_idle_carrier_are_no_stall_however_rare() {
        let start = test_start();
        let mut transfer = Transfer::default();
        for second in 0..60_u64 {
            let now = start + Duration::from_secs(second);
            let probe = Counters {
                acked_bytes: second * 100,
                in_flight: 100,
                ..Counters::default()
            };
            transfer.handle_counters(now, probe);
            let stall = transfer.stall(now + Duration::from_millis(999));
            assert!(stall <= LOOK_HOLDS, "{stall:?}");
        }
    }
}
