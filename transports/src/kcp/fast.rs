//! What changes between two Holdfasts.
//!
//! Segments stay as they are, so that the two ends need not change at the same moment, and either
//! understands the other whether it has changed or not.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kcp_proto::Session;
use kcp_proto::control::SendControl;
use kcp_proto::copies::CopyPolicy;

use crate::lossy_control::{LossyControl, LossyCopies};

#[cfg(test)]
mod sim;

/// Who decides about sending between two Holdfasts: how much, how fast, what is lost, and what is
/// sent more than once. Made anew for each session.
#[derive(Clone)]
pub struct Fast {
    /// Makes what decides about the rate and about losses.
    pub control: MakeControl,
    /// Makes what decides about copies of data that somebody waits for. `None`: there are none.
    pub copies: Option<MakeCopies>,
}

/// Makes what decides about the rate and about losses.
pub type MakeControl = Arc<dyn Fn(Start) -> Box<dyn SendControl> + Send + Sync>;

/// Makes what decides about copies.
pub type MakeCopies = Arc<dyn Fn(Start) -> Box<dyn CopyPolicy> + Send + Sync>;

/// What is known of a session when it changes.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The time.
    pub now: Instant,
    /// The longest datagram, in bytes.
    pub max_datagram_len: usize,
    /// Bytes of a whole segment on the wire, its header included. [`SendControl`] counts windows in
    /// segments.
    pub segment_len: usize,
    /// The round trip so far, if it is known.
    pub srtt: Option<Duration>,
}

impl Fast {
    /// Keeps a path full that loses packets by itself ([`lossy`]), with `max_rate` bytes per second
    /// at most.
    pub fn lossy(max_rate: Option<u64>) -> Self {
        Self {
            control: Arc::new(move |start| {
                let segment_len = u32::try_from(start.segment_len).unwrap_or(u32::MAX);
                Box::new(LossyControl::new(segment_len, max_rate, start.now))
            }),
            copies: Some(Arc::new(|start| Box::new(LossyCopies::new(start.now)))),
        }
    }

    /// Changes `session`. Called once.
    pub(super) fn apply(&self, session: &mut Session, now: Instant) {
        let start = Start {
            now,
            max_datagram_len: session.config().max_datagram_len(),
            segment_len: session.config().mss() + kcp_proto::segment::Header::LEN,
            srtt: session.srtt(),
        };
        session.set_control((self.control)(start));
        if let Some(copies) = &self.copies {
            session.set_copies(copies(start));
        }
        session.grow_windows(WINDOW, WINDOW);
        session.set_interval(INTERVAL);
        session.set_delays(false, ACK_AFTER, N_ACK_REPEATS);
        // Bulk data is sent again, which costs what was lost and no more.
        session.set_parity(0);
    }
}

impl fmt::Debug for Fast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fast")
            .field("has_copies", &self.copies.is_some())
            .finish_non_exhaustive()
    }
}

/// Both windows in segments: 1 Gbit/s at 80 ms. They hold what is under way and no more: with less
/// rate or round trip the control lets less be. At the bound, 11 MB a direction, the sender waits.
const WINDOW: u32 = 8192;

/// How long an acknowledgement waits for others at most.
const INTERVAL: Duration = Duration::from_millis(5);

/// Segments that are acknowledged at once: at 100 Mbit/s these come within half a millisecond. Where
/// acknowledgements get lost in bursts, the sender hears nothing for as many of these times as a
/// burst has packets, and the link runs dry.
const ACK_AFTER: usize = 4;

/// Acknowledgements that are kept so that the last can be repeated: more than are written at once.
const N_ACK_REPEATS: usize = 64;
