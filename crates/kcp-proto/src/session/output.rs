//! What leaves.

use std::time::{Duration, Instant};

use super::acks::Ack;
use super::copies;
use super::datagrams::TAKES_DATAGRAMS;
use super::send_window::Sending;
use super::{End, Micros, Session, arrived, whole_micros};
use crate::control::{LossCause, LossDetection, SentSegment};
use crate::copies::Piece;
use crate::fec::DATA_HEADER_LEN;
use crate::segment::{Command, Header};

/// Datagrams that [`Session::poll_transmit`] has made, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// How many there are.
    pub n_datagrams: usize,
    /// How long each is; the last one may be shorter.
    pub datagram_len: usize,
    /// Whether there is more in them than acknowledgements and windows.
    pub has_data: bool,
}

/// A datagram that did not fit into the last batch.
#[derive(Debug)]
pub(super) struct Held {
    bytes: Vec<u8>,
    has_data: bool,
}

impl Session {
    /// Appends up to `max_datagrams` datagrams to `out` that are to be sent now, all of one length
    /// but for the last, as segmentation offload wants them. To be called until there are none.
    pub fn poll_transmit(
        &mut self,
        out: &mut Vec<u8>,
        max_datagrams: usize,
        now: Instant,
    ) -> Option<Transmit> {
        let mut batch: Option<Transmit> = None;
        while batch.is_none_or(|batch| batch.n_datagrams < max_datagrams) {
            let start = out.len();
            let Some(has_data) = self.next_datagram(out, now) else {
                break;
            };
            let len = out.len() - start;
            let batch = batch.get_or_insert(Transmit {
                n_datagrams: 0,
                datagram_len: len,
                has_data: false,
            });
            if len > batch.datagram_len {
                let bytes = out.split_off(start);
                self.held = Some(Held { bytes, has_data });
                break;
            }
            batch.n_datagrams += 1;
            batch.has_data |= has_data;
            if len < batch.datagram_len {
                break;
            }
        }
        batch
    }

    /// Appends the next datagram, if there is one. Returns whether it has data.
    fn next_datagram(&mut self, out: &mut Vec<u8>, now: Instant) -> Option<bool> {
        if let Some(held) = self.held.take() {
            out.extend_from_slice(&held.bytes);
            return Some(held.has_data);
        }
        let start = out.len();
        let at = self.micros(now);
        let is_parity = self
            .encoder
            .as_mut()
            .is_some_and(|encoder| encoder.poll_parity(out));
        if is_parity {
            self.stats.n_parity_sent += 1;
        } else {
            self.begin(now);
            if self.encoder.is_some() {
                out.resize(start + DATA_HEADER_LEN, 0);
            }
            let payload_start = out.len();
            self.write_payload(out, now);
            if out.len() == payload_start {
                out.truncate(start);
                return None;
            }
            if let Some(encoder) = &mut self.encoder {
                encoder.seal(&mut out[start..], now);
            }
        }
        let len = out.len() - start;
        // Acknowledgements are not paced, so they do not count either: in a bulk transfer from the
        // peer there are many, and the little that goes back would wait behind them.
        let has_data = std::mem::take(&mut self.has_written_data) || is_parity;
        if let Some(rate) = self.control.pacing_rate().filter(|_| has_data) {
            self.pacer.handle_sent(len, rate, at);
        }
        self.stats.n_datagrams_sent += 1;
        self.stats.n_bytes_sent += len as u64;
        Some(has_data)
    }

    /// Sees whether it is time for a flush, and what has been lost.
    fn begin(&mut self, now: Instant) {
        let at = self.micros(now);
        let interval = whole_micros(self.config.interval);
        let is_tick =
            self.wants_flush() && self.flush.last_at.is_none_or(|last| at >= last + interval);
        let has_timed_out = self.next_time_out().is_some_and(|deadline| at >= deadline);
        if self.flush.is_due || is_tick || has_timed_out {
            self.begin_flush(now);
        } else if self.flush.is_due_for_acks {
            self.flush.is_open_for_acks = true;
        }
        self.flush.is_due_for_acks = false;
        if let LossDetection::Rack {
            n_reordered,
            reorder_time,
        } = self.control.loss_detection()
        {
            let patience = self.patience(reorder_time);
            let Self {
                window,
                control,
                stats,
                began_at,
                loss,
                ..
            } = self;
            window.detect_late(n_reordered, patience, at, |transmission| {
                stats.n_resent_overtaken += 1;
                loss.handle_bulk(true);
                control.on_lost(now, transmission.lost(LossCause::Overtaken, *began_at));
            });
            self.flush.is_open |= self.window.has_lost();
        }
        self.flush.is_open |= self.control.pacing_rate().is_some();
        if !self.pending.is_empty() {
            let Self {
                pending, window, ..
            } = self;
            pending.retain(|sn| window.is_in_flight(sn));
        }
        self.loss
            .settle(self.rtt.rto() + self.patience(Duration::ZERO), at);
    }

    fn begin_flush(&mut self, now: Instant) {
        let at = self.micros(now);
        self.flush.last_at = Some(at);
        self.flush.is_due = false;
        self.flush.is_open = true;
        self.flush.is_open_for_acks = true;

        let rto = self.rtt.rto();
        // With nothing new to send, a segment that one other has overtaken is sent again early.
        let is_early = !self.can_send_new();
        let is_heard = at < self.quiet_from();
        let (first, n_early) = (self.config.first.send_sn, self.n_early());
        let is_urgent =
            |sn: u32, n_losses: u32| sn.wrapping_sub(first) < n_early && n_losses < N_URGENT_LOSSES;
        let Self {
            window,
            control,
            stats,
            began_at,
            ..
        } = self;
        if !is_heard {
            window.detect_timed_out(at, rto, is_urgent, |transmission| {
                stats.n_resent_timed_out += 1;
                control.on_lost(now, transmission.lost(LossCause::TimedOut, *began_at));
            });
        }
        if let LossDetection::Classic { n_skips } = control.loss_detection() {
            let n_skips = if is_early { 1 } else { n_skips };
            window.detect_overtaken(n_skips, |transmission| {
                stats.n_resent_overtaken += 1;
                control.on_lost(now, transmission.lost(LossCause::Overtaken, *began_at));
            });
        }
    }

    /// Appends the KCP part of a datagram: acknowledgements, window commands, then data.
    fn write_payload(&mut self, out: &mut Vec<u8>, now: Instant) {
        let start = out.len();
        let end = start + self.config.mtu;
        let blank = Header {
            conv: self.config.conv,
            cmd: Command::Ack,
            frg: 0,
            wnd: self.receive.free(),
            ts: 0,
            sn: 0,
            una: self.receive.next(),
            len: 0,
        };
        if self.flush.is_open_for_acks {
            self.write_acks(out, end, blank);
        }
        if self.flush.is_open {
            self.write_window_commands(out, end, blank);
        }
        self.write_datagrams(out, end, blank, now);
        if self.flush.is_open {
            self.write_data(out, end, blank, now);
        }
        self.write_copies(out, end, blank, now);
        let is_stranger = self.receive.next() == self.config.first.receive_sn;
        if is_stranger && self.has_written_data {
            let padded_end = end.min(start + self.config.first_datagram_len);
            let padding = Header {
                cmd: Command::TellWindow,
                ..blank
            };
            while out.len() + Header::LEN <= padded_end {
                out.extend(padding.encode());
            }
        }
    }

    fn write_acks(&mut self, out: &mut Vec<u8>, end: usize, blank: Header) {
        let start = out.len();
        let frg = match self.datagrams.are_taken {
            true => TAKES_DATAGRAMS,
            false => 0,
        };
        let header = |ack: Ack| Header {
            frg,
            sn: ack.sn,
            ts: ack.ts,
            ..blank
        };
        let mut last = None;
        while out.len() + Header::LEN <= end {
            let Some(ack) = self.acks.pop(blank.una) else {
                self.flush.is_open_for_acks = false;
                break;
            };
            self.tell.handle_sent(blank.wnd);
            last = Some(ack);
            out.extend(header(ack).encode());
        }
        let (Some(last), true) = (last, self.config.n_ack_repeats > 0) else {
            return;
        };
        // Those just written are the newest that were sent: passed over.
        let n_written = (out.len() - start) / Header::LEN;
        for ack in self.acks.repeats(n_written) {
            if out.len() + Header::LEN > end {
                return;
            }
            out.extend(header(ack).encode());
        }
        let map_start = out.len() + Header::LEN;
        if self.receive.has_gap() && map_start + arrived::MIN_LEN <= end {
            out.resize(map_start, 0);
            let max_len = arrived::max_len(self.n_maps).min(end - map_start);
            self.n_maps = self.n_maps.wrapping_add(1);
            self.receive.write_map(out, max_len);
            let len = u32::try_from(out.len() - map_start).unwrap_or(u32::MAX);
            let header = Header {
                len,
                ..header(last)
            };
            out[map_start - Header::LEN..map_start].copy_from_slice(&header.encode());
        }
    }

    fn write_window_commands(&mut self, out: &mut Vec<u8>, end: usize, blank: Header) {
        for cmd in [Command::AskWindow, Command::TellWindow] {
            let is_due = match cmd {
                Command::AskWindow => &mut self.probe.is_due,
                _ => &mut self.tell.is_due,
            };
            if *is_due && out.len() + Header::LEN <= end {
                *is_due = false;
                self.tell.handle_sent(blank.wnd);
                out.extend(Header { cmd, ..blank }.encode());
            }
        }
    }

    /// Appends the datagrams that are due. They do not wait for the pacer, which counts them as long as
    /// the stream can make up for it: it makes room for them, but not all of it.
    fn write_datagrams(&mut self, out: &mut Vec<u8>, end: usize, blank: Header, now: Instant) {
        let at = self.micros(now);
        let blank = Header {
            cmd: Command::TellWindow,
            ..blank
        };
        while let Some((header, data)) = self.datagrams.pop(blank, end - out.len(), at) {
            out.extend(header.encode());
            out.extend_from_slice(&data);
            self.tell.handle_sent(blank.wnd);
            if self.is_datagram_counted(at) {
                self.datagrams.n_ahead += Header::LEN + data.len();
                self.has_written_data = true;
            }
            self.stats.n_own_datagrams_sent += 1;
        }
    }

    /// Whether stream data makes room for a datagram that is sent now.
    fn is_datagram_counted(&self, at: Micros) -> bool {
        let rate = self.control.pacing_rate().unwrap_or(0);
        let max_ahead = rate.saturating_mul(MAX_DATAGRAM_DEBT) / 1_000_000;
        self.datagrams.n_ahead as u64 <= max_ahead
            && self.pacer.next_at() < at.saturating_add(MAX_DATAGRAM_DEBT)
    }

    fn write_data(&mut self, out: &mut Vec<u8>, end: usize, blank: Header, now: Instant) {
        let at = self.micros(now);
        let is_paced = self.control.pacing_rate().is_some();
        loop {
            let lost = self.window.peek_lost().map(|(sn, data)| (sn, data.len()));
            let new_len = self.queue.next_len().filter(|_| self.can_send_new());
            let Some(len) = lost.map(|(_, len)| len).or(new_len) else {
                self.flush.is_open = false;
                self.is_app_limited = self.queue.is_empty();
                self.datagrams.n_ahead = 0;
                return;
            };
            let is_blocked = self.window.n_in_flight() >= self.control.window()
                || (is_paced && !self.pacer.is_ready(at));
            if is_blocked {
                self.is_app_limited = false;
                return;
            }
            if out.len() + Header::LEN + len > end {
                return;
            }
            let sending = Sending {
                now: at,
                ts: self.ts(at),
                rto: self.segment_rto(),
                is_app_limited: self.is_app_limited,
            };
            let blank = Header {
                cmd: Command::Push,
                ts: sending.ts,
                ..blank
            };
            let transmission = self.window.next_transmission();
            let header_start = out.len();
            out.extend([0; Header::LEN]);
            let sn = if let Some((sn, _)) = lost {
                if let Some((_, data)) = self.window.peek_lost() {
                    out.extend_from_slice(data);
                }
                self.window.send_again(sn, sending);
                sn
            } else {
                let data = self.queue.pop().unwrap_or_default();
                out.extend_from_slice(&data);
                self.stats.n_segments_sent += 1;
                let is_end = data.is_empty();
                let sn = self.window.send_new(data, sending);
                if is_end {
                    self.own_end = Some(sn);
                }
                sn
            };
            let n_data = u32::try_from(len).unwrap_or(u32::MAX);
            let end = self.ending.filter(|_| self.own_end == Some(sn));
            let header = Header {
                sn,
                frg: end.map_or(0, End::frg),
                len: n_data,
                ..blank
            };
            out[header_start..header_start + Header::LEN].copy_from_slice(&header.encode());
            self.tell.handle_sent(blank.wnd);
            self.has_written_data = true;
            let n_ahead = &mut self.datagrams.n_ahead;
            *n_ahead = n_ahead.saturating_sub(out.len() - header_start);
            self.plan_copies(sn, sending.ts, out.len() - header_start, now);
            self.control.on_sent(
                now,
                SentSegment {
                    transmission,
                    n_bytes: u32::try_from(out.len() - header_start).unwrap_or(u32::MAX),
                    is_repeat: lost.is_some(),
                    n_in_flight: self.window.n_in_flight(),
                },
            );
        }
    }

    /// How many segments from the first one on are [early](crate::Config::n_early) ones.
    fn n_early(&self) -> u32 {
        match self.copies {
            None => self.config.n_early,
            Some(_) => 0,
        }
    }

    /// Plans copies of a segment that has just been sent, if somebody waits for it: there is nothing
    /// else to send, and little under way, or it was lost before and holds up all that comes behind.
    /// Where nothing else is to be sent although something was lost, the writer itself may wait for it.
    fn plan_copies(&mut self, sn: u32, ts: u32, n_bytes: usize, now: Instant) {
        let n_losses = self.window.n_losses(sn);
        let are_few = !self.window.has_lost() && self.window.n_in_flight() <= MAX_AWAITED_SEGMENTS;
        let is_alone = self.queue.is_empty() && (are_few || n_losses > 0);
        let at = self.micros(now);
        let n_before = sn.wrapping_sub(self.config.first.send_sn);
        let is_early = n_before < self.n_early();
        if is_early && (self.window.n_in_flight() <= MAX_AWAITED_SEGMENTS || n_losses > 0) {
            self.loss.handle_sent(sn, ts, at);
            self.pending.plan(sn, copies::early(n_losses), at);
            return;
        }
        let (Some(policy), Some(srtt), true) = (
            &mut self.copies,
            self.rtt.smoothed(),
            is_alone || n_losses > 0,
        ) else {
            return;
        };
        let copies = policy.copies(
            now,
            Piece {
                n_bytes: u32::try_from(n_bytes).unwrap_or(u32::MAX),
                is_alone,
                n_losses,
                loss: self.loss.estimate(),
                srtt: Duration::from_micros(srtt),
                rate: self.control.pacing_rate(),
            },
        );
        if is_alone {
            self.loss.handle_sent(sn, ts, at);
        }
        self.pending.plan(sn, copies, at);
    }

    /// Appends the copies that are due. They are as they were but for the clock, by which their
    /// acknowledgements are told apart.
    fn write_copies(&mut self, out: &mut Vec<u8>, end: usize, blank: Header, now: Instant) {
        let at = self.micros(now);
        while let Some(sn) = self.pending.peek(at) {
            let ts = self.ts(at);
            let end_frg = self.ending.filter(|_| self.own_end == Some(sn));
            let Some(data) = self.window.copy(sn, ts) else {
                self.pending.retain(|other| other != sn);
                continue;
            };
            if out.len() + Header::LEN + data.len() > end {
                return;
            }
            let header = Header {
                cmd: Command::Push,
                frg: end_frg.map_or(0, End::frg),
                ts,
                sn,
                len: u32::try_from(data.len()).unwrap_or(u32::MAX),
                ..blank
            };
            out.extend(header.encode());
            out.extend_from_slice(data);
            self.tell.handle_sent(blank.wnd);
            self.has_written_data = true;
            self.pending.take(sn, at);
            self.loss.handle_sent(sn, ts, at);
            self.stats.n_copies_sent += 1;
        }
    }

    /// When the segment that has been overtaken first counts as lost.
    pub(super) fn next_late(&self) -> Option<Micros> {
        let LossDetection::Rack {
            n_reordered,
            reorder_time,
        } = self.control.loss_detection()
        else {
            return None;
        };
        self.window
            .next_late(n_reordered, self.patience(reorder_time))
    }

    /// When the first segment times out.
    pub(super) fn next_time_out(&self) -> Option<Micros> {
        let deadline = self.window.next_deadline()?;
        Some(deadline.max(self.quiet_from()))
    }

    /// From when on segments may time out. Where losses are told by later segments, acknowledgements
    /// that go on coming tell of all but the last: a round trip that grows quickly, or a burst of
    /// lost acknowledgements, would have all under way sent again.
    fn quiet_from(&self) -> Micros {
        match self.control.loss_detection() {
            LossDetection::Classic { .. } => 0,
            LossDetection::Rack { .. } => {
                let srtt = self.rtt.smoothed().unwrap_or(0);
                self.acked_at.saturating_add(srtt / QUIET_SHARE)
            }
        }
    }

    /// The time-out of a segment that is sent. Where losses are told by later segments it only
    /// serves the last ones, and must not come before these have had their time.
    fn segment_rto(&self) -> Micros {
        match self.control.loss_detection() {
            LossDetection::Classic { .. } => self.rtt.rto(),
            LossDetection::Rack { reorder_time, .. } => {
                self.rtt.rto().max(self.patience(reorder_time) * 3 / 2)
            }
        }
    }

    /// How long an overtaken segment is waited for.
    fn patience(&self, reorder_time: Duration) -> Micros {
        self.rtt
            .for_detection()
            .saturating_add(whole_micros(reorder_time).max(self.lateness.extra()))
    }
}

/// Datagrams make stream data wait for so long at most, and from then on for as long as it takes
/// itself. Beyond it they are sent without being counted: who sends that many sends them whatever the
/// path takes, and would have the stream stand still.
const MAX_DATAGRAM_DEBT: Micros = 20_000;

/// Part of a round trip without acknowledgements after which segments may time out.
const QUIET_SHARE: Micros = 4;

/// How often an early segment is said again without a longer pause than before. A burst of losses
/// takes several packets in a row, and of a handshake only these are sent, so it lasts until they are.
const N_URGENT_LOSSES: u32 = 4;

/// Segments under way up to which somebody waits for each of them. A few messages; beyond it the
/// ones behind tell of a loss.
const MAX_AWAITED_SEGMENTS: u32 = 8;
