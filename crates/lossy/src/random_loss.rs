//! Whether a sender that takes every loss for a full queue meets losses that are none.
//!
//! The system sends on a TCP connection, and tells what it has sent, what it had to send again and
//! what round trips take. A loss while round trips are as short as they ever are has met no queue:
//! nobody's window is too large, and giving way to it gives the link away. A few of them among few
//! segments are enough to know; losses while a queue stands, our own or somebody else's, are
//! congestion and say nothing. Nor is it a queue when the system sends again and again and hears
//! nothing: a few retransmission timeouts in a row are enough as well.
//!
//! It is a sequential test of two rates (Page's cumulative sum): each round trip with such a loss
//! adds to a score what it would be more likely at [`RANDOM`] than at [`CONGESTION`], and each
//! segment that arrives takes away what that would be less likely.

use std::time::{Duration, Instant};

use crate::look::Look;

#[cfg(test)]
mod tests;

/// Watches what one connection sends.
#[derive(Clone, Debug, Default)]
pub(crate) struct RandomLoss {
    before: Option<Look>,
    score: f64,
    /// Losses that are noticed until then may be those of a queue that was seen.
    queued_until: Option<Instant>,
    /// Further losses until then belong to the round trip that was counted.
    counted_until: Option<Instant>,
}

impl RandomLoss {
    /// Takes one more look. Returns whether it is sure by now that segments are lost to no queue.
    pub(crate) fn handle_look(&mut self, look: Look) -> bool {
        let Some(before) = self.before.replace(look) else {
            return false;
        };
        if look.at.saturating_duration_since(before.at) > REST {
            self.score = 0.0;
        }
        // Round trips that nothing has been heard of since say what was, not what is.
        let is_fresh = look.acked > before.acked;
        if is_fresh && look.waited() {
            // What its end drops is noticed a round trip later, and the repairs take another.
            self.queued_until = Some(look.at + look.srtt * 2);
        }
        let n_sent = look.sent.saturating_sub(before.sent);
        let has_lost = look.sent_again > before.sent_again;
        let is_past = |until: Option<Instant>| until.is_none_or(|until| look.at >= until);
        if has_lost && is_past(self.queued_until) && is_past(self.counted_until) {
            self.counted_until = Some(look.at + look.srtt);
            self.score += (RANDOM / CONGESTION).ln();
        }
        if look.timeouts > before.timeouts {
            // Everything under way, or what was to repair it, is gone: that is more than one loss,
            // and repeated it is more than any queue of one's own does.
            self.score += match look.timeouts {
                SILENT_TIMEOUTS.. => SURE * 2.0,
                _ if is_past(self.queued_until) => (RANDOM / CONGESTION).ln(),
                _ => 0.0,
            };
        }
        let arrived = ((1.0 - CONGESTION) / (1.0 - RANDOM)).ln();
        // No connection sends so much between two looks that precision is lost.
        let n_sent = f64::from(u32::try_from(n_sent).unwrap_or(u32::MAX));
        self.score = arrived.mul_add(-n_sent, self.score).max(0.0);
        self.score >= SURE
    }
}

/// Losses of a link that is worth telling from a full queue, for each segment. What is lost less
/// than a third as often is never taken for it.
const RANDOM: f64 = 0.01;

/// What Cubic loses by itself where it has some hundred segments under way.
const CONGESTION: f64 = 0.0005;

/// The score at which it is sure: of three round trips with a loss among some 300 segments. At
/// [`CONGESTION`] that happens once in hundreds of megabytes.
const SURE: f64 = 6.0;

/// So many timeouts in a row, in which nothing was acknowledged, are taken for the link's doing: a
/// sender that has overfilled a queue is through with one.
const SILENT_TIMEOUTS: u32 = 2;

/// What was lost before such a rest says little about the path of now.
const REST: Duration = Duration::from_secs(10);
