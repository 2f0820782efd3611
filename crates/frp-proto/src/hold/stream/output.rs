//! What a held stream sends.

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::{AttachState, Ending, HeldStream, MAX_COPIED_IN_FLIGHT};
use crate::hold::datagram::{Datagram, MAX_DATA_HEADER_LEN};
use crate::hold::frame::{Attach, AttachStatus, Attached, Frame, put_data_header};
use crate::hold::{CopyPlan, Route, Side};

/// Frames to be written to a carrier's stream, as headers and slices of what was written.
#[derive(Debug, Default)]
pub struct Output {
    chunks: Vec<Bytes>,
    len: usize,
    /// Headers are slices of blocks, so that many share one allocation.
    headers: BytesMut,
    scratch: Vec<u8>,
}

/// How much is allocated for headers at once: some hundred DATA frames.
const HEADER_BLOCK: usize = 2 * 1024;

impl Output {
    /// Takes what is to be written, in this order.
    pub fn take(&mut self) -> std::vec::Drain<'_, Bytes> {
        self.len = 0;
        self.chunks.drain(..)
    }

    /// Bytes that are to be written.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing to be written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn put(&mut self, frame: &Frame) {
        let at = self.chunks.len();
        self.put_header_at(at, |out| frame.put_header(out));
    }

    /// Puts a header in front of the chunks from `at` on.
    fn put_header_at(&mut self, at: usize, put: impl FnOnce(&mut Vec<u8>)) {
        self.scratch.clear();
        put(&mut self.scratch);
        if self.headers.capacity() < self.scratch.len() {
            self.headers = BytesMut::with_capacity(HEADER_BLOCK);
        }
        self.headers.extend_from_slice(&self.scratch);
        self.len += self.scratch.len();
        self.chunks.insert(at, self.headers.split().freeze());
    }
}

impl HeldStream {
    /// Appends what is to be sent on `route` to `out`: about `max` bytes, one frame more at most.
    /// False when there is nothing.
    ///
    /// What is handed out is taken for sent. It must be written whole, or the route given to
    /// [`handle_route_end`](Self::handle_route_end).
    pub fn poll_transmit(
        &mut self,
        route: Route,
        max: usize,
        now: Instant,
        out: &mut Output,
    ) -> bool {
        let before = out.len();
        if self.route() == Some(route) {
            self.put_attachment(out);
            match self.ending {
                Ending::Open => self.put_frames(before.saturating_add(max), now, out),
                Ending::Resetting(code) => {
                    out.put(&Frame::Reset { code });
                    match self.side {
                        Side::Opener => self.ending = Ending::ResetSent(code),
                        Side::Acceptor => self.end(),
                    }
                }
                Ending::GoneDue => {
                    if self.is_complete() {
                        out.put(&Frame::Ack(self.receive.ack()));
                    }
                    out.put(&Frame::Gone);
                    self.end();
                }
                Ending::ResetSent(_) | Ending::Over => {}
            }
        }
        out.len() > before
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) has something for the route in use.
    pub fn wants_transmit(&self, now: Instant) -> bool {
        let Some(current) = self.current else {
            return false;
        };
        match (current.state, self.ending) {
            (AttachState::Asking { .. } | AttachState::Answering, _)
            | (_, Ending::Resetting(_) | Ending::GoneDue) => true,
            (_, Ending::ResetSent(_) | Ending::Over) => false,
            (_, Ending::Open) => {
                self.receive.is_ack_due(now) || (self.may_send_data() && self.send.is_pending())
            }
        }
    }

    /// How many bytes were sent since the last call of [`plan_copies`](Self::plan_copies): none
    /// when so much is under way that it does not look interactive.
    pub fn uncopied(&mut self) -> u64 {
        match self.ending {
            Ending::Open => self.send.uncopied(MAX_COPIED_IN_FLIGHT),
            _ => 0,
        }
    }

    /// Has copies of these bytes made for datagrams of at most `max_len` bytes.
    pub fn plan_copies(&mut self, max_len: usize, plan: CopyPlan, now: Instant) {
        let max = max_len.saturating_sub(MAX_DATA_HEADER_LEN) as u64;
        self.send.plan_copies(max, plan, now);
    }

    /// A datagram of at most `max_len` bytes with a copy that is due, of bytes that were sent and
    /// are not acknowledged.
    pub fn poll_datagram(&mut self, max_len: usize, now: Instant) -> Option<Bytes> {
        if self.ending != Ending::Open || self.current.is_none() {
            return None;
        }
        let max = max_len.saturating_sub(MAX_DATA_HEADER_LEN) as u64;
        let (offset, slices) = self.send.next_copy(max, now)?;
        let mut out = Vec::with_capacity(max_len);
        let datagram = Datagram::Data {
            stream: self.id,
            offset,
            payload: slices.concat().into(),
        };
        datagram.encode(&mut out);
        Some(out.into())
    }

    /// The first frame on a route, once.
    fn put_attachment(&mut self, out: &mut Output) {
        let Some(current) = &mut self.current else {
            return;
        };
        match current.state {
            AttachState::Asking { is_drain } => {
                current.state = AttachState::Asked;
                out.put(&Frame::Attach(Attach {
                    stream: self.id,
                    generation: current.route.generation,
                    is_open: !self.is_known,
                    is_drain,
                    ack: self.receive.ack(),
                }));
            }
            AttachState::Answering => {
                current.state = AttachState::Up;
                out.put(&Frame::Attached(Attached {
                    status: AttachStatus::Ok,
                    generation: current.route.generation,
                    ack: self.receive.ack(),
                }));
            }
            AttachState::Asked | AttachState::Up => {}
        }
    }

    fn put_frames(&mut self, end: usize, now: Instant, out: &mut Output) {
        let has_data = self.may_send_data() && self.send.is_pending();
        // An acknowledgement that waits goes along with data.
        let goes_along = has_data && self.receive.ack_at().is_some();
        if self.receive.is_ack_due(now) || goes_along {
            out.put(&Frame::Ack(self.receive.ack()));
        }
        if !has_data {
            return;
        }
        while out.len() < end {
            let at = out.chunks.len();
            let Some((offset, len)) = self.send.next_data(usize::MAX, &mut out.chunks) else {
                break;
            };
            out.len += len;
            out.put_header_at(at, |header| put_data_header(offset, len, header));
        }
        if let Some(offset) = self.send.next_fin() {
            out.put(&Frame::Fin { offset });
        }
    }

    /// What the peer may have already is not sent again before it has said how far it is. New
    /// bytes need not wait for that, unless others come before them.
    fn may_send_data(&self) -> bool {
        let is_up = self
            .current
            .is_some_and(|current| current.state == AttachState::Up);
        is_up || !self.send.is_resending()
    }
}
