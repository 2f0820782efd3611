//! How much of a path the datagrams of `udp` proxies may take.
//!
//! A carrier sends datagrams ahead of all streams. A `udp` proxy that is flooded, by whoever can
//! reach its port, would leave nothing to the control stream and to other users. As long as the
//! path takes what comes, nothing is held back. When datagrams begin to pile up in the carrier
//! while a stream has something to send, they get half of what the path has been delivering, and
//! what is beyond is dropped. And they never pile up higher than a bound, since probes wait behind
//! them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use frp_proto::hold::CarrierId;

/// What the datagrams of one session take of the carrier in use.
#[derive(Debug, Default)]
pub(super) struct Share {
    carrier: Option<CarrierId>,
    /// While the path is full: until when it counts as that.
    full_until: Option<Instant>,
    /// The current period: when it began, what was acknowledged by then, what has been sent in it,
    /// and how much may be.
    began: Option<Instant>,
    acked: Option<u64>,
    spent: u64,
    allowance: Option<u64>,
    /// What the path has delivered in the last periods, in bytes a second.
    rates: VecDeque<u64>,
}

/// What is looked at once in a period.
pub(super) struct Sight {
    /// Bytes that the carrier's peer is known to have, where the transport can tell.
    pub(super) acked_bytes: Option<u64>,
    /// A stream of the session has something that is not acknowledged.
    pub(super) streams_wait: bool,
}

impl Share {
    /// Whether a datagram of `len` bytes may go now, with `unsent` bytes before it.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        carrier: CarrierId,
        len: u64,
        unsent: u64,
        look: impl FnOnce() -> Sight,
    ) -> bool {
        if self.carrier != Some(carrier) {
            *self = Self {
                carrier: Some(carrier),
                ..Self::default()
            };
        }
        if unsent > FULL_FROM {
            self.full_until = Some(now + CALM);
        }
        match self.full_until {
            None => return true,
            Some(until) if now >= until => {
                // What it has delivered is no measure of what it can deliver once it is calm.
                self.full_until = None;
                self.began = None;
                self.allowance = None;
                return true;
            }
            Some(_) => {}
        }
        let is_over = |began| now.saturating_duration_since(began) >= PERIOD;
        if self.began.is_none_or(is_over) {
            self.begin_period(now, &look());
        }
        let is_within = self.allowance.is_none_or(|most| self.spent + len <= most);
        let is_admitted = is_within && unsent + len <= self.max_unsent();
        if is_admitted {
            self.spent += len;
        }
        is_admitted
    }

    fn begin_period(&mut self, now: Instant, sight: &Sight) {
        let before = self.acked.zip(self.began);
        if let (Some((acked, began)), Some(acked_now)) = (before, sight.acked_bytes) {
            let micros = now.saturating_duration_since(began).as_micros().max(1);
            let bytes = u128::from(acked_now.saturating_sub(acked));
            let rate = u64::try_from(bytes * 1_000_000 / micros).unwrap_or(u64::MAX);
            if self.rates.len() >= MAX_RATES {
                self.rates.pop_front();
            }
            self.rates.push_back(rate);
        }
        self.began = Some(now);
        self.acked = sight.acked_bytes;
        self.spent = 0;
        self.allowance = match self.rate() {
            Some(rate) if sight.streams_wait => Some(FLOOR.max(in_time(rate, PERIOD) / 2)),
            _ => None,
        };
    }

    /// The most of late: a period in which little was to be sent says nothing of the path.
    fn rate(&self) -> Option<u64> {
        self.rates.iter().copied().max()
    }

    fn max_unsent(&self) -> u64 {
        let of_rate = self.rate().map_or(0, |rate| in_time(rate, MAX_DELAY));
        of_rate.clamp(MIN_UNSENT, MAX_UNSENT)
    }
}

/// Bytes that pass in `time` at `rate` bytes a second.
fn in_time(rate: u64, time: Duration) -> u64 {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    rate.saturating_mul(micros) / 1_000_000
}

/// A path with more than this unsent is full. On one that has room less waits, for the pacing: a
/// burst of six packets.
const FULL_FROM: u64 = 9 * 1024;

/// A path that has had room for so long is not full any more.
const CALM: Duration = Duration::from_millis(200);

/// Between two looks at what the path delivers: about a round trip, so that acknowledgements have
/// come in it.
const PERIOD: Duration = Duration::from_millis(100);

/// Periods that are remembered: two seconds.
const MAX_RATES: usize = 20;

/// What may go in each period in any case: 0.3 Mbit/s, so that calls beside a bulk transfer on a
/// narrow path go on.
const FLOOR: u64 = 4 * 1024;

/// How long a datagram may wait in the carrier. Probes wait behind it, and count as lost when they
/// are late by 200 ms and three round trips.
const MAX_DELAY: Duration = Duration::from_millis(50);

/// Bytes that may wait on any path: a burst on one of which nothing is known yet.
const MIN_UNSENT: u64 = 32 * 1024;

/// And on no path more: half of what carriers keep, which then drop the oldest, probes among them.
const MAX_UNSENT: u64 = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// A path that delivers a rate, datagrams first, told in steps of a millisecond.
    struct Path {
        share: Share,
        now: Instant,
        rate: u64,
        unsent: u64,
        acked: u64,
        streams_wait: bool,
        stream_bytes: u64,
        datagram_bytes: u64,
    }

    impl Path {
        fn of_mbit(mbit: u64) -> Self {
            Self {
                share: Share::default(),
                now: Instant::now(),
                rate: mbit * 125_000,
                unsent: 0,
                acked: 0,
                streams_wait: false,
                stream_bytes: 0,
                datagram_bytes: 0,
            }
        }

        /// Offers so much for a time. Returns how much was taken.
        fn offer(&mut self, mbit: u64, time: Duration) -> u64 {
            let before = self.datagram_bytes;
            let mut due = 0;
            for _ in 0..time.as_millis() {
                due += mbit * 125;
                while due >= LEN {
                    due -= LEN;
                    let sight = || Sight {
                        acked_bytes: Some(self.acked),
                        streams_wait: self.streams_wait,
                    };
                    let carrier = CarrierId(1);
                    if self.share.admit(self.now, carrier, LEN, self.unsent, sight) {
                        self.unsent += LEN;
                        self.datagram_bytes += LEN;
                    }
                }
                let mut room = self.rate / 1000;
                let sent = room.min(self.unsent);
                self.unsent -= sent;
                room -= sent;
                self.acked += sent;
                if self.streams_wait {
                    self.stream_bytes += room;
                    self.acked += room;
                }
                self.now += Duration::from_millis(1);
            }
            self.datagram_bytes - before
        }
    }

    const LEN: u64 = 1000;

    #[test]
    fn what_the_path_takes_is_never_held_back() {
        let mut path = Path::of_mbit(100);
        path.streams_wait = true;
        let taken = path.offer(80, Duration::from_secs(5));
        assert_eq!(taken, 80 * 125_000 * 5);
    }

    #[test]
    fn a_flood_leaves_half_of_the_path_to_streams_that_have_something_to_send() {
        for mbit in [2, 20, 200] {
            let mut path = Path::of_mbit(mbit);
            path.streams_wait = true;
            path.offer(10 * mbit, Duration::from_secs(10));
            let share = path.stream_bytes * 100 / path.acked;
            assert!((30..=70).contains(&share), "{share} % of {mbit} Mbit/s");
        }
    }

    #[test]
    fn a_flood_has_the_whole_path_when_nobody_else_wants_it_and_waits_for_no_long_time() {
        let mut path = Path::of_mbit(20);
        let taken = path.offer(200, Duration::from_secs(10));
        assert!(taken * 100 / (20 * 125_000 * 10) >= 95, "{taken}");
        assert!(path.unsent <= in_time(path.rate, MAX_DELAY).max(MIN_UNSENT));
    }

    #[test]
    fn after_a_flood_everything_goes_again() {
        let mut path = Path::of_mbit(20);
        path.streams_wait = true;
        path.offer(200, Duration::from_secs(5));
        path.offer(0, CALM * 2);
        let taken = path.offer(10, Duration::from_secs(5));
        assert_eq!(taken, 10 * 125_000 * 5);
    }
}
