//! The receiving half of a held stream: bytes by offset, from whichever route brings them first.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use thiserror::Error;

use super::budget::{Budget, FLOOR, Share};
use super::demand::{Demand, MIN_ROUND};
use super::frame::Ack;
use super::pieces::{Pieces, SMALL};
use super::{INITIAL_WINDOW, MAX_WINDOW};

/// Most runs of bytes that are kept ahead of a gap. Gaps only come of two routes that overtake
/// each other, and of datagrams; a full window of full frames has half as many. At the bound a
/// datagram is dropped, and a route is refused: it is attached again, and its bytes come again.
pub(super) const MAX_AHEAD: usize = 2048;

/// How long received bytes wait to be acknowledged together with others.
pub(super) const ACK_DELAY: Duration = Duration::from_millis(20);

/// How many received bytes are acknowledged at once, at most.
pub(super) const ACK_BYTES: u64 = 64 * 1024;

/// After so long without anything read, a stream that was given a large window is taken for idle.
pub(super) const IDLE_AFTER: Duration = Duration::from_secs(10);

/// The window is this many times what is read in a round trip, as the sender's buffer is: losses
/// of the carrier keep what follows for some round trips.
pub(super) const ROUND_TRIPS: u64 = 6;

/// What a peer cannot have meant. The route is at fault, and what has been received stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReceiveError {
    /// More than was granted.
    #[error("data up to {end}, and {limit} was granted")]
    BeyondWindow {
        /// Where it ends.
        end: u64,
        /// What was granted.
        limit: u64,
    },
    /// More than the stream has.
    #[error("data up to {found} in a stream that ends at {end}")]
    BeyondEnd {
        /// Where it ends.
        found: u64,
        /// The stream's end.
        end: u64,
    },
    /// The end was said to be elsewhere before.
    #[error("the stream ends at {found}, and ended at {end} before")]
    EndMoved {
        /// As said now.
        found: u64,
        /// As said before.
        end: u64,
    },
    /// Too many gaps.
    #[error("more than {MAX_AHEAD} runs of bytes are ahead of the next one")]
    TooManyGaps,
}

/// What has been received and not been read, and what has been granted.
#[derive(Debug)]
pub(super) struct ReceiveQueue {
    /// From what has been read to the first gap.
    ready: Pieces,
    /// Behind the first gap, without overlaps.
    ahead: BTreeMap<u64, Bytes>,
    end: Option<u64>,
    window: u64,
    /// The highest offset that was granted.
    limit: u64,
    share: Share,
    /// What the peer has been told last.
    told: Ack,
    ack_at: Option<Instant>,
    is_ack_due: bool,
    round: Round,
    demand: Demand,
}

impl ReceiveQueue {
    pub(super) fn new(budget: Budget) -> Self {
        Self {
            ready: Pieces::default(),
            ahead: BTreeMap::new(),
            end: None,
            window: INITIAL_WINDOW,
            limit: INITIAL_WINDOW,
            share: Share::new(budget),
            told: Ack {
                received: 0,
                window: INITIAL_WINDOW,
            },
            ack_at: None,
            is_ack_due: false,
            round: Round::default(),
            demand: Demand::default(),
        }
    }

    /// Takes bytes. True when some of them can be read that could not before.
    pub(super) fn handle_data(
        &mut self,
        offset: u64,
        mut bytes: Bytes,
        now: Instant,
    ) -> Result<bool, ReceiveError> {
        let found = offset + bytes.len() as u64;
        if let Some(end) = self.end.filter(|end| found > *end) {
            return Err(ReceiveError::BeyondEnd { found, end });
        }
        if found > self.limit {
            return Err(ReceiveError::BeyondWindow {
                end: found,
                limit: self.limit,
            });
        }
        self.share.wake();
        let received = self.ready.end();
        if found <= received {
            // The sender repeats what it takes for lost: an acknowledgement tells it better.
            self.wait_for_ack(now);
            return Ok(false);
        }
        if offset > received {
            self.keep_ahead(offset, bytes)?;
            return Ok(false);
        }
        // At most the length of the slice, since it reaches beyond what was received.
        bytes.advance(usize::try_from(received - offset).unwrap_or(usize::MAX));
        self.ready.push(bytes);
        self.close_gap();
        self.wait_for_ack(now);
        Ok(true)
    }

    /// Takes the end of the stream. True when all before it has been received.
    pub(super) fn handle_fin(&mut self, found: u64) -> Result<bool, ReceiveError> {
        if let Some(end) = self.end.filter(|end| *end != found) {
            return Err(ReceiveError::EndMoved { found, end });
        }
        let last = self.ahead.last_key_value();
        let highest = last.map_or(self.ready.end(), |(start, piece)| {
            start + piece.len() as u64
        });
        if found < highest {
            return Err(ReceiveError::BeyondEnd {
                found: highest,
                end: found,
            });
        }
        if found > self.limit {
            return Err(ReceiveError::BeyondWindow {
                end: found,
                limit: self.limit,
            });
        }
        self.end = Some(found);
        self.is_ack_due = true;
        Ok(self.is_complete())
    }

    /// Takes up to `max` bytes for the reader.
    pub(super) fn read(&mut self, max: usize, rtt: Duration, now: Instant) -> Option<Bytes> {
        let bytes = self.ready.pop(max)?;
        let n_bytes = bytes.len() as u64;
        self.round.count(n_bytes);
        if let Some(rate) = self.round.rate(rtt, now) {
            self.adapt_window(rate.in_round_trips(ROUND_TRIPS, rtt));
        }
        if let Some(wanted) = self.demand.count(n_bytes, self.window, rtt, now)
            && self.share.is_roomy()
        {
            self.resize_window(self.window.max(wanted.min(MAX_WINDOW)));
        }
        let grant = self.granted().saturating_sub(self.told.limit());
        // A sender that has used up its window waits for this.
        if grant >= self.ack_bytes() && self.end.is_none() {
            self.is_ack_due = true;
        }
        Some(bytes)
    }

    /// What the peer is to be told. It is taken for said.
    pub(super) fn ack(&mut self) -> Ack {
        self.limit = self.limit.max(self.granted());
        let ack = Ack {
            received: self.received(),
            // The end counts as received, and nothing follows it.
            window: self.limit.saturating_sub(self.received()),
        };
        self.told = ack;
        self.is_ack_due = false;
        self.ack_at = None;
        ack
    }

    /// When there is something to be told, unless more comes before.
    pub(super) fn ack_at(&self) -> Option<Instant> {
        self.ack_at
    }

    pub(super) fn is_ack_due(&self, now: Instant) -> bool {
        self.is_ack_due || self.ack_at.is_some_and(|at| at <= now)
    }

    /// When the stream is idle, unless something comes before. Only one that is in others' way has to
    /// be looked at.
    pub(super) fn idle_at(&self) -> Option<Instant> {
        let is_still = self.ready.is_empty() && self.ahead.is_empty();
        let since = self
            .round
            .began
            .filter(|_| is_still && self.share.is_busy());
        since.map(|since| since + IDLE_AFTER)
    }

    /// Lets go of the large window, once the stream is idle. What the peer was granted it may still
    /// send; beyond that it begins as a new stream does.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.idle_at().is_some_and(|at| at <= now) {
            self.share.rest();
            self.window = INITIAL_WINDOW;
            // Where so much is promised already it is asked again later.
            self.round = Round {
                began: Some(now),
                n_bytes: 0,
            };
            self.demand = Demand::default();
        }
    }

    /// Everything before this offset has been received. The end counts as one more.
    pub(super) fn received(&self) -> u64 {
        self.ready.end() + u64::from(self.is_complete())
    }

    /// Whether everything has been received.
    pub(super) fn is_complete(&self) -> bool {
        self.end == Some(self.ready.end())
    }

    /// Whether everything has been read.
    pub(super) fn is_finished(&self) -> bool {
        self.end == Some(self.ready.start())
    }

    pub(super) fn is_readable(&self) -> bool {
        !self.ready.is_empty()
    }

    /// What is kept, in bytes.
    pub(super) fn kept(&self) -> u64 {
        let ahead: u64 = self.ahead.values().map(|piece| piece.len() as u64).sum();
        self.ready.len() + ahead
    }

    /// Gives back memory that only a busy stream needs.
    pub(super) fn rest(&mut self) {
        self.ready.rest();
    }

    /// What is allocated.
    #[cfg(test)]
    pub(super) fn heap(&self) -> usize {
        self.ready.heap() + self.ahead.len()
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        let at = self.ready.end();
        self.ready.trim(at);
        self.ahead = BTreeMap::new();
        self.share.resize(0);
        self.is_ack_due = false;
        self.ack_at = None;
    }

    fn wait_for_ack(&mut self, now: Instant) {
        let n_new = self.received() - self.told.received;
        self.is_ack_due |= n_new >= self.ack_bytes() || self.is_complete();
        self.ack_at.get_or_insert(now + ACK_DELAY);
    }

    fn ack_bytes(&self) -> u64 {
        ACK_BYTES.min(self.window / 4)
    }

    /// The limit that can be granted as things are.
    fn granted(&self) -> u64 {
        self.ready.start() + self.window
    }

    /// The window grows with what is read, as far as the budget goes, and shrinks with it.
    fn adapt_window(&mut self, wanted: u64) {
        let wanted = wanted.clamp(INITIAL_WINDOW, MAX_WINDOW);
        let is_low = wanted < self.window / 4;
        if self.demand.is_low_for_long(is_low) {
            self.resize_window(self.window / 2);
        } else if !is_low {
            self.resize_window(self.window.max(wanted));
        }
    }

    fn resize_window(&mut self, window: u64) {
        // What was granted stays granted, so that it is given back only as it is used up.
        let promised = window.max(self.limit - self.ready.start());
        if self.share.resize(promised - INITIAL_WINDOW + FLOOR) {
            self.window = window;
        }
    }

    fn keep_ahead(&mut self, mut offset: u64, mut bytes: Bytes) -> Result<(), ReceiveError> {
        while !bytes.is_empty() {
            let before = self.ahead.range(..=offset).next_back();
            let covered = before.map_or(0, |(start, piece)| {
                (start + piece.len() as u64).saturating_sub(offset)
            });
            let n_covered = bytes.len().min(usize::try_from(covered).unwrap_or(0));
            bytes.advance(n_covered);
            offset += n_covered as u64;
            if bytes.is_empty() {
                break;
            }
            let next = self.ahead.range(offset..).next();
            let room = next.map_or(u64::MAX, |(start, _)| start - offset);
            let n_new = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            if n_new > 0 {
                if self.ahead.len() >= MAX_AHEAD {
                    return Err(ReceiveError::TooManyGaps);
                }
                let piece = bytes.split_to(n_new);
                let is_small = piece.len() < SMALL;
                let piece = if is_small {
                    Bytes::copy_from_slice(&piece)
                } else {
                    piece
                };
                self.ahead.insert(offset, piece);
                offset += n_new as u64;
            }
        }
        Ok(())
    }

    /// Moves what is no longer ahead of a gap.
    fn close_gap(&mut self) {
        while let Some(entry) = self.ahead.first_entry() {
            let received = self.ready.end();
            let start = *entry.key();
            if start > received {
                break;
            }
            let mut piece = entry.remove();
            let n_known = usize::try_from(received - start).unwrap_or(usize::MAX);
            if n_known < piece.len() {
                piece.advance(n_known);
                self.ready.push(piece);
            }
        }
    }
}

/// Counts bytes over rounds of at least a round trip.
#[derive(Debug, Default)]
pub(super) struct Round {
    began: Option<Instant>,
    n_bytes: u64,
}

impl Round {
    pub(super) fn count(&mut self, n_bytes: u64) {
        self.n_bytes += n_bytes;
    }

    /// The rate of a round, when one ends.
    pub(super) fn rate(&mut self, rtt: Duration, now: Instant) -> Option<Rate> {
        let Some(began) = self.began else {
            self.began = Some(now);
            return None;
        };
        let elapsed = now.saturating_duration_since(began);
        if elapsed < rtt.max(MIN_ROUND) {
            return None;
        }
        let rate = Rate::of(self.n_bytes, elapsed);
        self.began = Some(now);
        self.n_bytes = 0;
        Some(rate)
    }
}

/// Bytes per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rate(u64);

impl Rate {
    fn of(n_bytes: u64, elapsed: Duration) -> Self {
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        Self(n_bytes.saturating_mul(1_000_000) / micros.max(1))
    }

    /// What is left of it after a round that had less.
    pub(super) fn decayed(self) -> Self {
        Self(self.0 - self.0 / 8)
    }

    /// What goes through in `n` round trips.
    pub(super) fn in_round_trips(self, n: u64, rtt: Duration) -> u64 {
        let time = rtt.max(MIN_ROUND);
        self.in_time(time).saturating_mul(n)
    }

    /// What goes through in this time.
    pub(super) fn in_time(self, time: Duration) -> u64 {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_mul(micros) / 1_000_000
    }

    /// How long `n_bytes` take. A rate of nothing takes for ever.
    pub(super) fn time_for(self, n_bytes: u64) -> Duration {
        match n_bytes.saturating_mul(1_000_000).checked_div(self.0) {
            Some(micros) => Duration::from_micros(micros),
            None if n_bytes == 0 => Duration::ZERO,
            None => Duration::MAX,
        }
    }
}
