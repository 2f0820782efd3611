//! What a session knows of its carriers and held streams, at one end.
//!
//! The client decides which carrier is used, and numbers its decisions; the server follows the
//! highest number. The owner keeps the [`HeldStream`](super::HeldStream)s themselves: it asks here
//! which of them may be, and when all of them end.

mod stream_ids;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use thiserror::Error;

use self::stream_ids::{Known, StreamIds};
use super::frame::{Attach, AttachStatus};
use super::session_frame::GoodbyeReason;
use super::{Budget, CarrierId, Generation};

/// Most carriers of one session at a time: each transport once, over both address families, and
/// one more of each while they are changed. A further one is refused.
pub const MAX_CARRIERS: usize = 16;

/// The stream that is held from right after `LoginResp`.
pub const CONTROL_STREAM: u64 = 0;

/// Which end of the session this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It logged in, decides on carriers, and opens streams with even numbers.
    Client,
    /// It follows, and opens streams with odd numbers.
    Server,
}

/// What a session is told at its beginning.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Which end this is.
    pub role: Role,
    /// The client's process. A login with another one comes from its successor.
    pub instance: [u8; 16],
    /// How long the session is kept without a carrier.
    pub grace: Duration,
    /// Streams held at once, over both sides. At the bound further ones are refused.
    pub max_streams: usize,
    /// Bytes that its streams may keep together, beyond the floor of each.
    pub max_bytes: u64,
}

/// Order of moving to another carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The session's own messages.
    Control,
    /// Little is on the way or waiting.
    Interactive,
    /// Everything else.
    Bulk,
}

/// One session, at one end.
#[derive(Debug)]
pub struct Session {
    config: Config,
    budget: Budget,
    carriers: BTreeMap<CarrierId, Generation>,
    in_use: Option<CarrierId>,
    /// Server: the highest number seen of a carrier in use. Client: the highest number given.
    highest: Generation,
    /// With which number the carrier in use, or the last one, came into use.
    in_use_since: Generation,
    streams: StreamIds,
    state: State,
    event: Option<Event>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It has not had a carrier, or has one.
    Alive,
    /// The last carrier is gone.
    Holding {
        until: Instant,
    },
    Over,
}

/// What the owner is told by [`Session::poll_event`]. A later one replaces one that was not polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// This carrier is in use from here on.
    InUse(CarrierId, Generation),
    /// There is no carrier; the streams are kept until then.
    Holding {
        /// When the session ends, if no carrier comes.
        until: Instant,
    },
    /// Nothing is kept any longer: reset every stream, close every carrier.
    Over(EndReason),
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// No carrier came within the grace time.
    GraceExpired,
    /// The peer said goodbye.
    GoodbyeByPeer(GoodbyeReason),
    /// This side said goodbye.
    GoodbyeHere(GoodbyeReason),
    /// Another instance of the client has logged in.
    TakenOver,
}

/// Why a carrier, or a decision about one, was refused. The session is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SessionError {
    /// The number is not above that of the carrier in use, or another carrier has it.
    #[error("generation {found}, and {highest} is in use")]
    OldGeneration {
        /// As the peer says.
        found: Generation,
        /// The highest so far.
        highest: Generation,
    },
    /// There are [`MAX_CARRIERS`].
    #[error("the session has {MAX_CARRIERS} carriers already")]
    TooManyCarriers,
    /// The carrier has not joined the session.
    #[error("the carrier does not belong to the session")]
    NotJoined,
    /// There are as many streams as there may be.
    #[error("the session has as many streams as it may")]
    TooManyStreams,
    /// The session is over.
    #[error("the session is over")]
    Over,
    /// What only a client decides came to a client.
    #[error("carriers are chosen by the client")]
    NotYours,
}

impl SessionError {
    /// Whether the peer broke the protocol, so that it is counted against it.
    pub fn is_peers_fault(&self) -> bool {
        matches!(self, Self::NotJoined | Self::NotYours)
    }
}

/// Where an ATTACH goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachTo {
    /// To a new stream, made with [`HeldStream::accept`](super::HeldStream::accept).
    New,
    /// To the stream that has this number already.
    Known,
}

impl Session {
    /// A session that has no carrier yet. Its bytes count in `process`.
    pub fn new(config: Config, process: &Budget) -> Self {
        Self {
            config,
            budget: process.child(config.max_bytes),
            carriers: BTreeMap::new(),
            in_use: None,
            highest: Generation::default(),
            in_use_since: Generation::default(),
            streams: StreamIds::new(config.role),
            state: State::Alive,
            event: None,
        }
    }

    /// What the session's streams are made with.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    // Streams.

    /// Gives a number to a stream that this side opens.
    pub fn open_stream(&mut self) -> Result<u64, SessionError> {
        self.check_alive()?;
        if self.streams.len() >= self.config.max_streams {
            return Err(SessionError::TooManyStreams);
        }
        Ok(self.streams.open())
    }

    /// The control stream, on both sides, right after the login.
    pub fn open_control_stream(&mut self) -> u64 {
        self.streams.insert_control()
    }

    /// Says what the ATTACH at the front of a carrier's stream is for, or how it is answered. Its
    /// number counts for the carrier that it came on, as that of [`Self::handle_use`] does.
    pub fn handle_attach(
        &mut self,
        carrier: CarrierId,
        attach: &Attach,
    ) -> Result<AttachTo, AttachStatus> {
        if self.check_alive().is_err() || !self.carriers.contains_key(&carrier) {
            return Err(AttachStatus::NotJoined);
        }
        let known = self.streams.look_up(attach.stream);
        let attach_to = match known {
            Known::Live => AttachTo::Known,
            Known::Fresh if !attach.is_open => return Err(AttachStatus::UnknownStream),
            Known::Fresh if self.streams.len() >= self.config.max_streams => {
                return Err(AttachStatus::TooManyStreams);
            }
            Known::Fresh => AttachTo::New,
            Known::Used => return Err(AttachStatus::UnknownStream),
        };
        if attach_to == AttachTo::New {
            self.streams.insert_peers(attach.stream);
        }
        // Only the client's numbers decide; a server's streams repeat them.
        if self.config.role == Role::Server && attach.generation > self.highest {
            self.put_in_use(carrier, attach.generation);
        }
        Ok(attach_to)
    }

    /// A stream [is over](super::HeldStream::is_over).
    pub fn forget_stream(&mut self, stream: u64) {
        self.streams.remove(stream);
    }

    /// The streams in the order in which they move to another carrier.
    pub fn moving_order(&self, class_of: impl Fn(u64) -> Class) -> Vec<u64> {
        let mut streams: Vec<u64> = self.streams.iter().collect();
        // Stable: streams of a class move in the order of their numbers.
        streams.sort_by_key(|stream| match *stream {
            CONTROL_STREAM => Class::Control,
            stream => class_of(stream),
        });
        streams
    }

    // Carriers.

    /// Client: the number with which a new carrier joins.
    pub fn next_generation(&mut self) -> Generation {
        assert_eq!(self.config.role, Role::Client, "the client gives numbers");
        self.highest = Generation(self.highest.0 + 1);
        self.highest
    }

    /// A carrier has joined the session with a right proof.
    ///
    /// Carriers are tried side by side, so their numbers may come in any order; but one that is
    /// not above the carrier in use comes from before the last switch.
    pub fn handle_join(
        &mut self,
        carrier: CarrierId,
        found: Generation,
    ) -> Result<(), SessionError> {
        self.check_alive()?;
        // Streams that are attached anew to the carrier in use raise the highest number beyond that
        // of a carrier that is joining meanwhile.
        let highest = self.in_use_since;
        let is_old = self.config.role == Role::Server && found <= highest;
        if is_old || self.carriers.values().any(|known| *known == found) {
            return Err(SessionError::OldGeneration { found, highest });
        }
        if self.carriers.len() >= MAX_CARRIERS {
            return Err(SessionError::TooManyCarriers);
        }
        self.carriers.insert(carrier, found);
        if self.in_use.is_none() && self.config.role == Role::Server {
            // Without another it is the one in use, whatever its number.
            self.put_in_use(carrier, found);
        }
        self.state = State::Alive;
        Ok(())
    }

    /// Client: decides for this carrier. The number goes to the server with USE, and into every
    /// ATTACH on the carrier.
    pub fn use_carrier(&mut self, carrier: CarrierId) -> Result<Generation, SessionError> {
        if !self.carriers.contains_key(&carrier) {
            return Err(SessionError::NotJoined);
        }
        let generation = self.next_generation();
        self.put_in_use(carrier, generation);
        Ok(generation)
    }

    /// Server: the client has decided for this carrier.
    pub fn handle_use(
        &mut self,
        carrier: CarrierId,
        found: Generation,
    ) -> Result<(), SessionError> {
        self.check_alive()?;
        if self.config.role != Role::Server {
            return Err(SessionError::NotYours);
        }
        if !self.carriers.contains_key(&carrier) {
            return Err(SessionError::NotJoined);
        }
        let highest = self.highest;
        // An ATTACH of the switch, or a later one on the same carrier, may have come before.
        let is_known = found <= highest && self.in_use == Some(carrier);
        if found <= highest && !is_known {
            return Err(SessionError::OldGeneration { found, highest });
        }
        if !is_known {
            self.put_in_use(carrier, found);
        }
        Ok(())
    }

    /// A carrier is gone.
    pub fn handle_carrier_lost(&mut self, carrier: CarrierId, now: Instant) {
        if self.carriers.remove(&carrier).is_none() {
            return;
        }
        if self.in_use == Some(carrier) {
            self.in_use = None;
        }
        if self.carriers.is_empty() && self.state == State::Alive {
            let until = now + self.config.grace;
            self.state = State::Holding { until };
            self.event = Some(Event::Holding { until });
        }
    }

    /// The carrier in use. None while there is none, and on a client that has not decided.
    pub fn in_use(&self) -> Option<CarrierId> {
        self.in_use
    }

    /// How many carriers have joined, and are not gone.
    pub fn n_carriers(&self) -> usize {
        self.carriers.len()
    }

    /// The number that a peer's next carrier must be above.
    pub fn highest_generation(&self) -> Generation {
        self.highest
    }

    // The end.

    /// The peer has said goodbye.
    pub fn handle_goodbye(&mut self, reason: GoodbyeReason) {
        self.end(EndReason::GoodbyeByPeer(reason));
    }

    /// This side ends the session; the owner sends GOODBYE on every carrier.
    pub fn goodbye(&mut self, reason: GoodbyeReason) {
        self.end(EndReason::GoodbyeHere(reason));
    }

    /// The client of this session has logged in anew, and has proven that it is that client. True
    /// when it is another process: then this session is over at once.
    pub fn handle_login(&mut self, instance: [u8; 16]) -> bool {
        let is_successor = instance != self.config.instance;
        if is_successor {
            self.end(EndReason::TakenOver);
        }
        is_successor
    }

    /// Ends the session, for whatever reason. The first one stays.
    pub fn end(&mut self, reason: EndReason) {
        if self.state != State::Over {
            self.state = State::Over;
            self.carriers.clear();
            self.in_use = None;
            self.event = Some(Event::Over(reason));
        }
    }

    /// Takes a timeout. Too early does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        if matches!(self.state, State::Holding { until } if until <= now) {
            self.end(EndReason::GraceExpired);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Holding { until } => Some(until),
            State::Alive | State::Over => None,
        }
    }

    /// Takes what the owner has to do.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.event.take()
    }

    /// Whether nothing of the session is kept any longer.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    fn put_in_use(&mut self, carrier: CarrierId, generation: Generation) {
        self.highest = self.highest.max(generation);
        if self.in_use != Some(carrier) {
            self.in_use_since = generation;
        }
        self.in_use = Some(carrier);
        self.event = Some(Event::InUse(carrier, generation));
    }

    fn check_alive(&self) -> Result<(), SessionError> {
        if self.is_over() {
            return Err(SessionError::Over);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
