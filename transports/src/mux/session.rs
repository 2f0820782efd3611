//! One end of a multiplexed carrier, on paper.
//!
//! The session is told what came from the peer (`inbound`), what the application wants (`verbs`)
//! and what time it is; it answers with the frames to send next (`outbound`) and with whom to
//! wake. It does no input or output and knows no clock, so that two of them can be run against
//! each other by the thousand.

mod fuzz;
mod inbound;
mod outbound;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
mod verbs;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::{CarrierError, Class};

use super::health::Health;
use super::seen_ids::SeenIds;
use super::stream_state::{Reset, StreamState};
use super::turn::Turn;
use super::{MuxConfig, Role};

pub(crate) use fuzz::fuzz;
use inbound::Payload;

/// Streams that wait to be accepted, and streams of ours that wait to be accepted by the peer.
/// frp's number; more incoming ones are refused, more outgoing ones wait.
pub(super) const BACKLOG: usize = 256;

/// Streams of a peer that has not been admitted: its login needs one.
pub(super) const STRANGER_STREAMS: usize = 4;

/// Streams of one carrier, those included that only wait for the peer's end. Bounds the memory
/// for streams; a proxy with more open connections than this has run out of ports before.
pub(super) const STREAMS_MAX: usize = 64 * 1024;

/// What the windows of all streams together may grow beyond their initial size. Ten streams at
/// frp's largest window; with more of them each needs less.
pub(super) const GROWTH_MAX: u32 = 64 * 1024 * 1024;

/// Refusals of streams that wait to be sent. A peer that goes on opening while it reads none of
/// them is not after streams.
pub(super) const REFUSALS_MAX: usize = 4 * 1024;

/// How long a dropped stream waits for the peer's end. The same as in frp's yamux.
pub(super) const LINGER_TIMEOUT: Duration = Duration::from_secs(300);

/// What a peer may go on sending on a dropped stream before it is told by a reset.
pub(super) const DISCARD_MAX: usize = 64 * 1024;

/// How long a peer that sends more than that has to read our last bytes before the reset, which
/// may cost it what it has not read.
pub(super) const DISCARD_GRACE: Duration = Duration::from_secs(10);

/// One end of a carrier.
#[derive(Debug)]
pub(super) struct Session {
    role: Role,
    max_window: u32,
    max_unread: usize,
    phase: Phase,
    is_admitted: bool,
    /// We take no new streams.
    is_draining: bool,
    /// The peer takes no new streams.
    is_peer_draining: bool,
    /// Why the carrier ended. The applications' view: the phase may still be `Closing`.
    closed: Option<CarrierError>,
    streams: HashMap<u32, Box<StreamState>>,
    next_id: u32,
    seen_ids: SeenIds,
    accept_queue: VecDeque<u32>,
    n_unacked: usize,
    /// Bytes received and not read, of all streams.
    n_unread: usize,
    /// Bytes queued for sending, of all streams.
    n_unsent: usize,
    /// By how much all windows have grown.
    n_grown: u32,
    payload: Payload,
    /// The peer has broken the protocol: nothing it sends is looked at.
    has_failed: bool,
    health: Health,
    /// Streams with a control frame to send; each stands here at most once.
    control_queue: VecDeque<u32>,
    /// Streams with data to send and a window for it, by class; each stands here at most once.
    data_queues: [VecDeque<u32>; N_CLASSES],
    /// Streams to be refused or reset.
    resets: VecDeque<u32>,
    go_away: Option<u32>,
    /// Deadlines of dropped streams.
    lingering: BTreeSet<(Instant, u32)>,
    effects: Effects,
    turn: Turn,
    bytes_sent: u64,
    bytes_received: u64,
}

/// How far the carrier is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Sends what was written, then the end.
    Closing,
    /// Nothing more is sent or received.
    Over,
}

/// What the caller has to do once it has let go of the session.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Readers and writers that can go on.
    pub(super) wakes: Vec<Waker>,
    /// Streams that can be accepted now.
    pub(super) n_accepted: usize,
    /// Somebody who waits to open a stream, or to accept one, should look again.
    pub(super) look_again: bool,
    /// There is something to transmit.
    pub(super) transmit: bool,
    /// The carrier has ended; this is told once.
    pub(super) ended: Option<CarrierError>,
}

/// What is going on, for path statistics.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    pub(super) rtt: Option<Duration>,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
    pub(super) n_streams: usize,
}

impl Session {
    /// A session with nothing in it. A stranger is held to the bounds for strangers until
    /// [`Self::admit`].
    pub(super) fn new(role: Role, config: &MuxConfig, is_stranger: bool, now: Instant) -> Self {
        Self {
            role,
            max_window: config.max_window,
            max_unread: config.max_unread,
            phase: Phase::Open,
            is_admitted: !is_stranger,
            is_draining: false,
            is_peer_draining: false,
            closed: None,
            streams: HashMap::new(),
            next_id: match role {
                Role::Client => 1,
                Role::Server => 2,
            },
            seen_ids: SeenIds::new(),
            accept_queue: VecDeque::new(),
            n_unacked: 0,
            n_unread: 0,
            n_unsent: 0,
            n_grown: 0,
            payload: Payload::default(),
            has_failed: false,
            health: Health::new(config.keepalive_interval, config.keepalive_timeout, now),
            control_queue: VecDeque::new(),
            data_queues: Default::default(),
            resets: VecDeque::new(),
            go_away: None,
            lingering: BTreeSet::new(),
            effects: Effects::default(),
            turn: Turn::new(now),
            bytes_sent: 0,
            bytes_received: 0,
        }
    }

    /// The time has come that [`Self::poll_timeout`] named, or any other time.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.lingering.first() {
            if at > now {
                break;
            }
            self.lingering.pop_first();
            self.reset_on_wire(id, Reset::Here);
            self.forget_if_done(id);
        }
        self.health.handle_timeout(now);
        if self.phase == Phase::Open && self.health.is_silent(now) {
            self.end(CarrierError::Silent(self.health.timeout()));
        }
    }

    /// Others look after the peer's life from here on.
    pub(super) fn stop_asking(&mut self, now: Instant) {
        self.health.stop_asking(now);
    }

    /// When [`Self::handle_timeout`] wants to be called next. `is_blocked`: the byte stream takes
    /// nothing at the moment.
    pub(super) fn poll_timeout(&self, is_blocked: bool) -> Instant {
        let at = self.health.poll_timeout(is_blocked);
        self.lingering
            .first()
            .map_or(at, |&(linger_at, _)| at.min(linger_at))
    }

    /// Ends the carrier at once: nothing more is sent or received. What was received can still
    /// be read. The first reason given stays.
    pub(super) fn end(&mut self, reason: CarrierError) {
        if self.phase == Phase::Over {
            return;
        }
        self.phase = Phase::Over;
        self.note_closed(reason);
        for stream in self.streams.values_mut() {
            stream.send.clear();
        }
        self.streams.retain(|_, stream| !stream.is_dropped);
        self.n_unsent = 0;
        self.control_queue = VecDeque::new();
        self.data_queues = Default::default();
        self.resets = VecDeque::new();
        self.lingering = BTreeSet::new();
    }

    /// What to do once the session is let go of.
    pub(super) fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn is_admitted(&self) -> bool {
        self.is_admitted
    }

    pub(super) fn figures(&self) -> Figures {
        Figures {
            rtt: self.health.rtt(),
            bytes_sent: self.bytes_sent,
            bytes_received: self.bytes_received,
            n_streams: self.streams.len(),
        }
    }

    /// Tells everybody that the carrier has ended.
    fn note_closed(&mut self, reason: CarrierError) {
        if self.closed.is_some() {
            return;
        }
        self.closed = Some(reason.clone());
        self.effects.ended = Some(reason);
        self.effects.transmit = true;
        for stream in self.streams.values_mut() {
            self.effects.wakes.extend(stream.reader.take());
            self.effects.wakes.extend(stream.writer.take());
        }
    }

    /// Puts a stream into the queue for control frames.
    fn want_control(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if !stream.in_control_queue {
            stream.in_control_queue = true;
            self.control_queue.push_back(id);
        }
        self.effects.transmit = true;
    }

    /// Puts a stream into the queue for data, if it has some and may send it.
    fn want_data(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if !stream.in_data_queue && stream.sendable_len() > 0 {
            stream.in_data_queue = true;
            self.data_queues[class_idx(stream.class)].push_back(id);
            self.effects.transmit = true;
        }
    }

    /// Ends a stream in both directions, and tells the peer if it knows of the stream.
    fn reset_on_wire(&mut self, id: u32, by: Reset) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if stream.is_over() {
            return;
        }
        if !stream.syn_wanted {
            self.resets.push_back(id);
            self.effects.transmit = true;
        }
        self.note_reset(id, by);
    }

    /// Ends a stream in both directions at this end.
    fn note_reset(&mut self, id: u32, by: Reset) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.reset = Some(by);
        self.n_unread -= stream.recv.clear();
        self.n_unsent -= stream.send.clear();
        self.effects.wakes.extend(stream.reader.take());
        self.effects.wakes.extend(stream.writer.take());
        self.note_acked(id);
    }

    /// A stream of ours no longer waits to be accepted.
    fn note_acked(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if std::mem::take(&mut stream.is_unacked) {
            self.n_unacked -= 1;
            self.effects.look_again = true;
        }
    }

    /// Forgets a stream that nobody at either end has business with any more.
    fn forget_if_done(&mut self, id: u32) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        if !stream.is_dropped || !(stream.is_over() || self.phase == Phase::Over) {
            return;
        }
        self.note_acked(id);
        let Some(stream) = self.streams.remove(&id) else {
            return;
        };
        self.n_unread -= stream.recv.len();
        self.n_unsent -= stream.send.len();
        self.n_grown -= stream.recv_window.growth();
        if let Some(at) = stream.linger_until {
            self.lingering.remove(&(at, id));
        }
        self.effects.look_again = true;
        if self.streams.is_empty() {
            self.streams.shrink_to(STREAMS_KEPT);
            if self.is_draining {
                self.effects.transmit = true;
            }
        }
    }
}

/// Places for streams that an empty carrier keeps.
const STREAMS_KEPT: usize = 16;

/// The classes of [`Class`].
const N_CLASSES: usize = 3;

/// Control first, bulk last.
fn class_idx(class: Class) -> usize {
    match class {
        Class::Control => 0,
        Class::Interactive => 1,
        Class::Bulk => 2,
    }
}
