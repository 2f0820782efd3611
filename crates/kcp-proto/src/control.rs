//! Who decides how much is sent, and how fast.
//!
//! The session tells its [`SendControl`] what happened to every segment, and asks it how many may
//! be under way, at which rate, and by which rule a segment counts as lost. [`Unlimited`] is frp's
//! answer: KCP without a congestion window.

use std::fmt;
use std::time::{Duration, Instant};

/// Decides about sending. Segments are told of in the order in which things happen.
pub trait SendControl: fmt::Debug + Send {
    /// Hears of a segment that has been sent, for the first time or again.
    fn on_sent(&mut self, _now: Instant, _segment: SentSegment) {}

    /// Hears of a segment that has been acknowledged for the first time.
    fn on_acked(&mut self, _now: Instant, _segment: AckedSegment) {}

    /// Hears of a segment that is taken for lost. It will be sent again.
    fn on_lost(&mut self, _now: Instant, _segment: LostSegment) {}

    /// Hears that all that a datagram acknowledged has been told, and how many segments are still
    /// under way.
    fn on_acks_end(&mut self, _now: Instant, _n_in_flight: u32) {}

    /// Returns how many segments may be under way: sent, and neither acknowledged nor lost.
    fn window(&self) -> u32;

    /// Returns the rate of sending in bytes per second, headers and parity included, or `None` when
    /// datagrams are not spaced. With a rate, data does not wait for the next flush either.
    fn pacing_rate(&self) -> Option<u64>;

    /// Returns the rule for losses.
    fn loss_detection(&self) -> LossDetection;
}

/// A segment that has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentSegment {
    /// Counts transmissions from 0, those of lost segments included.
    pub transmission: u64,
    /// Bytes on the wire: data and segment header.
    pub n_bytes: u32,
    /// Whether it had been sent before.
    pub is_repeat: bool,
    /// Segments under way, with this one.
    pub n_in_flight: u32,
}

/// A segment that has been acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckedSegment {
    /// The transmission that is taken for the one that arrived: the last.
    pub transmission: u64,
    /// Bytes on the wire: data and segment header.
    pub n_bytes: u32,
    /// When that transmission was sent.
    pub sent_at: Instant,
    /// Whether it is certain that this transmission arrived, and neither an earlier one nor, when
    /// only the peer's `una` tells of it, at an earlier time.
    pub is_exact: bool,
    /// Whether there was nothing more to send when it was sent.
    pub is_app_limited: bool,
}

/// A segment that is taken for lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostSegment {
    /// The transmission that was lost.
    pub transmission: u64,
    /// Bytes on the wire: data and segment header.
    pub n_bytes: u32,
    /// When that transmission was sent.
    pub sent_at: Instant,
    /// What tells that it is lost.
    pub cause: LossCause,
}

/// What tells that a segment is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossCause {
    /// Segments sent later have been acknowledged.
    Overtaken,
    /// No acknowledgement came within the segment's retransmission time.
    TimedOut,
}

/// By which rule a segment that later ones have overtaken counts as lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossDetection {
    /// KCP's: so many later transmissions have been acknowledged (`resend`), or a single one when
    /// there is nothing new to send. Looked at whenever the session flushes.
    Classic {
        /// Acknowledged later transmissions; from 1 to [`MAX_SKIPS`](Self::MAX_SKIPS).
        n_skips: u32,
    },
    /// After RFC 8985: so many numbers later a transmission has been acknowledged, and a round trip
    /// and the time for reordering have passed. Looked at with each acknowledgement and in time.
    Rack {
        /// Transmissions that may overtake.
        n_reordered: u32,
        /// Time for reordering, beyond the round trip.
        reorder_time: Duration,
    },
}

impl LossDetection {
    /// The largest number of skips that is told apart.
    pub const MAX_SKIPS: u32 = 8;
}

/// KCP with `nc = 1`, as frp sets it: everything that the windows of both ends allow is sent at
/// once, whatever happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlimited {
    /// KCP's `resend`.
    pub n_skips: u32,
}

impl Unlimited {
    /// frp's setting.
    pub const FRP: Self = Self { n_skips: 2 };
}

impl SendControl for Unlimited {
    fn window(&self) -> u32 {
        u32::MAX
    }

    fn pacing_rate(&self) -> Option<u64> {
        None
    }

    fn loss_detection(&self) -> LossDetection {
        LossDetection::Classic {
            n_skips: self.n_skips,
        }
    }
}
