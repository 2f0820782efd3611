//! The sending half of a held stream: what was written, until the peer has it.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::budget::{Budget, Share};
use super::copies::{Copies, CopyPlan};
use super::frame::{Ack, MAX_DATA_LEN};
use super::pieces::{PIECE_COST, Pieces};
use super::receive::{ROUND_TRIPS, Rate, Round};
use super::{INITIAL_WINDOW, MAX_WINDOW, varint};

/// What is kept at most before the path is known.
const INITIAL_CAPACITY: u64 = 64 * 1024;

/// No more is kept for a path than what passes over it in this time, beside what losses ask for.
const KEPT_TIME: Duration = Duration::from_secs(2);

const FRAME_LEN: u64 = MAX_DATA_LEN as u64;

/// Bytes that wait to be sent or acknowledged, where among them the sender is, and how far the
/// peer lets it go.
#[derive(Debug)]
pub(super) struct SendQueue {
    /// From what is acknowledged to what was written.
    pieces: Pieces,
    /// Everything before it has been sent on some route.
    sent: u64,
    /// What is to be sent again before anything new: from here up to `resend_end`.
    resend_at: u64,
    resend_end: u64,
    limit: u64,
    capacity: u64,
    share: Share,
    is_finished: bool,
    is_fin_sent: bool,
    /// On any route, so that the peer can have it.
    was_fin_sent: bool,
    is_fin_acked: bool,
    /// Up to where copies are planned, or not wanted.
    copied: u64,
    copies: Copies,
    /// How many bytes were sent again.
    resent: u64,
    round: Round,
    rate: Rate,
}

impl SendQueue {
    pub(super) fn new(budget: Budget) -> Self {
        Self {
            pieces: Pieces::default(),
            sent: 0,
            resend_at: 0,
            resend_end: 0,
            limit: INITIAL_WINDOW,
            capacity: INITIAL_CAPACITY,
            share: Share::new(budget),
            is_finished: false,
            is_fin_sent: false,
            was_fin_sent: false,
            is_fin_acked: false,
            copied: 0,
            copies: Copies::default(),
            resent: 0,
            round: Round::default(),
            rate: Rate::default(),
        }
    }

    /// Takes a prefix of `bytes`, as much as there is room for.
    pub(super) fn write(&mut self, bytes: &mut Bytes) -> usize {
        let room = self.room(bytes.len() as u64);
        // The last offset belongs to the end of the stream.
        let room = room.min(varint::MAX - 1 - self.pieces.end());
        let n = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        self.pieces.push(bytes.split_to(n));
        n
    }

    /// Nothing more is written.
    pub(super) fn finish(&mut self) {
        self.is_finished = true;
    }

    pub(super) fn has_room(&self) -> bool {
        self.pieces.cost() + PIECE_COST < self.capacity
    }

    /// How far the peer may say that it has received. The end counts as one offset.
    pub(super) fn highest_ack(&self) -> u64 {
        self.sent + u64::from(self.was_fin_sent)
    }

    /// Takes what the peer says. It must not be above [`Self::highest_ack`]. An older one than
    /// the last, from a route that was overtaken, changes nothing.
    pub(super) fn handle_ack(&mut self, ack: Ack, rtt: Duration, now: Instant) {
        assert!(
            ack.received <= self.highest_ack(),
            "what the peer has is checked first"
        );
        self.limit = self.limit.max(ack.limit());
        let end = self.pieces.end();
        if ack.received > end {
            self.is_fin_acked = true;
        }
        let received = ack.received.min(end);
        let n_new = received.saturating_sub(self.pieces.start());
        if n_new > 0 {
            self.pieces.trim(received);
            self.share.resize(self.pieces.cost());
            self.round.count(n_new);
            if let Some(rate) = self.round.rate(rtt, now) {
                // A round in which the writer had little to say tells nothing of the path.
                self.rate = rate.max(self.rate.decayed());
                let wanted = rate.in_round_trips(ROUND_TRIPS, rtt).min(MAX_WINDOW);
                self.capacity = self.capacity.max(wanted);
            }
            if self.share.is_roomy() {
                // The peer has seen what this stream asks for. On a slow path more would lie here
                // for long, and what is live would be late.
                let in_time = self.rate.in_time(KEPT_TIME);
                self.capacity = self.capacity.max(ack.window.min(in_time).min(MAX_WINDOW));
            }
        }
        self.resend_at = self.resend_at.max(self.pieces.start());
    }

    /// Everything that is not acknowledged is to be sent again: up to `end`, or all.
    pub(super) fn rewind(&mut self, end: Option<u64>) {
        let end = end.unwrap_or(self.sent).min(self.sent);
        // What was to be sent again before has no later end than what was sent since.
        self.resend_end = self.resend_end.max(end);
        self.resend_at = self.pieces.start();
        if self.is_finished && !self.is_fin_acked {
            self.is_fin_sent = false;
        }
    }

    /// Appends the payload of the next DATA frame to `out`, at most `max` bytes, and returns where
    /// in the stream it belongs and how long it is.
    pub(super) fn next_data(&mut self, max: usize, out: &mut Vec<Bytes>) -> Option<(u64, usize)> {
        let max = max.min(MAX_DATA_LEN) as u64;
        let is_again = self.is_resending();
        let (offset, end) = if is_again {
            (self.resend_at, self.resend_end)
        } else {
            (self.sent, self.pieces.end().min(self.limit))
        };
        if offset >= end {
            return None;
        }
        let n = self.pieces.gather(offset, max.min(end - offset), out);
        if is_again {
            self.resend_at += n;
            self.resent += n;
        } else {
            self.sent += n;
        }
        Some((offset, usize::try_from(n).unwrap_or(MAX_DATA_LEN)))
    }

    /// Where the stream ends, once, when all of it has been sent.
    pub(super) fn next_fin(&mut self) -> Option<u64> {
        let is_due = self.is_finished
            && !self.is_fin_sent
            && !self.is_resending()
            && self.sent == self.pieces.end();
        self.is_fin_sent |= is_due;
        self.was_fin_sent |= is_due;
        is_due.then_some(self.sent)
    }

    /// Whether [`Self::next_data`] or [`Self::next_fin`] have something.
    pub(super) fn is_pending(&self) -> bool {
        let end = self.pieces.end();
        self.is_resending()
            || self.sent < end.min(self.limit)
            || (self.is_finished && !self.is_fin_sent && self.sent == end)
    }

    /// How many bytes were sent of which nobody has said yet whether they are copied; none when
    /// more than `max_in_flight` is under way.
    pub(super) fn uncopied(&mut self, max_in_flight: u64) -> u64 {
        if self.in_flight() > max_in_flight {
            self.copied = self.sent;
        }
        self.sent - self.copied.clamp(self.pieces.start(), self.sent)
    }

    /// Has copies made of these bytes, `max` in each.
    pub(super) fn plan_copies(&mut self, max: u64, plan: CopyPlan, now: Instant) {
        let start = self.copied.max(self.pieces.start());
        self.copies.plan(start, self.sent, max, plan, now);
        self.copied = self.sent;
    }

    /// A copy that is due: where in the stream it belongs, and the bytes.
    pub(super) fn next_copy(&mut self, max: u64, now: Instant) -> Option<(u64, Vec<Bytes>)> {
        let (start, end) = self.copies.poll(self.pieces.start(), max, now)?;
        let mut out = Vec::new();
        self.pieces.gather(start, end - start, &mut out);
        Some((start, out))
    }

    /// When the next copy is due.
    pub(super) fn copy_at(&self) -> Option<Instant> {
        self.copies.due()
    }

    /// Whether there is something to be sent again before anything new.
    pub(super) fn is_resending(&self) -> bool {
        self.resend_at < self.resend_end
    }

    /// Bytes sent and not acknowledged.
    pub(super) fn in_flight(&self) -> u64 {
        self.sent - self.pieces.start()
    }

    /// How long the path would need for what is under way, as it went lately.
    pub(super) fn time_to_drain(&self) -> Duration {
        match self.in_flight() {
            // No path that is worth leaving in good order needs long for one frame.
            0..=FRAME_LEN => Duration::ZERO,
            in_flight => self.rate.time_for(in_flight),
        }
    }

    /// How long the path would need for all that is kept, as it went lately; `None` when nothing is
    /// known of it.
    pub(super) fn time_for_kept(&self) -> Option<Duration> {
        (self.rate > Rate::default()).then(|| self.rate.time_for(self.kept()))
    }

    /// How many bytes were sent again.
    pub(super) fn resent(&self) -> u64 {
        self.resent
    }

    /// Whether the end of the stream has been sent on some route.
    pub(super) fn was_fin_sent(&self) -> bool {
        self.was_fin_sent
    }

    /// Everything before this offset has been sent on some route.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether the peer has not confirmed everything before `end`, or the stream's end if that was
    /// sent: perhaps right behind it.
    pub(super) fn is_missing(&self, end: u64) -> bool {
        self.pieces.start() < end || (self.is_fin_sent && !self.is_fin_acked)
    }

    /// Bytes kept.
    pub(super) fn kept(&self) -> u64 {
        self.pieces.len()
    }

    /// Whether the writer has ended its direction.
    pub(super) fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Whether the peer has everything, and knows that it is everything.
    pub(super) fn is_complete(&self) -> bool {
        self.is_fin_acked
    }

    /// Gives back memory that only a busy stream needs.
    pub(super) fn rest(&mut self) {
        self.pieces.rest();
        self.copies.rest();
    }

    /// What is allocated.
    #[cfg(test)]
    pub(super) fn heap(&self) -> usize {
        self.pieces.heap() + self.copies.heap()
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.sent = self.pieces.end();
        self.copies.clear();
        self.pieces.trim(self.sent);
        self.resend_at = self.sent;
        self.resend_end = self.sent;
        self.is_finished = true;
        self.is_fin_sent = true;
        self.share.resize(0);
    }

    /// How many of `wanted` bytes can be taken: what the capacity has left, and of that what the
    /// budget gives.
    fn room(&mut self, wanted: u64) -> u64 {
        let cost = self.pieces.cost() + PIECE_COST;
        let mut n = wanted.min(self.capacity.saturating_sub(cost));
        while n > 0 && !self.share.resize(cost + n) {
            // Near the bound of the budget there is room for less, and the floor is always there.
            n /= 2;
        }
        n
    }
}
