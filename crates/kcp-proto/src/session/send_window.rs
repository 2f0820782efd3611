//! Segments that have been sent and not yet been acknowledged.
//!
//! They stand in a ring by number, so that an acknowledgement finds its segment at once. Those under
//! way are also linked in the order of their latest transmission: whatever has been overtaken is at
//! the front, and a lost segment leaves the list for the queue of those to be sent again.
//!
//! An acknowledgement names the clock of the transmission that it answers, so it is known which of
//! several has arrived.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Micros;
use super::arrived::{self, Bits};
use crate::control::{AckedSegment, LossCause, LossDetection, LostSegment};
use crate::segment::{Header, distance};

/// Slots to begin with: an idle session keeps few bytes.
const INITIAL_SLOTS: usize = 16;

/// A deadline that never comes.
const NEVER: Micros = Micros::MAX;

/// The longest time-out of a segment that has been sent again and again, unless the session's own
/// time-out is longer. After an outage this is what the first sign of life waits for.
const MAX_BACKED_OFF_RTO: Micros = 2_000_000;

#[derive(Debug)]
pub(super) struct SendWindow {
    slots: Vec<Slot>,
    /// Which slots' segments have been acknowledged.
    arrived: Bits,
    /// When each slot's segment times out, beside the slots so that a search is quick.
    deadlines: Vec<Micros>,
    /// No deadline is earlier than this.
    next_deadline: Micros,
    /// The first segment that the peer may not have.
    una: u32,
    /// The next new segment.
    next: u32,
    /// The ends of the list of segments under way, by number.
    ends: Option<(u32, u32)>,
    n_in_flight: u32,
    /// Segments to be sent again. Those acknowledged meanwhile are passed over.
    lost: VecDeque<u32>,
    n_lost: u32,
    next_transmission: u64,
    /// The highest transmissions that have been acknowledged, descending.
    acked: [Option<u64>; LossDetection::MAX_SKIPS as usize],
}

/// A segment.
#[derive(Clone, Debug)]
struct Slot {
    data: Bytes,
    state: State,
    is_app_limited: bool,
    /// How often it was taken for lost.
    n_losses: u32,
    /// Whether its last loss was told by later segments.
    was_overtaken: bool,
    /// The clock in the first and in the latest transmission.
    first_ts: u32,
    ts: u32,
    /// The clock in the latest copy, or in the latest transmission.
    copy_ts: u32,
    sent_at: Micros,
    transmission: u64,
    rto: Micros,
    previous: u32,
    following: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    InFlight,
    Lost,
    Acked,
}

/// The latest transmission of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transmission {
    pub(super) number: u64,
    pub(super) data_len: usize,
    pub(super) sent_at: Micros,
    pub(super) is_app_limited: bool,
}

impl Transmission {
    /// What the control hears of it when it has arrived.
    pub(super) fn acked(&self, is_exact: bool, began_at: Instant) -> AckedSegment {
        AckedSegment {
            transmission: self.number,
            n_bytes: self.n_bytes(),
            sent_at: began_at + Duration::from_micros(self.sent_at),
            is_exact,
            is_app_limited: self.is_app_limited,
        }
    }

    /// What the control hears of it when it is lost.
    pub(super) fn lost(&self, cause: LossCause, began_at: Instant) -> LostSegment {
        LostSegment {
            transmission: self.number,
            n_bytes: self.n_bytes(),
            sent_at: began_at + Duration::from_micros(self.sent_at),
            cause,
        }
    }

    fn n_bytes(&self) -> u32 {
        u32::try_from(self.data_len + Header::LEN).unwrap_or(u32::MAX)
    }
}

/// What an acknowledgement was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acked {
    pub(super) transmission: Transmission,
    /// When the transmission that the clock names was sent. To the millisecond unless it is the
    /// latest, and absent when the clock names none.
    pub(super) answered_at: Option<Micros>,
    /// Whether it answers the latest transmission.
    pub(super) is_exact: bool,
    /// Whether the segment has been taken for lost although this transmission of it arrived.
    pub(super) is_spurious: bool,
    /// Whether it was taken for lost because later ones had overtaken it.
    pub(super) was_overtaken: bool,
}

/// How a segment is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sending {
    pub(super) now: Micros,
    pub(super) ts: u32,
    pub(super) rto: Micros,
    pub(super) is_app_limited: bool,
}

impl SendWindow {
    pub(super) fn new(first: u32) -> Self {
        Self {
            slots: Vec::new(),
            arrived: Bits::default(),
            deadlines: Vec::new(),
            next_deadline: NEVER,
            una: first,
            next: first,
            ends: None,
            n_in_flight: 0,
            lost: VecDeque::new(),
            n_lost: 0,
            next_transmission: 0,
            acked: [None; _],
        }
    }

    /// Adds a new segment, which is being sent.
    pub(super) fn send_new(&mut self, data: Bytes, sending: Sending) -> u32 {
        let sn = self.next;
        self.make_room();
        let slot_idx = self.slot_idx(sn);
        self.slots[slot_idx] = Slot {
            data,
            first_ts: sending.ts,
            ..Slot::default()
        };
        self.arrived.clear(sn);
        self.next = sn.wrapping_add(1);
        self.launch(sn, sending);
        sn
    }

    /// Takes a lost segment that is being sent again; the one that `peek_lost` has named.
    pub(super) fn send_again(&mut self, sn: u32, sending: Sending) {
        debug_assert_eq!(self.lost.front(), Some(&sn));
        self.lost.pop_front();
        self.n_lost -= 1;
        // A segment that has timed out has its time-out longer already.
        let rto = sending.rto.max(self.slot(sn).rto);
        self.launch(sn, Sending { rto, ..sending });
    }

    /// Returns the lost segment that comes first, and its data.
    pub(super) fn peek_lost(&mut self) -> Option<(u32, &Bytes)> {
        while let Some(&sn) = self.lost.front() {
            if self.contains(sn) && self.slot(sn).state == State::Lost {
                return Some((sn, &self.slot(sn).data));
            }
            self.lost.pop_front();
        }
        None
    }

    /// Returns the data of a segment under way, of which a copy is sent with the clock `ts`.
    pub(super) fn copy(&mut self, sn: u32, ts: u32) -> Option<&Bytes> {
        if !self.is_in_flight(sn) {
            return None;
        }
        let slot = self.slot_mut(sn);
        slot.copy_ts = ts;
        Some(&slot.data)
    }

    /// Takes the acknowledgement of `sn` by the clock `ts`. `None` when nothing comes of it.
    pub(super) fn handle_ack(
        &mut self,
        sn: u32,
        ts: u32,
        now: Micros,
        now_ts: u32,
    ) -> Option<Acked> {
        if !self.contains(sn) || self.slot(sn).state == State::Acked {
            return None;
        }
        let slot = self.slot(sn);
        let transmission = slot.transmission();
        let is_exact = slot.ts == ts;
        let is_of_segment = distance(ts, slot.first_ts) >= 0 && distance(slot.copy_ts, ts) >= 0;
        let is_earlier = is_of_segment && distance(slot.ts, ts) > 0;
        let answered_at = if is_exact {
            Some(slot.sent_at)
        } else if is_of_segment {
            let age_ms = u64::from(now_ts.wrapping_sub(ts));
            now.checked_sub(age_ms * 1000)
        } else {
            None
        };
        let is_spurious = slot.state == State::Lost || is_earlier;
        let was_overtaken = slot.was_overtaken;
        if is_exact {
            self.note_acked(transmission.number);
        }
        self.settle(sn);
        Some(Acked {
            transmission,
            answered_at,
            is_exact,
            is_spurious,
            was_overtaken,
        })
    }

    /// Takes the peer's `una`: all segments before it have arrived. Calls `on_acked` for those that
    /// this is the first to tell of. The caller has checked that `una` has been sent.
    pub(super) fn handle_una(&mut self, una: u32, mut on_acked: impl FnMut(Transmission)) -> bool {
        if distance(una, self.una) <= 0 {
            return false;
        }
        while self.una != una {
            let sn = self.una;
            if self.slot(sn).state != State::Acked {
                on_acked(self.slot(sn).transmission());
                self.settle(sn);
            }
            self.una = sn.wrapping_add(1);
        }
        true
    }

    /// Takes the peer's map of what has arrived. Calls `on_acked` for those that this is the first to
    /// tell of.
    pub(super) fn handle_map(
        &mut self,
        map: &[u8],
        mut on_acked: impl FnMut(Transmission),
    ) -> bool {
        let mut has_acked = false;
        for (first, word) in arrived::words(map) {
            let new = word & !self.arrived.word(first);
            for sn in arrived::numbers(first, new) {
                if self.contains(sn) && self.slot(sn).state != State::Acked {
                    on_acked(self.slot(sn).transmission());
                    self.settle(sn);
                    has_acked = true;
                }
            }
        }
        has_acked
    }

    /// Takes segments that have been overtaken for lost, by kcp-go's rule. Calls `on_lost` for each.
    pub(super) fn detect_overtaken(&mut self, n_skips: u32, on_lost: impl FnMut(Transmission)) {
        let n_skips = n_skips.clamp(1, LossDetection::MAX_SKIPS) as usize;
        let Some(limit) = self.acked[n_skips - 1] else {
            return;
        };
        self.lose_before(limit, |_| true, on_lost);
    }

    /// Takes segments that have been overtaken for lost, by number and time. Calls `on_lost` for
    /// each.
    pub(super) fn detect_late(
        &mut self,
        n_reordered: u32,
        patience: Micros,
        now: Micros,
        on_lost: impl FnMut(Transmission),
    ) {
        let Some(limit) = self.late_limit(n_reordered) else {
            return;
        };
        let is_late = |slot: &Slot| slot.sent_at.saturating_add(patience) <= now;
        self.lose_before(limit, is_late, on_lost);
    }

    /// Takes segments whose time is up for lost, with a longer time-out, save those of which
    /// `is_urgent`, by number and losses so far, says otherwise. Calls `on_lost` for each.
    pub(super) fn detect_timed_out(
        &mut self,
        now: Micros,
        rto: Micros,
        is_urgent: impl Fn(u32, u32) -> bool,
        mut on_lost: impl FnMut(Transmission),
    ) {
        if now < self.next_deadline {
            return;
        }
        let mut next_deadline = NEVER;
        for i in 0..self.len() {
            let sn = self.una.wrapping_add(i);
            let slot_idx = self.slot_idx(sn);
            let deadline = self.deadlines[slot_idx];
            if deadline > now {
                next_deadline = next_deadline.min(deadline);
                continue;
            }
            let slot = &mut self.slots[slot_idx];
            if !is_urgent(sn, slot.n_losses) {
                slot.rto = (slot.rto + rto / 2).min(MAX_BACKED_OFF_RTO.max(rto));
            }
            slot.was_overtaken = false;
            on_lost(slot.transmission());
            self.lose(sn);
        }
        self.next_deadline = next_deadline;
    }

    /// How often a segment has been taken for lost.
    pub(super) fn n_losses(&self, sn: u32) -> u32 {
        self.slot(sn).n_losses
    }

    /// Whether a segment has been sent and neither been acknowledged nor been taken for lost.
    pub(super) fn is_in_flight(&self, sn: u32) -> bool {
        self.contains(sn) && self.slot(sn).state == State::InFlight
    }

    /// The first segment that the peer may not have.
    pub(super) fn una(&self) -> u32 {
        self.una
    }

    /// The number of the next new segment.
    pub(super) fn next(&self) -> u32 {
        self.next
    }

    /// Segments from the first unacknowledged one to the latest.
    pub(super) fn len(&self) -> u32 {
        self.next.wrapping_sub(self.una)
    }

    pub(super) fn n_in_flight(&self) -> u32 {
        self.n_in_flight
    }

    /// Whether segments wait to be sent again.
    pub(super) fn has_lost(&self) -> bool {
        self.n_lost > 0
    }

    /// The transmission that is next to be sent.
    pub(super) fn next_transmission(&self) -> u64 {
        self.next_transmission
    }

    /// Whether a segment under way has been overtaken.
    pub(super) fn has_overtaken(&self) -> bool {
        let (Some((oldest, _)), Some(acked)) = (self.ends, self.acked[0]) else {
            return false;
        };
        self.slot(oldest).transmission < acked
    }

    /// When the first segment that has been overtaken by number will be by time.
    pub(super) fn next_late(&self, n_reordered: u32, patience: Micros) -> Option<Micros> {
        let limit = self.late_limit(n_reordered)?;
        let (oldest, _) = self.ends?;
        let oldest = self.slot(oldest);
        (oldest.transmission < limit).then(|| oldest.sent_at.saturating_add(patience))
    }

    /// A time before which no segment times out.
    pub(super) fn next_deadline(&self) -> Option<Micros> {
        (self.n_in_flight > 0).then_some(self.next_deadline)
    }

    /// Transmissions before this one have been overtaken by one `n_reordered` numbers later.
    fn late_limit(&self, n_reordered: u32) -> Option<u64> {
        Some(self.acked[0]?.saturating_sub(u64::from(n_reordered).saturating_sub(1)))
    }

    /// Moves segments from the front of the list to the lost ones, while they were sent before
    /// transmission `limit` and `condition` holds.
    fn lose_before(
        &mut self,
        limit: u64,
        condition: impl Fn(&Slot) -> bool,
        mut on_lost: impl FnMut(Transmission),
    ) {
        while let Some((oldest, _)) = self.ends {
            let slot = self.slot_mut(oldest);
            if slot.transmission >= limit || !condition(slot) {
                return;
            }
            // The segment's time-out starts over with the session's.
            slot.rto = 0;
            slot.was_overtaken = true;
            on_lost(slot.transmission());
            self.lose(oldest);
        }
    }

    fn lose(&mut self, sn: u32) {
        self.unlink(sn);
        let slot = self.slot_mut(sn);
        slot.state = State::Lost;
        slot.n_losses = slot.n_losses.saturating_add(1);
        self.lost.push_back(sn);
        self.n_lost += 1;
    }

    /// Marks a segment as acknowledged and lets go of its data.
    fn settle(&mut self, sn: u32) {
        match self.slot(sn).state {
            State::InFlight => self.unlink(sn),
            State::Lost => self.n_lost -= 1,
            State::Acked => return,
        }
        let slot = self.slot_mut(sn);
        slot.state = State::Acked;
        slot.data = Bytes::new();
        self.arrived.set(sn);
    }

    /// Puts a segment at the end of the list.
    fn launch(&mut self, sn: u32, sending: Sending) {
        let transmission = self.next_transmission;
        self.next_transmission += 1;
        let last = self.ends.map(|(_, last)| last);
        let slot = self.slot_mut(sn);
        slot.state = State::InFlight;
        slot.ts = sending.ts;
        slot.copy_ts = sending.ts;
        slot.sent_at = sending.now;
        slot.rto = sending.rto;
        slot.is_app_limited = sending.is_app_limited;
        slot.transmission = transmission;
        slot.previous = last.unwrap_or(sn);
        slot.following = sn;
        if let Some(last) = last {
            self.slot_mut(last).following = sn;
        }
        self.ends = Some((self.ends.map_or(sn, |(first, _)| first), sn));
        self.n_in_flight += 1;
        let deadline = sending.now.saturating_add(sending.rto);
        let slot_idx = self.slot_idx(sn);
        self.deadlines[slot_idx] = deadline;
        self.next_deadline = self.next_deadline.min(deadline);
    }

    /// Takes a segment out of the list.
    fn unlink(&mut self, sn: u32) {
        let Slot {
            previous,
            following,
            ..
        } = *self.slot(sn);
        let Some((first, last)) = self.ends else {
            return;
        };
        self.ends = match (sn == first, sn == last) {
            (true, true) => None,
            (true, false) => Some((following, last)),
            (false, true) => Some((first, previous)),
            (false, false) => Some((first, last)),
        };
        if sn != first {
            // The end of the list is never asked for what follows it.
            self.slot_mut(previous).following = following;
        }
        if sn != last {
            self.slot_mut(following).previous = previous;
        }
        self.n_in_flight -= 1;
        let slot_idx = self.slot_idx(sn);
        self.deadlines[slot_idx] = NEVER;
    }

    /// Remembers the transmission if it is among the highest acknowledged ones.
    fn note_acked(&mut self, transmission: u64) {
        let mut rising = Some(transmission);
        for acked in &mut self.acked {
            if rising > *acked {
                std::mem::swap(acked, &mut rising);
            }
        }
    }

    /// Grows the ring when the next segment has no slot in it.
    fn make_room(&mut self) {
        let len = self.len() as usize;
        if len < self.slots.len() {
            return;
        }
        let n_slots = (len + 1).next_power_of_two().max(INITIAL_SLOTS);
        self.arrived = Bits::with_slots(n_slots);
        let mut slots = vec![Slot::default(); n_slots];
        let mut deadlines = vec![NEVER; n_slots];
        for i in 0..self.len() {
            let sn = self.una.wrapping_add(i);
            let (old_idx, new_idx) = (self.slot_idx(sn), sn as usize & (n_slots - 1));
            std::mem::swap(&mut slots[new_idx], &mut self.slots[old_idx]);
            deadlines[new_idx] = self.deadlines[old_idx];
            if slots[new_idx].state == State::Acked {
                self.arrived.set(sn);
            }
        }
        self.slots = slots;
        self.deadlines = deadlines;
    }

    fn contains(&self, sn: u32) -> bool {
        distance(sn, self.una) >= 0 && distance(sn, self.next) < 0
    }

    fn slot(&self, sn: u32) -> &Slot {
        &self.slots[self.slot_idx(sn)]
    }

    fn slot_mut(&mut self, sn: u32) -> &mut Slot {
        let slot_idx = self.slot_idx(sn);
        &mut self.slots[slot_idx]
    }

    fn slot_idx(&self, sn: u32) -> usize {
        sn as usize & (self.slots.len() - 1)
    }
}

impl Slot {
    fn transmission(&self) -> Transmission {
        Transmission {
            number: self.transmission,
            data_len: self.data.len(),
            sent_at: self.sent_at,
            is_app_limited: self.is_app_limited,
        }
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self {
            data: Bytes::new(),
            state: State::Acked,
            is_app_limited: false,
            n_losses: 0,
            was_overtaken: false,
            first_ts: 0,
            ts: 0,
            copy_ts: 0,
            sent_at: 0,
            transmission: 0,
            rto: 0,
            previous: 0,
            following: 0,
        }
    }
}
