//! The state machine of one held stream.
//!
//! One route carries the stream at a time: the *current* one. After a planned switch the route
//! before it may be left to *drain*: what was handed to it is still received from it, and nothing
//! is sent there any more. Every other route is dropped.
//!
//! What the opener and the acceptor do differs in three points only: the opener attaches
//! ([`HeldStream::attach`]) and the acceptor answers ([`HeldStream::handle_attach`]); the opener
//! keeps the stream until it knows that the acceptor has what it needs; and the acceptor tells it
//! so with GONE.

mod attach;
mod frames;
mod output;

use std::time::{Duration, Instant};

use bytes::Bytes;
use thiserror::Error;

use super::frame::{AttachStatus, FrameError, ResetCode};
use super::receive::{ReceiveError, ReceiveQueue};
use super::send::SendQueue;
use super::{Budget, CarrierId, Generation, Route, Side};

pub use output::Output;

/// A stream with this much on the way or waiting is bulk: more than an interactive program writes
/// at once, less than a transfer has under way on any path.
pub const BULK_BYTES: u64 = 32 * 1024;

/// Copies go as datagrams only while this much is under way at most: what interactive programs
/// have, and no more than a handful of datagrams.
pub const MAX_COPIED_IN_FLIGHT: u64 = 4 * 1024;

/// A route that needs longer than this, and longer than a round trip, for what it has is not left
/// to drain.
pub const DRAIN_TIME: Duration = Duration::from_millis(250);

/// What a carrier's round trip is taken for until its owner says.
const DEFAULT_RTT: Duration = Duration::from_millis(100);

/// One held stream, at one end.
#[derive(Debug)]
pub struct HeldStream {
    id: u64,
    side: Side,
    send: SendQueue,
    receive: ReceiveQueue,
    /// The highest generation with which it was attached.
    generation: Option<Generation>,
    current: Option<Attachment>,
    draining: Option<Draining>,
    /// Opener: the acceptor knows the stream.
    is_known: bool,
    ending: Ending,
    /// The reader has come to the end, or has nothing more to read since the stream was reset.
    is_read_out: bool,
    rtt: Duration,
    events: Events,
}

/// The route in use.
#[derive(Clone, Copy, Debug)]
struct Attachment {
    route: Route,
    state: AttachState,
    /// Acceptor: the opener has ended its half of the route, and is on its way to another.
    is_peer_finished: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AttachState {
    /// Opener: ATTACH is to be sent, and says whether the route before it drains.
    Asking { is_drain: bool },
    /// Opener: the answer is awaited.
    Asked,
    /// Acceptor: the answer is to be sent.
    Answering,
    /// Both sides know how far the other has received.
    Up,
}

/// The route before the current one, after a planned switch.
#[derive(Clone, Copy, Debug)]
struct Draining {
    route: Route,
    /// What was handed to it ends here.
    end: u64,
    /// After this what is not acknowledged goes on the current route.
    until: Instant,
    /// The peer has nothing more on it.
    is_peer_finished: bool,
}

/// How the stream comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// It has not.
    Open,
    /// This side resets it, and the peer has not been told.
    Resetting(ResetCode),
    /// Opener: the peer was told on the current route, and has not confirmed it.
    ResetSent(ResetCode),
    /// Acceptor: it needs nothing more, and tells the opener so next.
    GoneDue,
    /// The peer needs nothing more.
    Over,
}

/// What the owner is to be told, each kind at most once at a time.
#[derive(Debug, Default)]
struct Events {
    is_readable: bool,
    is_writable: bool,
    /// The last write was refused or cut.
    wants_room: bool,
    reset: Option<ResetCode>,
    /// Routes to be ended, and whether in good order. A switch ends two at most.
    routes: Vec<(Route, bool)>,
}

/// What the owner is told by [`HeldStream::poll_event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer has reset the stream, or has forgotten it. Nothing more is read or written.
    Reset(ResetCode),
    /// There is something to read, or the end.
    Readable,
    /// A write that was refused can be tried again.
    Writable,
    /// Nothing more is sent on this route: shut down its sending half once what
    /// [`HeldStream::poll_transmit`] gave for it is written. It is still to be read.
    FinishRoute(Route),
    /// The stream is done with this route: reset the carrier's stream.
    DropRoute(Route),
}

/// Why a frame or an attachment was refused. The stream is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StreamError {
    /// The bytes are no frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Data that cannot be.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// More was acknowledged than was sent.
    #[error("{received} acknowledged, and {sent} was sent")]
    AckBeyondSent {
        /// As the peer says.
        received: u64,
        /// What was sent; the end counts as one more.
        sent: u64,
    },
    /// An attachment that a later one has overtaken, or that was repeated.
    #[error("generation {found} after {highest}")]
    OldGeneration {
        /// As the peer says.
        found: Generation,
        /// The highest so far.
        highest: Generation,
    },
    /// A frame that this side does not get, or not here.
    #[error("unexpected {0} frame")]
    Unexpected(&'static str),
    /// An attachment of a stream that has ended with a reset.
    #[error("the stream is over")]
    Over,
    /// The stream has left this route. Not the peer's fault: what was on its way may still come.
    #[error("the stream has left this route")]
    LeftRoute,
}

impl StreamError {
    /// Whether the peer broke the protocol, so that it is counted against it. Whatever was
    /// refused, the route that it came on is to be reset, and the stream lives on.
    pub fn is_peers_fault(&self) -> bool {
        match self {
            Self::Frame(_) | Self::AckBeyondSent { .. } | Self::Unexpected(_) => true,
            // Datagrams and a slow route can leave gaps without anybody's fault.
            Self::Receive(error) => *error != ReceiveError::TooManyGaps,
            // A switch can overtake another.
            Self::OldGeneration { .. } | Self::Over | Self::LeftRoute => false,
        }
    }

    /// A short text from a fixed set, to count by.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Frame(error) => error.cause(),
            Self::Receive(ReceiveError::BeyondWindow { .. }) => "beyond the window",
            Self::Receive(ReceiveError::BeyondEnd { .. }) => "beyond the end",
            Self::Receive(ReceiveError::EndMoved { .. }) => "end moved",
            Self::Receive(ReceiveError::TooManyGaps) => "too many gaps",
            Self::AckBeyondSent { .. } => "acknowledged more than was sent",
            Self::OldGeneration { .. } => "old generation",
            Self::Unexpected(_) => "unexpected frame",
            Self::Over => "stream is over",
            Self::LeftRoute => "left route",
        }
    }

    /// What a peer is answered whose attachment was refused for this.
    pub fn attach_status(&self) -> AttachStatus {
        match self {
            Self::OldGeneration { .. } => AttachStatus::OldGeneration,
            _ => AttachStatus::UnknownStream,
        }
    }
}

impl HeldStream {
    /// A new stream that this side opens. It goes nowhere until it is attached.
    pub fn open(id: u64, budget: &Budget) -> Self {
        Self::new(id, Side::Opener, budget)
    }

    /// A new stream that the peer opens with an ATTACH, which goes to
    /// [`handle_attach`](Self::handle_attach) next.
    pub fn accept(id: u64, budget: &Budget) -> Self {
        Self::new(id, Side::Acceptor, budget)
    }

    /// A new stream on a carrier's stream that both sides know to carry it, without an ATTACH: the
    /// control stream goes on as a held stream right behind `LoginResp`.
    pub fn on_route(id: u64, side: Side, route: Route, budget: &Budget) -> Self {
        Self {
            generation: Some(route.generation),
            current: Some(Attachment {
                route,
                state: AttachState::Up,
                is_peer_finished: false,
            }),
            is_known: true,
            ..Self::new(id, side, budget)
        }
    }

    /// Takes a prefix of `bytes` for the peer, and returns how much. With 0 there is no room until
    /// [`Event::Writable`], or the stream is at its end.
    pub fn write(&mut self, bytes: &mut Bytes) -> usize {
        if self.ending != Ending::Open || self.send.is_finished() {
            return 0;
        }
        let n = self.send.write(bytes);
        self.events.wants_room = !bytes.is_empty();
        n
    }

    /// Ends this side's direction: the peer reads the end after all that was written.
    pub fn finish(&mut self) {
        self.send.finish();
    }

    /// Takes up to `max` received bytes. Without any, [`is_read_to_end`](Self::is_read_to_end)
    /// says whether this is the end.
    pub fn read(&mut self, max: usize, now: Instant) -> Option<Bytes> {
        let bytes = self.receive.read(max, self.rtt, now);
        self.is_read_out |= self.receive.is_finished();
        bytes
    }

    /// Ends both directions at once, and drops what has not been sent or read.
    pub fn reset(&mut self, code: ResetCode) {
        if self.ending != Ending::Open {
            // What is left is what the reader has not read.
            self.receive.clear();
            self.is_read_out = true;
            return;
        }
        self.clear();
        let is_unheard_of = self.side == Side::Opener && self.generation.is_none();
        // An acceptor without a route tells the opener when it comes back: it knows no such stream.
        let is_alone = self.side == Side::Acceptor && self.current.is_none();
        if is_unheard_of || is_alone {
            self.end();
        } else {
            self.ending = Ending::Resetting(code);
        }
    }

    /// Gives back memory that only a busy stream needs. For when nothing is due.
    pub fn rest(&mut self) {
        self.send.rest();
        self.receive.rest();
    }

    /// Sets the round-trip time of the carrier in use: the shortest of late, since a full queue
    /// in between is no reason to fill it further.
    pub fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = rtt;
    }

    /// Takes a timeout. Too early does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.draining.is_some_and(|draining| draining.until <= now) {
            self.stop_draining();
        }
        self.receive.handle_timeout(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout), [`poll_transmit`](Self::poll_transmit) and
    /// [`poll_datagram`](Self::poll_datagram) are to be called again, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timeouts().min()
    }

    /// The same for an owner that has just called them: what was due by `now` and did not happen
    /// waits for room, and must not hide what is due later.
    pub fn next_timeout(&self, now: Instant) -> Option<Instant> {
        self.timeouts().filter(|at| *at > now).min()
    }

    /// Takes what the owner has to do next.
    pub fn poll_event(&mut self) -> Option<Event> {
        let events = &mut self.events;
        if let Some((route, is_orderly)) = events.routes.pop() {
            return Some(if is_orderly {
                Event::FinishRoute(route)
            } else {
                Event::DropRoute(route)
            });
        }
        if let Some(code) = events.reset.take() {
            return Some(Event::Reset(code));
        }
        if std::mem::take(&mut events.is_readable) {
            return Some(Event::Readable);
        }
        if std::mem::take(&mut events.is_writable) {
            return Some(Event::Writable);
        }
        // Routes come in twos, and not often.
        events.routes = Vec::new();
        None
    }

    /// The stream's number in its session.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Which side opened it.
    pub fn side(&self) -> Side {
        self.side
    }

    /// The route in use.
    pub fn route(&self) -> Option<Route> {
        self.current.map(|current| current.route)
    }

    /// The carrier of the route in use.
    pub fn carrier(&self) -> Option<CarrierId> {
        self.route().map(|route| route.carrier)
    }

    /// Whether the opener has to attach the stream: it has no route, and the peer still needs it,
    /// or may.
    pub fn wants_route(&self) -> bool {
        self.side == Side::Opener && self.current.is_none() && self.ending != Ending::Over
    }

    /// Whether the stream can be forgotten: the peer needs nothing more of it, the reader has come
    /// to the end, and all events are polled.
    pub fn is_over(&self) -> bool {
        self.ending == Ending::Over && self.is_read_out && self.events.is_empty()
    }

    /// Whether [`read`](Self::read) would give something.
    pub fn is_readable(&self) -> bool {
        self.receive.is_readable()
    }

    /// Whether everything that the peer wrote has been read, and it wrote the end.
    pub fn is_read_to_end(&self) -> bool {
        self.receive.is_finished()
    }

    /// Whether this side's direction is ended, or the stream reset: nothing more is written.
    pub fn is_finished(&self) -> bool {
        self.send.is_finished()
    }

    /// Whether all that was written has been acknowledged, with the end.
    pub fn is_sent_to_end(&self) -> bool {
        self.send.is_complete()
    }

    /// Whether the stream has more under way or waiting than an interactive one.
    pub fn is_bulk(&self) -> bool {
        self.send.kept() > BULK_BYTES
    }

    /// Bytes kept in both directions.
    pub fn kept(&self) -> u64 {
        self.send.kept() + self.receive.kept()
    }

    /// Bytes that wait to be sent or acknowledged.
    pub fn unacknowledged(&self) -> u64 {
        self.send.kept()
    }

    /// How long the path would need for these, as it went lately; `None` when nothing is known of
    /// it.
    pub fn time_to_send(&self) -> Option<Duration> {
        self.send.time_for_kept()
    }

    /// How many bytes were sent again since the beginning.
    pub fn resent(&self) -> u64 {
        self.send.resent()
    }

    /// Whether [`write`](Self::write) would take something.
    pub fn is_writable(&self) -> bool {
        self.ending == Ending::Open && !self.send.is_finished() && self.send.has_room()
    }

    fn timeouts(&self) -> impl Iterator<Item = Instant> {
        let drained = self.draining.map(|draining| draining.until);
        let ack = self.receive.ack_at().filter(|_| self.current.is_some());
        let may_copy = self.current.is_some() && self.ending == Ending::Open;
        let copy = self.send.copy_at().filter(|_| may_copy);
        let idle = self.receive.idle_at();
        [drained, ack, copy, idle].into_iter().flatten()
    }

    fn new(id: u64, side: Side, budget: &Budget) -> Self {
        Self {
            id,
            side,
            send: SendQueue::new(budget.clone()),
            receive: ReceiveQueue::new(budget.clone()),
            generation: None,
            current: None,
            draining: None,
            is_known: side == Side::Acceptor,
            ending: Ending::Open,
            is_read_out: false,
            rtt: DEFAULT_RTT,
            events: Events::default(),
        }
    }

    /// The peer is done with the stream, in good order or not.
    fn end_by_peer(&mut self, code: ResetCode, ending: Ending) {
        if self.ending == Ending::Open {
            self.events.reset = Some(code);
        }
        self.clear();
        match ending {
            Ending::Over => self.end(),
            ending => self.ending = ending,
        }
    }

    /// The peer needs nothing more, and no route is needed.
    fn end(&mut self) {
        self.ending = Ending::Over;
        if let Some(current) = self.current.take() {
            self.events.finish_route(current.route);
        }
        if let Some(draining) = self.draining.take() {
            self.events.drop_route(draining.route);
        }
    }

    fn clear(&mut self) {
        self.send.clear();
        self.receive.clear();
        self.is_read_out = true;
        self.events.wants_room = false;
    }

    /// Whether this side has received everything and knows that the peer has.
    fn is_complete(&self) -> bool {
        self.send.is_complete() && self.receive.is_complete()
    }
}

impl Events {
    fn is_empty(&self) -> bool {
        self.reset.is_none() && self.routes.is_empty()
    }

    fn drop_route(&mut self, route: Route) {
        self.routes.insert(0, (route, false));
    }

    fn finish_route(&mut self, route: Route) {
        self.routes.insert(0, (route, true));
    }
}

#[cfg(test)]
mod tests;
