//! What the application wants of a session and its streams.

use std::io;
use std::task::{Poll, Waker, ready};
use std::time::Instant;

use bytes::Bytes;

use crate::mux::frame::GO_AWAY_NORMAL;
use crate::mux::stream_state::{Reset, StreamState};
use crate::{CarrierError, Class};

use super::{BACKLOG, DISCARD_GRACE, DISCARD_MAX, LINGER_TIMEOUT, Phase, STREAMS_MAX, Session};

impl Session {
    /// Opens a stream. `Ok(None)` when too many of ours wait to be accepted: ask again when told
    /// to look again.
    pub(crate) fn open(&mut self, now: Instant) -> Result<Option<u32>, CarrierError> {
        if let Some(reason) = &self.closed {
            return Err(reason.clone());
        }
        if self.is_draining {
            return Err(CarrierError::NoStream("the carrier is being drained"));
        }
        if self.is_peer_draining {
            return Err(CarrierError::NoStream("the peer takes no new ones"));
        }
        if self.n_unacked >= BACKLOG || self.streams.len() >= STREAMS_MAX {
            return Ok(None);
        }
        let id = self.next_id;
        let next_id = id.checked_add(2);
        self.next_id = next_id.ok_or(CarrierError::NoStream("the stream ids are used up"))?;
        let mut stream = StreamState::new(now);
        stream.is_unacked = true;
        stream.syn_wanted = true;
        self.n_unacked += 1;
        self.streams.insert(id, Box::new(stream));
        self.want_control(id);
        Ok(Some(id))
    }

    /// Accepts the next stream of the peer, if there is one.
    pub(crate) fn accept(&mut self) -> Result<Option<u32>, CarrierError> {
        while let Some(id) = self.accept_queue.pop_front() {
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            if stream.reset.is_some() {
                // Gone before anybody asked for it.
                stream.is_dropped = true;
                self.forget_if_done(id);
                continue;
            }
            stream.ack_wanted = true;
            self.want_control(id);
            return Ok(Some(id));
        }
        match &self.closed {
            Some(reason) => Err(reason.clone()),
            None => Ok(None),
        }
    }

    /// Takes what has been received on a stream, up to `max` bytes. Empty is the end.
    pub(crate) fn read(&mut self, id: u32, max: usize, waker: &Waker) -> Poll<io::Result<Bytes>> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Poll::Ready(Err(gone(self.closed.as_ref())));
        };
        if let Some(by) = stream.reset {
            return Poll::Ready(Err(reset_error(by)));
        }
        if let Some(chunk) = stream.recv.pop(max) {
            self.n_unread -= chunk.len();
            // A chunk is part of a window, and windows are counted in `u32`.
            stream
                .recv_window
                .consume(u32::try_from(chunk.len()).unwrap_or(u32::MAX));
            if stream.recv_window.is_update_due() && !stream.fin_received {
                self.want_control(id);
            }
            return Poll::Ready(Ok(chunk));
        }
        if stream.fin_received || max == 0 {
            return Poll::Ready(Ok(Bytes::new()));
        }
        if let Some(reason) = &self.closed {
            return Poll::Ready(Err(gone(Some(reason))));
        }
        note(&mut stream.reader, waker);
        Poll::Pending
    }

    /// Takes a prefix of `data` for sending, as much as there is room for.
    pub(crate) fn write(
        &mut self,
        id: u32,
        data: &mut Bytes,
        waker: &Waker,
    ) -> Poll<io::Result<usize>> {
        let len = ready!(self.poll_room(id, waker))?.min(data.len());
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.send.push(data.split_to(len));
        }
        self.n_unsent += len;
        self.want_data(id);
        Poll::Ready(Ok(len))
    }

    /// The same with bytes that have to be copied.
    pub(crate) fn write_copy(
        &mut self,
        id: u32,
        data: &[u8],
        waker: &Waker,
    ) -> Poll<io::Result<usize>> {
        let len = ready!(self.poll_room(id, waker))?.min(data.len());
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.send.push_copy(&data[..len]);
        }
        self.n_unsent += len;
        self.want_data(id);
        Poll::Ready(Ok(len))
    }

    /// Whether what was written will be sent. It is on its way without being asked, so there is
    /// nothing to wait for.
    pub(crate) fn flush(&self, id: u32) -> io::Result<()> {
        let Some(stream) = self.streams.get(&id) else {
            return Err(gone(self.closed.as_ref()));
        };
        match (stream.reset, &self.closed) {
            (Some(by), _) => Err(reset_error(by)),
            (None, Some(reason)) => Err(gone(Some(reason))),
            (None, None) => Ok(()),
        }
    }

    /// Ends the sending half, after what was written.
    pub(crate) fn finish(&mut self, id: u32) -> io::Result<()> {
        if self
            .streams
            .get(&id)
            .is_some_and(|stream| stream.fin_sent && stream.reset.is_none())
        {
            return Ok(());
        }
        self.flush(id)?;
        self.want_fin(id);
        Ok(())
    }

    /// Ends both halves at once.
    pub(crate) fn reset(&mut self, id: u32) {
        self.reset_on_wire(id, Reset::Here);
        if let Some(stream) = self.streams.get_mut(&id) {
            // Also when both ends were through on the wire: nothing more is read.
            stream.reset = Some(Reset::Here);
            self.n_unread -= stream.recv.clear();
        }
    }

    /// The application is through with a stream: what was written is sent, what comes is
    /// discarded.
    pub(crate) fn drop_stream(&mut self, id: u32, now: Instant) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.is_dropped = true;
        stream.reader = None;
        stream.writer = None;
        let n_unread = stream.recv.clear();
        stream.n_discarded += n_unread;
        self.n_unread -= n_unread;
        // A carrier that closes ends its streams in no good order: no end is sent for them.
        if !stream.is_over() && self.phase == Phase::Open {
            self.want_fin(id);
            self.linger(id, now + LINGER_TIMEOUT);
            self.end_discarding(id, now);
        }
        self.forget_if_done(id);
    }

    /// Sets what the stream carries, for the order of sending.
    pub(crate) fn set_class(&mut self, id: u32, class: Class) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.class = class;
        }
    }

    /// Lifts the bounds for strangers.
    pub(crate) fn admit(&mut self) {
        self.is_admitted = true;
    }

    /// Takes no new streams, and ends the carrier after the last one.
    pub(crate) fn drain(&mut self) {
        if self.is_draining || self.phase != Phase::Open {
            return;
        }
        self.is_draining = true;
        self.go_away = Some(GO_AWAY_NORMAL);
        self.effects.transmit = true;
        self.effects.look_again = true;
    }

    /// Ends the carrier, after what was written.
    pub(crate) fn close(&mut self) {
        if self.phase != Phase::Open {
            return;
        }
        self.phase = Phase::Closing;
        self.note_closed(CarrierError::ClosedHere);
        for stream in self.streams.values_mut() {
            self.n_unread -= stream.recv.clear();
        }
        self.accept_queue = std::collections::VecDeque::new();
        self.go_away = Some(GO_AWAY_NORMAL);
    }

    /// Resets a dropped stream before its time if the peer goes on sending on it. The peer has
    /// some time to read our last bytes first.
    pub(super) fn end_discarding(&mut self, id: u32, now: Instant) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        if stream.is_dropped && stream.fin_sent && stream.n_discarded > DISCARD_MAX {
            self.linger(id, now + DISCARD_GRACE);
        }
    }

    /// Bounds how long a dropped stream lives. A bound set before is only ever brought forward.
    fn linger(&mut self, id: u32, until: Instant) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if let Some(at) = stream.linger_until {
            if at <= until {
                return;
            }
            self.lingering.remove(&(at, id));
        }
        stream.linger_until = Some(until);
        self.lingering.insert((until, id));
    }

    fn want_fin(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if stream.fin_wanted || stream.reset.is_some() {
            return;
        }
        stream.fin_wanted = true;
        if stream.send.is_empty() {
            self.want_control(id);
        }
    }

    fn poll_room(&mut self, id: u32, waker: &Waker) -> Poll<io::Result<usize>> {
        self.flush(id)?;
        let Some(stream) = self.streams.get_mut(&id) else {
            return Poll::Ready(Err(gone(None)));
        };
        if stream.fin_wanted {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        match stream.send_room() {
            0 => {
                note(&mut stream.writer, waker);
                Poll::Pending
            }
            room => Poll::Ready(Ok(room)),
        }
    }
}

/// Notes who waits.
fn note(slot: &mut Option<Waker>, waker: &Waker) {
    match slot {
        Some(noted) => noted.clone_from(waker),
        None => *slot = Some(waker.clone()),
    }
}

fn gone(reason: Option<&CarrierError>) -> io::Error {
    let reason = reason.cloned().unwrap_or(CarrierError::ClosedHere);
    io::Error::new(io::ErrorKind::ConnectionAborted, reason)
}

fn reset_error(by: Reset) -> io::Error {
    let text = match by {
        Reset::Here => "the stream was reset on this side",
        Reset::ByPeer => "the stream was reset by the peer",
        Reset::Overfull => "the stream was reset: the carrier holds too much unread data",
    };
    io::Error::new(io::ErrorKind::ConnectionReset, text)
}
