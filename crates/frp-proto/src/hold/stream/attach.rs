//! How a held stream comes to a route, and what becomes of the route before it.

use std::time::Instant;

use super::{AttachState, Attachment, DRAIN_TIME, Draining, Ending, HeldStream, StreamError};
use crate::hold::frame::{Ack, Attach, AttachStatus, Attached, ResetCode};
use crate::hold::receive::ACK_DELAY;
use crate::hold::{Route, Side};

impl HeldStream {
    /// Opener: goes on on `route`, a stream of a carrier on which nothing was sent yet. The first
    /// thing that [`poll_transmit`](Self::poll_transmit) gives for it is ATTACH.
    ///
    /// `is_planned` says that the route before it still works. Then it is left to drain, if that
    /// takes no longer than [`DRAIN_TIME`] or a round trip; else it is dropped, and what the peer
    /// does not have goes again.
    ///
    /// # Panics
    ///
    /// When this side is not the opener, or the generation is not the highest so far.
    pub fn attach(&mut self, route: Route, is_planned: bool, now: Instant) {
        assert_eq!(self.side, Side::Opener, "the opener attaches a stream");
        assert!(
            self.generation < Some(route.generation),
            "generations of a stream rise"
        );
        if self.ending == Ending::Over {
            self.events.drop_route(route);
            return;
        }
        if let Ending::ResetSent(code) = self.ending {
            // It may have been lost with the route.
            self.ending = Ending::Resetting(code);
        }
        self.generation = Some(route.generation);
        let is_drain = self.leave_current(is_planned, now);
        self.current = Some(Attachment {
            route,
            state: AttachState::Asking { is_drain },
            is_peer_finished: false,
        });
    }

    /// Acceptor: the opener goes on on `route`. The answer is what
    /// [`poll_transmit`](Self::poll_transmit) gives for it first; if the attachment is refused,
    /// the owner answers with [`StreamError::attach_status`].
    pub fn handle_attach(
        &mut self,
        route: Route,
        attach: &Attach,
        now: Instant,
    ) -> Result<(), StreamError> {
        if self.side != Side::Acceptor {
            return Err(StreamError::Unexpected("attach"));
        }
        let (found, highest) = (attach.generation, self.generation);
        if let Some(highest) = highest.filter(|highest| found <= *highest) {
            return Err(StreamError::OldGeneration { found, highest });
        }
        if self.ending == Ending::Over && !self.is_complete() {
            return Err(StreamError::Over);
        }
        self.check_ack(attach.ack)?;

        self.generation = Some(found);
        self.leave_current(attach.is_drain, now);
        self.current = Some(Attachment {
            route,
            state: AttachState::Answering,
            is_peer_finished: false,
        });
        if self.ending == Ending::Over {
            self.ending = Ending::GoneDue;
        }
        self.take_ack(attach.ack, now);
        Ok(())
    }

    /// Nothing more comes on `route`: its stream was reset, its carrier is gone, or, when
    /// `is_orderly`, the peer has ended its sending half.
    pub fn handle_route_end(&mut self, route: Route, is_orderly: bool) {
        if let Some(draining) = self.draining.as_mut().filter(|d| d.route == route) {
            if is_orderly {
                draining.is_peer_finished = true;
                self.end_drained();
            } else {
                self.stop_draining();
            }
        }
        if let Some(current) = self.current.as_mut().filter(|c| c.route == route) {
            if is_orderly && self.side == Side::Acceptor {
                // The end of the old route can overtake the ATTACH on the new one. What is under
                // way to the opener still arrives.
                current.is_peer_finished = true;
            } else {
                self.lose_current();
            }
        }
    }

    /// Opener: the acceptor has answered.
    pub(super) fn handle_attached(
        &mut self,
        attached: &Attached,
        now: Instant,
    ) -> Result<(), StreamError> {
        let Some(current) = self
            .current
            .as_mut()
            .filter(|current| current.state == AttachState::Asked)
        else {
            return Err(StreamError::Unexpected("attached"));
        };
        match attached.status {
            AttachStatus::Ok if attached.generation != current.route.generation => {
                Err(StreamError::Unexpected("attached"))
            }
            AttachStatus::Ok => {
                let ack = attached.ack;
                current.state = AttachState::Up;
                if let Err(error) = self.check_ack(ack) {
                    self.lose_current();
                    return Err(error);
                }
                self.is_known = true;
                self.take_ack(ack, now);
                Ok(())
            }
            // A switch has overtaken this one on the way, or the carrier has died for the acceptor.
            AttachStatus::OldGeneration | AttachStatus::NotJoined => {
                self.lose_current();
                Ok(())
            }
            AttachStatus::UnknownStream => {
                self.handle_forgotten();
                Ok(())
            }
            AttachStatus::TooManyStreams => {
                self.end_by_peer(ResetCode::TOO_MANY, Ending::Over);
                Ok(())
            }
        }
    }

    /// Refuses what the peer cannot have received.
    pub(super) fn check_ack(&self, ack: Ack) -> Result<(), StreamError> {
        let sent = self.send.highest_ack();
        if ack.received > sent {
            return Err(StreamError::AckBeyondSent {
                received: ack.received,
                sent,
            });
        }
        Ok(())
    }

    pub(super) fn take_ack(&mut self, ack: Ack, now: Instant) {
        self.send.handle_ack(ack, self.rtt, now);
        if self.events.wants_room && self.is_writable() {
            self.events.wants_room = false;
            self.events.is_writable = true;
        }
        self.end_drained();
        self.check_complete();
    }

    /// Acceptor: once it needs nothing more, it says so.
    pub(super) fn check_complete(&mut self) {
        if self.side == Side::Acceptor && self.ending == Ending::Open && self.is_complete() {
            if self.current.is_some() {
                self.ending = Ending::GoneDue;
            } else {
                // An opener that comes back finds no such stream, and knows by that.
                self.end();
            }
        }
    }

    /// What was handed to the route before has not arrived in time, or never will.
    pub(super) fn stop_draining(&mut self) {
        let Some(draining) = self.draining.take() else {
            return;
        };
        self.events.drop_route(draining.route);
        if self.send.is_missing(draining.end) {
            self.send.rewind(Some(draining.end));
        }
    }

    /// The acceptor has forgotten the stream. That is how it should be when both directions were
    /// at their end.
    fn handle_forgotten(&mut self) {
        let has_all = self.receive.is_complete() && self.send.was_fin_sent();
        if self.ending == Ending::Open && !has_all {
            self.end_by_peer(ResetCode::FORGOTTEN, Ending::Over);
        } else {
            self.send.clear();
            self.end();
        }
    }

    /// Leaves the current route, if there is one, and returns whether it is left to drain.
    fn leave_current(&mut self, may_drain: bool, now: Instant) -> bool {
        let Some(current) = self.current.take() else {
            self.stop_draining();
            self.send.rewind(None);
            return false;
        };
        let longest = DRAIN_TIME.max(self.rtt);
        let drains = may_drain
            && current.state == AttachState::Up
            && self.draining.is_none()
            && !self.send.is_resending()
            && self.send.time_to_drain() <= longest;
        if drains {
            self.events.finish_route(current.route);
            self.draining = Some(Draining {
                route: current.route,
                end: self.send.sent(),
                // And the way back of the acknowledgement, which may wait.
                until: now + longest + self.rtt + ACK_DELAY,
                is_peer_finished: current.is_peer_finished,
            });
        } else {
            self.events.drop_route(current.route);
            self.stop_draining();
            self.send.rewind(None);
        }
        drains
    }

    fn lose_current(&mut self) {
        let Some(current) = self.current.take() else {
            return;
        };
        self.events.drop_route(current.route);
        self.stop_draining();
        match self.ending {
            Ending::ResetSent(code) => self.ending = Ending::Resetting(code),
            Ending::GoneDue => self.end(),
            // An opener that comes back finds no such stream.
            Ending::Resetting(_) if self.side == Side::Acceptor => self.end(),
            Ending::Open | Ending::Resetting(_) | Ending::Over => {}
        }
    }

    /// Forgets the route before once it has nothing more in either direction.
    fn end_drained(&mut self) {
        let send = &self.send;
        self.draining
            .take_if(|draining| draining.is_peer_finished && !send.is_missing(draining.end));
    }
}
