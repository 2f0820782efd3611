//! What comes from the peer.

use std::time::Instant;

use bytes::{Buf, BytesMut};

use crate::CarrierError;
use crate::mux::Role;
use crate::mux::frame::{
    ACK, FIN, GO_AWAY_NORMAL, GO_AWAY_PROTOCOL, HEADER_LEN, Header, Kind, RST, SYN, Violation,
};
use crate::mux::seen_ids::Sighting;
use crate::mux::stream_state::{Reset, StreamState};

use super::{BACKLOG, Phase, REFUSALS_MAX, STRANGER_STREAMS, STREAMS_MAX, Session};

/// The payload that is under way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Payload {
    /// The stream that it belongs to.
    stream_id: u32,
    /// What is still to come of it.
    len: u32,
    /// The peer sends nothing after it.
    is_last: bool,
}

impl Session {
    /// Takes what came. What is left in `buf` is the start of a header. A violation ends the
    /// carrier: the peer is told, and streams can still read what they have.
    pub(crate) fn handle_bytes(&mut self, buf: &mut BytesMut, now: Instant) {
        if self.phase == Phase::Over || self.has_failed {
            buf.clear();
            return;
        }
        if !buf.is_empty() {
            self.health.handle_life(now);
        }
        let len = buf.len();
        let result = self.handle_frames(buf, now);
        self.bytes_received += (len - buf.len()) as u64;
        if let Err(violation) = result {
            buf.clear();
            self.fail(violation);
        }
    }

    /// The peer sends no more bytes. `has_rest`: the last ones are not a whole header.
    pub(crate) fn handle_eof(&mut self, has_rest: bool) {
        self.end(if has_rest || self.payload.len > 0 {
            CarrierError::Lost("the byte stream ended inside a frame".into())
        } else {
            CarrierError::ClosedByPeer
        });
    }

    /// The byte stream broke. After the peer's word that it closes this is no news.
    pub(crate) fn handle_io_error(&mut self, error: &std::io::Error) {
        self.end(if self.is_peer_draining && self.payload.len == 0 {
            CarrierError::ClosedByPeer
        } else {
            CarrierError::Lost(error.to_string())
        });
    }

    fn handle_frames(&mut self, buf: &mut BytesMut, now: Instant) -> Result<(), Violation> {
        loop {
            if self.payload.len > 0 {
                if buf.is_empty() {
                    return Ok(());
                }
                self.handle_payload(buf, now);
                continue;
            }
            let Some(bytes) = buf.first_chunk::<HEADER_LEN>() else {
                return Ok(());
            };
            let header = Header::decode(*bytes)?;
            buf.advance(HEADER_LEN);
            match header.kind {
                Kind::Data | Kind::WindowUpdate => self.handle_stream_frame(header, now)?,
                Kind::Ping if header.has(SYN) => self.health.handle_ping(header.len),
                Kind::Ping => self.health.handle_pong(header.len, now),
                Kind::GoAway if header.len == GO_AWAY_NORMAL => {
                    self.is_peer_draining = true;
                    self.effects.look_again = true;
                }
                Kind::GoAway => return Err(Violation::EndedByPeer(header.len)),
            }
        }
    }

    fn handle_stream_frame(&mut self, header: Header, now: Instant) -> Result<(), Violation> {
        let id = header.stream_id;
        if header.has(SYN) {
            self.handle_syn(id, now)?;
        }
        let is_data = header.kind == Kind::Data;
        if is_data {
            let is_last = header.has(FIN);
            self.payload = Payload {
                stream_id: id,
                len: header.len,
                is_last,
            };
        }
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.is_over()) else {
            // Over here a moment ago, or never heard of: a payload is skipped as it comes.
            return Ok(());
        };
        if header.has(FIN) && stream.fin_received {
            return Err(Violation::SecondFin(id));
        }
        if is_data {
            stream.recv_window.handle_data(id, header.len)?;
        } else {
            let raised = stream.send_window.checked_add(header.len);
            stream.send_window = raised.ok_or(Violation::WindowOverflow(id))?;
            if stream.is_writer_due() {
                self.effects.wakes.extend(stream.writer.take());
            }
            self.want_data(id);
        }
        if header.has(ACK) {
            self.note_acked(id);
        }
        if header.has(RST) {
            self.note_reset(id, Reset::ByPeer);
            self.forget_if_done(id);
        } else if header.has(FIN) && self.payload.len == 0 {
            self.handle_fin(id);
        }
        Ok(())
    }

    /// The peer opens a stream. One that cannot be had is refused; an id that is not the peer's
    /// to use is a violation.
    fn handle_syn(&mut self, id: u32, now: Instant) -> Result<(), Violation> {
        let is_peers = match self.role {
            Role::Client => id != 0 && id.is_multiple_of(2),
            Role::Server => !id.is_multiple_of(2),
        };
        if !is_peers {
            return Err(Violation::WrongParity(id));
        }
        let is_refused = match self.seen_ids.note(id) {
            Sighting::New => {
                let streams_max = if self.is_admitted {
                    STREAMS_MAX
                } else {
                    STRANGER_STREAMS
                };
                self.phase != Phase::Open
                    || self.is_draining
                    || self.accept_queue.len() >= BACKLOG
                    || self.streams.len() >= streams_max
            }
            Sighting::Seen => return Err(Violation::ReusedId(id)),
            Sighting::TooOld if self.streams.contains_key(&id) => {
                return Err(Violation::ReusedId(id));
            }
            Sighting::TooOld => true,
        };
        if is_refused {
            if self.resets.len() >= REFUSALS_MAX {
                return Err(Violation::RefusalsUnread);
            }
            self.resets.push_back(id);
            return Ok(());
        }
        self.streams.insert(id, Box::new(StreamState::new(now)));
        self.accept_queue.push_back(id);
        self.effects.n_accepted += 1;
        Ok(())
    }

    /// Hands on as much of a payload as is there.
    fn handle_payload(&mut self, buf: &mut BytesMut, now: Instant) {
        let id = self.payload.stream_id;
        let len = buf.len().min(self.payload.len as usize);
        // Not more than what is to come, so it fits.
        self.payload.len -= u32::try_from(len).unwrap_or(u32::MAX);
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.is_over()) else {
            buf.advance(len);
            return;
        };
        if stream.is_dropped || stream.fin_received || self.phase != Phase::Open {
            // Go's yamux may send a last frame after its FIN.
            buf.advance(len);
            stream.n_discarded += len;
            self.end_discarding(id, now);
        } else if self.n_unread + len > self.max_unread {
            buf.advance(len);
            self.reset_on_wire(id, Reset::Overfull);
            return;
        } else {
            self.n_unread += len;
            if self.is_admitted {
                stream.recv.push(buf.split_to(len).freeze());
            } else {
                // A stranger pins no buffers.
                stream.recv.push_copy(&buf[..len]);
                buf.advance(len);
            }
            self.effects.wakes.extend(stream.reader.take());
        }
        if self.payload.len == 0 && self.payload.is_last {
            self.handle_fin(id);
        }
    }

    /// The peer sends no more on a stream.
    fn handle_fin(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.fin_received = true;
        self.effects.wakes.extend(stream.reader.take());
        self.forget_if_done(id);
    }

    fn fail(&mut self, violation: Violation) {
        self.end(CarrierError::Protocol(violation.to_string()));
        self.has_failed = true;
        if !matches!(violation, Violation::EndedByPeer(_)) {
            // The peer is told, and then the carrier is over.
            self.phase = Phase::Closing;
            self.go_away = Some(GO_AWAY_PROTOCOL);
        }
    }
}
