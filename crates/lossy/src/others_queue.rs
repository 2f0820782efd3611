//! Whether somebody else keeps the queue filled that a connection by BBR sends through.
//!
//! BBR keeps no queue of its own: it sends less for one of eight round trips. But it does not get
//! rid of one that came about otherwise, such as when the path's rate fell, until it sends nearly
//! nothing for a moment, every ten seconds. So a queue that stands is given that moment at once: for
//! a few round trips the connection sends half of what it did, which takes away all that can be its
//! own. A queue that is there again soon, and stands, is another's: loss-based congestion control
//! beside BBR has been pushed back to what is left, and knows no other way.
//!
//! Giving way costs dear where packets are lost by chance. So a loss at a round trip that has met no
//! queue, a while before, forbids it; and so do losses in many of the round trips, which no sender
//! that gives way to them would go on causing.

use std::time::{Duration, Instant};

use crate::look::Look;

#[cfg(test)]
mod tests;

/// Watches a connection on which BBR sends.
#[derive(Clone, Debug, Default)]
pub(crate) struct OthersQueue {
    before: Option<Look>,
    standing: Option<Standing>,
    /// Losses that are noticed until then may be those of a queue that was seen.
    queued_until: Option<Instant>,
    /// When something was lost that met no queue.
    lost_by_chance_at: Option<Instant>,
    /// Until then less is sent, so that no queue is left of the connection's own.
    draining_until: Option<Instant>,
    /// When there was none left.
    drained_at: Option<Instant>,
}

/// What has been found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// A queue stands: the connection is to send no more than so many bytes a second for a moment.
    Standing {
        /// Never 0.
        at_most: u64,
    },
    /// The moment is over.
    Drained,
    /// Others fill the queue, and nothing is lost by chance. So many bytes a second got through of
    /// late.
    Others {
        /// Their number.
        rate: u64,
    },
}

/// A queue that has not been seen empty since.
#[derive(Clone, Copy, Debug)]
struct Standing {
    since: Instant,
    acked_before: u64,
    round_trips: f64,
    /// Of these, those with losses.
    n_with_losses: u32,
    /// Further losses until then belong to the round trip that was counted.
    counted_until: Option<Instant>,
    /// For how long the connection had nothing to send, or the peer no room.
    slack: Duration,
    /// How much longer than the shortest the round trips of all looks were, and how much they
    /// varied.
    waited: Duration,
    varied: Duration,
}

impl OthersQueue {
    /// Takes one more look. Where `is_held`, nothing is to be found out for now.
    pub(crate) fn handle_look(&mut self, look: Look, is_held: bool) -> Option<Finding> {
        let before = self.before.replace(look)?;
        let has_lost = look.sent_again > before.sent_again;
        self.note_loss(&before, &look, has_lost);
        if let Some(until) = self.draining_until {
            if look.at < until {
                return None;
            }
            self.draining_until = None;
            self.drained_at = Some(look.at);
            return Some(Finding::Drained);
        }
        let since_before = look.at.saturating_duration_since(before.at);
        if since_before > LOOK_GAP || look.timeouts > 0 || !look.waited_for_many() {
            self.standing = None;
            return None;
        }
        let standing = self.standing.get_or_insert(Standing::begin(&before));
        standing.handle_look(&before, &look, has_lost);
        if standing.has_slack(look.at) {
            self.standing = None;
            return None;
        }
        let is_by_chance = |lost: Instant| look.at.saturating_duration_since(lost) < CHANCE_MEMORY;
        if is_held || self.lost_by_chance_at.is_some_and(is_by_chance) {
            return None;
        }
        let is_of_own = self.drained_at.is_none_or(|drained| {
            standing.since.saturating_duration_since(drained) > DRAINED_MEMORY
        });
        let rate = standing.rate(&look);
        match is_of_own {
            true => standing.is_seen(look.at).then(|| {
                self.draining_until = Some(look.at + (look.srtt * DRAIN).max(DRAIN_LEAST));
                self.standing = None;
                let at_most = (rate / 2).max(1);
                Finding::Standing { at_most }
            }),
            false => (standing.is_sure(look.at)).then_some(Finding::Others { rate }),
        }
    }

    fn note_loss(&mut self, before: &Look, look: &Look, has_lost: bool) {
        let is_fresh = look.acked > before.acked;
        if is_fresh && look.waited() {
            self.queued_until = Some(look.at + look.srtt * 2);
        }
        if has_lost && self.queued_until.is_none_or(|until| look.at >= until) {
            self.lost_by_chance_at = Some(look.at);
        }
    }
}

impl Standing {
    fn begin(look: &Look) -> Self {
        Self {
            since: look.at,
            acked_before: look.acked,
            round_trips: 0.0,
            n_with_losses: 0,
            counted_until: None,
            slack: Duration::ZERO,
            waited: Duration::ZERO,
            varied: Duration::ZERO,
        }
    }

    fn handle_look(&mut self, before: &Look, look: &Look, has_lost: bool) {
        let passed = look.at.saturating_duration_since(before.at);
        self.round_trips += passed.div_duration_f64(look.srtt.max(SHORTEST));
        if has_lost && self.counted_until.is_none_or(|until| look.at >= until) {
            self.counted_until = Some(look.at + look.srtt);
            self.n_with_losses += 1;
        }
        self.waited += look.srtt.saturating_sub(look.min_rtt);
        self.varied += look.variation;
        self.slack += match look.has_more {
            true => look.peer_full.saturating_sub(before.peer_full),
            false => passed,
        };
    }

    /// Says whether the connection has sent less than it might have: then it is not what others
    /// have to give way to.
    fn has_slack(&self, now: Instant) -> bool {
        let time = now.saturating_duration_since(self.since);
        self.slack > time / SLACK_PART + SLACK_LEAST
    }

    fn is_seen(&self, now: Instant) -> bool {
        self.has_stood(now, SEEN_TIME, SEEN_ROUND_TRIPS)
    }

    fn is_sure(&self, now: Instant) -> bool {
        self.has_stood(now, SURE_TIME, SURE_ROUND_TRIPS) && self.waited >= self.varied * STEADY
    }

    fn has_stood(&self, now: Instant, time: Duration, round_trips: f64) -> bool {
        now.saturating_duration_since(self.since) >= time
            && self.round_trips >= round_trips
            && f64::from(self.n_with_losses) <= self.round_trips * WITH_LOSSES
    }

    fn rate(&self, look: &Look) -> u64 {
        let time = look.at.saturating_duration_since(self.since).as_millis();
        let n_bytes = u128::from(look.acked.saturating_sub(self.acked_before));
        u64::try_from(n_bytes * 1000 / time.max(1)).unwrap_or(u64::MAX)
    }
}

/// How long and how many round trips a queue stands until it is drained of what is the
/// connection's own. BBR that starts has one for ten.
const SEEN_TIME: Duration = Duration::from_millis(1500);
const SEEN_ROUND_TRIPS: f64 = 20.0;

/// For how many round trips half as much is sent, and at least how long. BBR has as much in the
/// queue as on the path at most: that takes two.
const DRAIN: u32 = 3;
const DRAIN_LEAST: Duration = Duration::from_millis(100);

/// A queue that came up so soon after the drain is not the connection's own.
const DRAINED_MEMORY: Duration = Duration::from_secs(10);

/// How long and how many round trips it stands then until it is another's: BBR takes ten to forget a
/// rate, and eight more in which it sends less once.
const SURE_TIME: Duration = Duration::from_secs(2);
const SURE_ROUND_TRIPS: f64 = 30.0;

/// Round trips through another's queue wait by so many times what they vary. Where they vary more,
/// because packets overtake each other or come together, BBR takes the path for faster than it is,
/// and has a queue of its own that comes back.
const STEADY: u32 = 16;

/// In as large a part of these round trips something may be lost. BBR and Cubic overfill a queue
/// together in one of ten or twenty, and in one of eight where it is shorter than the path.
const WITH_LOSSES: f64 = 0.25;

/// How long a loss that met no queue forbids giving way: on a path that loses one packet in ten
/// thousand, which is little for Cubic, they come more seldom.
const CHANCE_MEMORY: Duration = Duration::from_secs(10);

/// Looks further apart than this may have missed an empty queue. Evidence begins anew.
const LOOK_GAP: Duration = Duration::from_millis(400);

/// The connection may have nothing to send for this part of the time, and a few looks at once.
const SLACK_PART: u32 = 8;
const SLACK_LEAST: Duration = Duration::from_millis(150);

/// No round trip is so short that their number has no end.
const SHORTEST: Duration = Duration::from_micros(10);
