//! What is sent next.

use std::time::Instant;

use crate::mux::batch::Batch;
use crate::mux::frame::{ACK, FIN, HEADER_LEN, Header, Kind, RST, SYN};
use crate::mux::window::first_window;

use super::{GROWTH_MAX, N_CLASSES, Phase, Session};

/// What is handed to the byte stream at once. Enough to fill a system call; little enough that
/// what comes after it, however urgent, does not wait long.
pub(super) const BATCH_LEN: usize = 128 * 1024;

/// What a more urgent class may take of a batch while a less urgent one waits, so that the latter
/// is never shut out.
const URGENT_LEN: usize = BATCH_LEN / 4 * 3;

impl Session {
    /// Fills an empty batch with what is to be sent now: control frames, then data by class.
    pub(crate) fn poll_transmit(&mut self, batch: &mut Batch, now: Instant) {
        if self.phase == Phase::Over {
            return;
        }
        let len = batch.len();
        if !self.has_failed {
            self.send_pings(batch, now);
            self.send_resets(batch);
            self.send_control(batch, now);
            self.send_data(batch, now);
        }
        let is_last = self.phase == Phase::Open || self.has_sent_all();
        if let Some(code) = self.go_away.take_if(|_| is_last) {
            batch.push_header(Header {
                kind: Kind::GoAway,
                flags: 0,
                stream_id: 0,
                len: code,
            });
        }
        self.bytes_sent += (batch.len() - len) as u64;
        if self.phase == Phase::Open && self.is_draining && self.is_idle() {
            // What this batch says last is on its way; then there is nothing left to carry.
            self.close();
            self.go_away = None;
        }
    }

    /// Whether nothing is left that a closing carrier would send.
    pub(crate) fn is_flushed(&self) -> bool {
        self.go_away.is_none() && self.has_sent_all()
    }

    fn has_sent_all(&self) -> bool {
        self.n_unsent == 0 && self.control_queue.is_empty() && self.resets.is_empty()
    }

    fn is_idle(&self) -> bool {
        self.streams.is_empty() && self.has_sent_all() && self.go_away.is_none()
    }

    fn send_pings(&mut self, batch: &mut Batch, now: Instant) {
        let ping = |flags, len| Header {
            kind: Kind::Ping,
            flags,
            stream_id: 0,
            len,
        };
        while let Some(id) = self.health.poll_reply() {
            batch.push_header(ping(ACK, id));
        }
        if let Some(id) = self.health.poll_ping(now) {
            batch.push_header(ping(SYN, id));
        }
    }

    fn send_resets(&mut self, batch: &mut Batch) {
        while batch.len() < BATCH_LEN
            && let Some(stream_id) = self.resets.pop_front()
        {
            batch.push_header(Header {
                kind: Kind::WindowUpdate,
                flags: RST,
                stream_id,
                len: 0,
            });
        }
    }

    fn send_control(&mut self, batch: &mut Batch, now: Instant) {
        while batch.len() < BATCH_LEN
            && let Some(id) = self.control_queue.pop_front()
        {
            self.send_control_of(id, batch, now);
        }
    }

    /// Opens, accepts, raises the window, finishes: what of these is due.
    fn send_control_of(&mut self, id: u32, batch: &mut Batch, now: Instant) {
        let is_admitted = self.is_admitted;
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.in_control_queue = false;
        if stream.is_over() {
            return;
        }
        let mut flags = 0;
        if std::mem::take(&mut stream.syn_wanted) {
            flags |= SYN;
        }
        if std::mem::take(&mut stream.ack_wanted) {
            flags |= ACK;
        }
        let mut update = 0;
        if flags != 0 && is_admitted {
            // Most of the growth is kept for streams that show that they need it.
            let room = (GROWTH_MAX / 4).saturating_sub(self.n_grown);
            let size = first_window(self.health.rtt()).min(self.max_window);
            update = stream.recv_window.grow_to(size, room);
            self.n_grown += update;
        }
        if stream.recv_window.is_update_due() && !stream.fin_received && !stream.is_dropped {
            self.health.want_fresh_rtt(now);
            let max_growth = if is_admitted {
                let of_stream = self.max_window.saturating_sub(stream.recv_window.size());
                of_stream.min(GROWTH_MAX - self.n_grown)
            } else {
                0
            };
            let (owed, growth) = stream
                .recv_window
                .take_update(now, self.health.rtt(), max_growth);
            update += owed;
            self.n_grown += growth;
        }
        if flags != 0 || update != 0 {
            let kind = Kind::WindowUpdate;
            batch.push_header(Header {
                kind,
                flags,
                stream_id: id,
                len: update,
            });
        }
        self.send_fin_if_due(id, batch, now);
    }

    /// The end of a stream goes in a frame of its own: Go's yamux looks at the flags of a data
    /// frame before it has its payload, and would lose the payload.
    fn send_fin_if_due(&mut self, id: u32, batch: &mut Batch, now: Instant) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if !stream.fin_wanted || stream.fin_sent || !stream.send.is_empty() {
            return;
        }
        stream.fin_sent = true;
        batch.push_header(Header {
            kind: Kind::WindowUpdate,
            flags: FIN,
            stream_id: id,
            len: 0,
        });
        self.end_discarding(id, now);
        self.forget_if_done(id);
    }

    fn send_data(&mut self, batch: &mut Batch, now: Instant) {
        let turn_len = self.turn.len(self.bytes_sent, now);
        for class in 0..N_CLASSES {
            let is_last = self.data_queues[class + 1..]
                .iter()
                .all(|queue| queue.is_empty());
            let end = if is_last { BATCH_LEN } else { URGENT_LEN };
            while batch.len() + HEADER_LEN < end
                && let Some(id) = self.data_queues[class].pop_front()
            {
                let is_alone = is_last && self.data_queues[class].is_empty();
                let len_max = end - batch.len() - HEADER_LEN;
                let len_max = if is_alone {
                    len_max
                } else {
                    len_max.min(turn_len)
                };
                self.send_data_of(id, len_max, batch, now);
            }
        }
    }

    /// Sends up to `len_max` bytes of a stream in one frame.
    fn send_data_of(&mut self, id: u32, len_max: usize, batch: &mut Batch, now: Instant) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.in_data_queue = false;
        let len = stream.sendable_len().min(len_max);
        // Not more than the window, which is a `u32`.
        let Ok(frame_len) = u32::try_from(len) else {
            return;
        };
        if frame_len == 0 {
            return;
        }
        stream.send_window -= frame_len;
        self.n_unsent -= len;
        batch.push_header(Header {
            kind: Kind::Data,
            flags: 0,
            stream_id: id,
            len: frame_len,
        });
        let mut rest = len;
        while let Some(chunk) = stream.send.pop(rest) {
            rest -= chunk.len();
            batch.push_payload(chunk);
        }
        if stream.is_writer_due() {
            self.effects.wakes.extend(stream.writer.take());
        }
        self.want_data(id);
        self.send_fin_if_due(id, batch, now);
    }
}
