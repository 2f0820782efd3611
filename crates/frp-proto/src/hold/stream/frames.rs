//! What a held stream makes of its peer's frames and datagrams.

use std::time::Instant;

use bytes::Bytes;

use super::{AttachState, Ending, HeldStream, StreamError};
use crate::hold::frame::Frame;
use crate::hold::receive::ReceiveError;
use crate::hold::{Route, Side};

impl HeldStream {
    /// Takes a frame that came on `route`, other than the ATTACH at its front. After an error the
    /// route is to be reset and given to [`handle_route_end`](Self::handle_route_end).
    pub fn handle_frame(
        &mut self,
        route: Route,
        frame: Frame,
        now: Instant,
    ) -> Result<(), StreamError> {
        let current = self.current.filter(|current| current.route == route);
        let is_draining = self.draining.is_some_and(|d| d.route == route);
        match (current, frame) {
            (None, _) if !is_draining => Err(StreamError::LeftRoute),
            (Some(_), Frame::Attached(attached)) => self.handle_attached(&attached, now),
            (Some(current), _) if is_before_answer(current.state) => {
                Err(StreamError::Unexpected("early"))
            }
            (_, Frame::Attach(_)) => Err(StreamError::Unexpected("attach")),
            (_, Frame::Attached(_)) => Err(StreamError::Unexpected("attached")),
            (_, Frame::Data { offset, payload }) => self.handle_data(offset, payload, now),
            (_, Frame::Ack(ack)) => {
                self.check_ack(ack)?;
                self.take_ack(ack, now);
                Ok(())
            }
            (_, Frame::Fin { offset }) => self.handle_fin(offset),
            (_, Frame::Reset { code }) => {
                match (self.side, self.ending) {
                    // It came too late: everything is here, and the reader gets it.
                    (Side::Acceptor, Ending::GoneDue) if self.is_complete() => {}
                    (Side::Acceptor, _) => self.end_by_peer(code, Ending::GoneDue),
                    (Side::Opener, _) => self.end_by_peer(code, Ending::Over),
                }
                Ok(())
            }
            (_, Frame::Gone) => self.handle_gone(),
        }
    }

    /// Takes bytes that came as a datagram, which may be lost, repeated or late. What does not fit
    /// is dropped: it comes as a frame as well. Says whether it brought something to read.
    pub fn handle_datagram(
        &mut self,
        offset: u64,
        payload: Bytes,
        now: Instant,
    ) -> Result<bool, StreamError> {
        let before = self.receive.received();
        match self.handle_data(offset, payload, now) {
            Ok(()) => Ok(self.receive.received() > before),
            Err(StreamError::Receive(ReceiveError::TooManyGaps)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn handle_data(
        &mut self,
        offset: u64,
        payload: Bytes,
        now: Instant,
    ) -> Result<(), StreamError> {
        if self.ending != Ending::Open {
            return Ok(());
        }
        if self.receive.handle_data(offset, payload, now)? {
            self.events.is_readable = true;
            self.check_complete();
        }
        Ok(())
    }

    fn handle_fin(&mut self, offset: u64) -> Result<(), StreamError> {
        if self.ending != Ending::Open {
            return Ok(());
        }
        if self.receive.handle_fin(offset)? {
            self.events.is_readable = true;
            self.check_complete();
        }
        Ok(())
    }

    fn handle_gone(&mut self) -> Result<(), StreamError> {
        let may_come = match self.ending {
            Ending::Open => self.is_complete(),
            Ending::Resetting(_) | Ending::ResetSent(_) | Ending::Over => true,
            Ending::GoneDue => false,
        };
        if self.side != Side::Opener || !may_come {
            return Err(StreamError::Unexpected("gone"));
        }
        self.end();
        Ok(())
    }
}

/// Whether the opener has not had the acceptor's answer, which comes before all else.
fn is_before_answer(state: AttachState) -> bool {
    matches!(state, AttachState::Asking { .. } | AttachState::Asked)
}
