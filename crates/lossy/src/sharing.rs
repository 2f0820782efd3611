//! Which congestion control a TCP connection has: BBR, which does not mind losses, or the system's
//! own, Cubic nearly everywhere, which shares a link with others of its kind.
//!
//! It begins with BBR. Once [others fill the queue](OthersQueue) of a path that loses nothing by
//! chance, it gives way: the system's own takes over, at first at no more than [`GIVEN_WAY`] of the
//! rate. Without that bound it would keep nearly all of the link for a minute, since it begins with
//! BBR's window, and others' windows grow by what they had. The bound goes once losses, which now
//! meet everybody alike, have brought the window down to it.
//!
//! BBR comes back when packets are [lost by chance](RandomLoss), when the queue stays empty although
//! there is more to send, because nobody is there any more to fill it, and after a rest. Each return
//! but the last one is held for longer than the one before: a path on which giving way was wrong
//! sees it seldom.

use std::time::{Duration, Instant};

use crate::look::Look;
use crate::others_queue::{Finding, OthersQueue};
use crate::random_loss::RandomLoss;

#[cfg(test)]
mod tests;

/// Watches one connection, and says what is to send on it.
#[derive(Clone, Debug, Default)]
pub struct Sharing {
    by: By,
    held_until: Option<Instant>,
    /// For how long the last return was held.
    hold: Option<Duration>,
}

/// What sends.
#[derive(Clone, Debug)]
enum By {
    Bbr(OthersQueue),
    Default(GivenWay),
}

impl Default for By {
    fn default() -> Self {
        Self::Bbr(OthersQueue::default())
    }
}

/// What is watched while the system's own congestion control sends.
#[derive(Clone, Debug)]
struct GivenWay {
    since: Instant,
    random_loss: RandomLoss,
    /// The most that is sent, in bytes a second, as long as the window lets more.
    at_most: Option<u64>,
    /// When there was a queue last, or nothing to send.
    queue_at: Instant,
    /// When there was more to send than could be.
    full_at: Instant,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The system's own congestion control takes over, and sends no more than so many bytes a
    /// second for now.
    GiveWay {
        /// Never 0.
        at_most: u64,
    },
    /// What sends now sends no more than so many bytes a second for now.
    Bound {
        /// Never 0.
        at_most: u64,
    },
    /// The bound is not needed any more.
    Unbound,
    /// BBR takes over, without a bound.
    Return(Cause),
}

/// Why BBR comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Packets are lost where no queue stands.
    RandomLoss,
    /// The queue stays empty.
    NobodyElse,
    /// There was nothing to send for a while.
    Rest,
}

impl Sharing {
    /// Takes one more look. Returns what is to be done now.
    pub fn handle_look(&mut self, look: Look) -> Option<Turn> {
        match &mut self.by {
            By::Bbr(others) => {
                let is_held = self.held_until.is_some_and(|until| look.at < until);
                Some(match others.handle_look(look, is_held)? {
                    Finding::Standing { at_most } => Turn::Bound { at_most },
                    Finding::Drained => Turn::Unbound,
                    Finding::Others { rate } => {
                        let at_most = (rate / GIVEN_WAY.1 * GIVEN_WAY.0).max(1);
                        self.by = By::Default(GivenWay::begin(look.at, at_most));
                        Turn::GiveWay { at_most }
                    }
                })
            }
            By::Default(given_way) => {
                let turn = given_way.handle_look(look)?;
                if let Turn::Return(cause) = turn {
                    let stayed = look.at.saturating_duration_since(given_way.since);
                    self.hold(look.at, stayed, cause);
                    self.by = By::default();
                }
                Some(turn)
            }
        }
    }

    fn hold(&mut self, now: Instant, stayed: Duration, cause: Cause) {
        if cause == Cause::Rest {
            return;
        }
        let hold = match self.hold {
            Some(hold) if stayed < LONGEST_HOLD => (hold * 2).min(LONGEST_HOLD),
            _ => FIRST_HOLD,
        };
        self.hold = Some(hold);
        self.held_until = Some(now + hold);
    }
}

impl GivenWay {
    fn begin(now: Instant, at_most: u64) -> Self {
        Self {
            since: now,
            random_loss: RandomLoss::default(),
            at_most: Some(at_most),
            queue_at: now,
            full_at: now,
        }
    }

    fn handle_look(&mut self, look: Look) -> Option<Turn> {
        if look.has_more {
            self.full_at = look.at;
        }
        if !look.has_more || look.waited() {
            self.queue_at = look.at;
        }
        let since = |then| look.at.saturating_duration_since(then);
        if self.random_loss.handle_look(look) {
            return Some(Turn::Return(Cause::RandomLoss));
        }
        if since(self.full_at) >= REST {
            return Some(Turn::Return(Cause::Rest));
        }
        if since(self.queue_at) >= NOBODY_ELSE {
            return Some(Turn::Return(Cause::NobodyElse));
        }
        let lets = u128::from(look.window) * 1000 / look.srtt.as_millis().max(1);
        let at_most = self.at_most?;
        (since(self.since) >= BOUND_LEAST && lets <= u128::from(at_most)).then(|| {
            self.at_most = None;
            Turn::Unbound
        })
    }
}

/// How much of its rate a connection keeps at first, as a fraction. BBR has four fifths of a link
/// beside one Cubic flow, so it leaves that one half of the link.
const GIVEN_WAY: (u64, u64) = (5, 8);

/// The bound stays at least so long: BBR's window may be small for a moment when it is asked.
const BOUND_LEAST: Duration = Duration::from_secs(1);

/// A queue that stays empty for so long, though there is more to send, is nobody's. Cubic that finds
/// room takes some six seconds to fill a path of 100 Mbit/s and 50 ms.
const NOBODY_ELSE: Duration = Duration::from_secs(15);

/// A connection that had nothing more to send for so long begins anew: whoever was there may have
/// gone.
const REST: Duration = Duration::from_secs(30);

/// How long the first return is held, and the longest: each is held twice as long as the one before.
/// After as long a stay as the longest hold it begins anew.
const FIRST_HOLD: Duration = Duration::from_secs(30);
const LONGEST_HOLD: Duration = Duration::from_secs(15 * 60);
