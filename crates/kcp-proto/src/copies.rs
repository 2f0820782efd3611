//! Copies of data that somebody waits for.
//!
//! A segment that is lost comes a round trip late or more. Bulk data does not mind: others arrive
//! meanwhile. When little is under way, the one that is lost is what the user waits for, so it goes
//! out several times, some milliseconds apart; the first that arrives counts. The same goes for one
//! that was lost again and again: the stream behind it waits. How many and how far apart is decided
//! by a [`CopyPolicy`], from the loss that the session measures.

use std::fmt;
use std::time::{Duration, Instant};

/// Decides how often data is sent that somebody waits for.
pub trait CopyPolicy: fmt::Debug + Send {
    /// Returns what goes along with `piece`, which is being sent.
    fn copies(&mut self, now: Instant, piece: Piece) -> Copies;
}

/// A segment that is sent and that somebody waits for, and what is known of the path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Piece {
    /// Its bytes on the wire.
    pub n_bytes: u32,
    /// Whether nothing else is to be sent, and little is under way or it was lost before.
    pub is_alone: bool,
    /// How often it has been taken for lost.
    pub n_losses: u32,
    /// The share of datagrams that is lost, 0 to 1.
    pub loss: f64,
    /// The smoothed round-trip time.
    pub srtt: Duration,
    /// The rate of sending in bytes per second, if there is one.
    pub rate: Option<u64>,
}

/// What goes along with a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    /// Copies beside the first transmission; [`MAX_COPIES`] at most.
    pub n_extra: u32,
    /// From one transmission to the next.
    pub spacing: Duration,
}

/// Copies of one segment at most.
pub const MAX_COPIES: u32 = 8;
