//! What arrives.

use std::time::Instant;

use bytes::Bytes;
use thiserror::Error;

use super::acks::Ack;
use super::datagrams::TAKES_DATAGRAMS;
use super::receive_window::Insertion;
use super::{End, Micros, Session};
use crate::fec::{DATA_HEADER_LEN, Decoder, Framing, Shards};
use crate::segment::{Command, Header, SegmentError, Segments, distance};

/// A sample above this is from a clock gone wrong, and not taken.
const MAX_RTT_SAMPLE: Micros = 60_000_000;

/// Why a datagram was not taken. It has had no effect, and the session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DatagramError {
    /// Not segments of this conversation.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// A receiver of something that was never sent: it belongs to another life of this conversation.
    #[error("segment {una} is awaited where {next} is the next to be sent")]
    UnaBeyond {
        /// What the datagram says.
        una: u32,
        /// What the session would send next.
        next: u32,
    },
}

impl Session {
    /// Takes a datagram. Slices of it are kept until they have been read, or as long as forward
    /// error correction may need them: cut it out of a large buffer only if others fill the rest.
    pub fn handle_datagram(&mut self, datagram: &Bytes, now: Instant) -> Result<(), DatagramError> {
        let result = self.take_datagram(datagram, now);
        match result {
            Ok(()) => self.stats.n_datagrams_received += 1,
            Err(_) => self.stats.n_datagrams_refused += 1,
        }
        result
    }

    fn take_datagram(&mut self, datagram: &Bytes, now: Instant) -> Result<(), DatagramError> {
        let framing = Framing::of(datagram).ok_or(SegmentError::TooShort(datagram.len()))?;
        let recovered = match framing {
            Framing::Plain => {
                self.check(datagram)?;
                self.apply(datagram, true, now);
                return Ok(());
            }
            Framing::Data { seqid } => {
                let payload = datagram.slice(DATA_HEADER_LEN..);
                self.check(&payload)?;
                self.apply(&payload, true, now);
                self.decoder().handle_data(seqid, datagram, now)
            }
            Framing::Parity { seqid } => self.decoder().handle_parity(seqid, datagram, now),
        };
        for payload in recovered {
            if self.check(&payload).is_ok() && self.is_plausible(&payload) {
                self.apply(&payload, false, now);
            }
        }
        Ok(())
    }

    /// Checks all segments before any of them takes effect.
    fn check(&self, payload: &[u8]) -> Result<(), DatagramError> {
        let next = self.window.next();
        for segment in Segments::new(payload, self.config.conv) {
            let (Header { una, .. }, _) = segment?;
            if distance(una, next) > 0 {
                return Err(DatagramError::UnaBeyond { una, next });
            }
        }
        Ok(())
    }

    /// Whether the data segments of a recovered packet are near those that are awaited. The decoder
    /// has checked what it can; this is one more condition that a wrong recovery has to meet.
    fn is_plausible(&self, payload: &[u8]) -> bool {
        let limit = 2 * self.receive.limit();
        Segments::new(payload, self.config.conv)
            .flatten()
            .all(|(header, _)| {
                header.cmd != Command::Push
                    || distance(header.sn, self.receive.next()).unsigned_abs() <= limit
            })
    }

    /// Takes the segments of a payload that has been checked. Those of a recovered packet are not
    /// `is_regular`: they are late, so they say nothing about the window and the round-trip time.
    fn apply(&mut self, payload: &Bytes, is_regular: bool, now: Instant) {
        let at = self.micros(now);
        let mut answered_at = None;
        let mut has_acked = false;
        let mut una_moved = false;
        let mut offset = 0;
        while let Ok(header) = Header::decode(&payload[offset..]) {
            let data_start = offset + Header::LEN;
            let Some(data_end) = data_start
                .checked_add(header.len as usize)
                .filter(|&data_end| data_end <= payload.len())
            else {
                break;
            };
            offset = data_end;
            if is_regular && distance(header.una, self.window.una()) >= 0 {
                self.peer_window = header.wnd;
            }
            match header.cmd {
                Command::Ack => {
                    self.datagrams.are_taken_there |= header.frg == TAKES_DATAGRAMS;
                    if let Some(acked) = self.handle_ack(header, now) {
                        answered_at = acked.or(answered_at);
                        has_acked = true;
                    }
                    has_acked |= self.handle_map(&payload[data_start..data_end], now);
                }
                Command::Push => {
                    self.handle_push(header, payload.slice(data_start..data_end));
                }
                Command::AskWindow => {
                    self.tell.is_due = true;
                    self.flush.is_due = true;
                }
                Command::TellWindow => {
                    let data = payload.slice(data_start..data_end);
                    self.datagrams.handle_segment(header, data);
                }
            }
            let moved = self.handle_una(header.una, now);
            una_moved |= moved;
            has_acked |= moved;
        }
        if let Some(answered_at) = answered_at.filter(|_| is_regular) {
            let sample = at.saturating_sub(answered_at);
            if sample <= MAX_RTT_SAMPLE {
                self.rtt.on_sample(sample);
            }
        }
        if has_acked {
            self.acked_at = at;
            self.control.on_acks_end(now, self.window.n_in_flight());
        }
        // The window has moved: what it lets in leaves at once.
        self.flush.is_due |= una_moved;
        self.flush.is_due_for_acks |=
            self.acks.n_waiting() >= self.config.ack_after && !self.acks.is_empty();
        self.probe.update(self.is_shut_out(), at);
    }

    /// Takes an acknowledgement. `Some` if a segment is acknowledged by it, with the time at which
    /// what it answers was sent, if that is known.
    fn handle_ack(&mut self, header: Header, now: Instant) -> Option<Option<Micros>> {
        let at = self.micros(now);
        self.loss.handle_ack(header.sn, header.ts);
        let acked = self
            .window
            .handle_ack(header.sn, header.ts, at, self.ts(at))?;
        if acked.is_spurious {
            self.stats.n_spurious += 1;
            // What only its time-out had given up tells nothing about reordering. Above all the
            // first time-out does not, which is a guess.
            if let (Some(answered_at), Some(srtt), true) =
                (acked.answered_at, self.rtt.smoothed(), acked.was_overtaken)
            {
                let late = at.saturating_sub(answered_at).saturating_sub(srtt);
                self.lateness.handle_spurious(late);
            }
        } else {
            self.lateness.handle_ack();
            self.loss.handle_bulk(false);
        }
        self.control
            .on_acked(now, acked.transmission.acked(acked.is_exact, self.began_at));
        Some(acked.answered_at)
    }

    fn handle_una(&mut self, una: u32, now: Instant) -> bool {
        let Self {
            window,
            control,
            began_at,
            loss,
            ..
        } = self;
        window.handle_una(una, |transmission| {
            loss.handle_bulk(false);
            control.on_acked(now, transmission.acked(false, *began_at));
        })
    }

    /// Takes the data of an acknowledgement, which is a map. As with `una`, it is not known when what
    /// it tells of arrived.
    fn handle_map(&mut self, map: &[u8], now: Instant) -> bool {
        let Self {
            window,
            control,
            began_at,
            loss,
            ..
        } = self;
        window.handle_map(map, |transmission| {
            loss.handle_bulk(false);
            control.on_acked(now, transmission.acked(false, *began_at));
        })
    }

    fn handle_push(&mut self, header: Header, data: Bytes) {
        match self.receive.insert(header.sn, data) {
            Insertion::New => {
                if header.len == 0 {
                    let end = (header.sn, End::from_frg(header.frg));
                    self.peer_end.get_or_insert(end);
                }
                self.stats.n_segments_received += 1;
                self.tell.handle_data();
            }
            Insertion::Repeated => self.stats.n_repeats_received += 1,
            Insertion::Beyond => {
                // Without an acknowledgement it is sent again, when there may be room.
                self.stats.n_beyond_window += 1;
                return;
            }
        }
        self.acks.push(Ack {
            sn: header.sn,
            ts: header.ts,
        });
    }

    fn decoder(&mut self) -> &mut Decoder {
        let shards = self.config.fec.unwrap_or(Shards::FRP);
        self.decoder.get_or_insert_with(|| {
            let decoder = Decoder::new(shards, self.config.conv)
                .or_else(|| Decoder::new(Shards::FRP, self.config.conv));
            Box::new(decoder.expect("frp's shard counts have a code"))
        })
    }
}
