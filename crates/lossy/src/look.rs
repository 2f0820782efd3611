//! What the system tells of a TCP connection on which it sends.

use std::time::{Duration, Instant};

/// What the system tells at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// When.
    pub at: Instant,
    /// Segments with data, those sent again included, from the beginning on.
    pub sent: u64,
    /// Of these, those sent again.
    pub sent_again: u64,
    /// Bytes whose arrival the peer has told, from the beginning on.
    pub acked: u64,
    /// The round trip, smoothed.
    pub srtt: Duration,
    /// How far round trips are from it, on average.
    pub variation: Duration,
    /// The shortest of the last minutes.
    pub min_rtt: Duration,
    /// Segments under way.
    pub in_flight: u32,
    /// How many bytes the congestion control lets be under way.
    pub window: u64,
    /// Whether there is data that has not been sent for the first time.
    pub has_more: bool,
    /// For how long nothing could be sent because the peer had no room, from the beginning on.
    pub peer_full: Duration,
    /// Retransmission timeouts since the peer was heard last.
    pub timeouts: u32,
}

impl Look {
    /// Says whether round trips wait somewhere, rather than just vary.
    pub(crate) fn waited(&self) -> bool {
        self.srtt > self.longest_without_queue()
    }

    /// Says whether they wait behind more than the few packets that this sender keeps waiting so
    /// as not to run dry: on a narrow link those alone are several round trips.
    pub(crate) fn waited_for_many(&self) -> bool {
        let own = self.srtt * OWN_SEGMENTS / self.in_flight.max(1);
        self.srtt > self.longest_without_queue() + own
    }

    fn longest_without_queue(&self) -> Duration {
        self.min_rtt.mul_f64(QUEUED) + QUEUED_LEAST + self.variation * VARIATIONS
    }
}

/// A round trip that is longer than the shortest by this factor and [`QUEUED_LEAST`] has waited.
const QUEUED: f64 = 1.25;

/// Hosts and radio links take so long now and then, and acknowledgements wait for a second segment.
const QUEUED_LEAST: Duration = Duration::from_millis(5);

/// Where packets overtake each other, the shortest round trip is one in thousands, and the smoothed
/// one is longer than it by some three times what they vary on average. Behind a standing queue one
/// round trip is as long as the next.
const VARIATIONS: u32 = 4;

/// What BBR keeps under way beyond what the path holds, whatever the path: it sends by bursts, and
/// lets acknowledgements be delayed.
const OWN_SEGMENTS: u32 = 8;

#[cfg(test)]
impl Look {
    /// A connection that has more to send through an empty queue, and from which nothing has come
    /// yet.
    pub(crate) fn quiet(at: Instant, rtt: Duration) -> Self {
        Self {
            at,
            sent: 0,
            sent_again: 0,
            acked: 0,
            srtt: rtt,
            variation: Duration::ZERO,
            min_rtt: rtt,
            in_flight: 100,
            window: 100_000,
            has_more: true,
            peer_full: Duration::ZERO,
            timeouts: 0,
        }
    }
}
