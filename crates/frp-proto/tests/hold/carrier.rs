//! Carriers: ordered streams with delay and rate, until they die.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use frp_proto::hold::Route;
use frp_proto::hold::frame::Decoder;

use crate::random::Random;

/// One carrier. Direction 0 goes to the server, 1 to the client.
#[derive(Debug)]
pub struct Carrier {
    delay: Duration,
    /// Microseconds for 1,000 bytes.
    pace: u64,
    free_at: [Instant; 2],
    /// What would arrive after this is lost.
    cut_at: [Option<Instant>; 2],
    /// Bytes of a stream that are under way at most.
    pub room: usize,
    /// Whether each end takes it for alive.
    pub is_trusted: [bool; 2],
    pub is_dead: bool,
}

impl Carrier {
    pub fn new(random: &mut Random, now: Instant) -> Self {
        Self {
            delay: Duration::from_micros(random.pick(&[100, 5_000, 40_000, 150_000])),
            pace: random.pick(&[0, 10, 100, 1000]),
            free_at: [now; 2],
            cut_at: [None; 2],
            room: random.pick(&[2_000, 30_000, 300_000]),
            is_trusted: [false; 2],
            is_dead: false,
        }
    }

    /// When something that is sent arrives. None when it never does.
    pub fn send(&mut self, direction: usize, len: usize, now: Instant) -> Option<Instant> {
        let busy = Duration::from_micros(len as u64 * self.pace / 1000);
        self.free_at[direction] = self.free_at[direction].max(now) + busy;
        let at = self.free_at[direction] + self.delay;
        self.arrives(direction, at).then_some(at)
    }

    pub fn arrives(&self, direction: usize, at: Instant) -> bool {
        self.cut_at[direction].is_none_or(|cut| at <= cut)
    }

    /// It stops, somewhere among what is under way.
    pub fn cut(&mut self, direction: usize, random: &mut Random, now: Instant) {
        let later = random.below(2 * self.delay.as_micros() as u64);
        self.cut_at[direction].get_or_insert(now + Duration::from_micros(later));
        self.is_dead = true;
    }

    pub fn rtt(&self) -> Duration {
        2 * self.delay
    }

    pub fn delay(&self) -> Duration {
        self.delay
    }
}

/// One stream of a carrier.
#[derive(Debug)]
pub struct Mux {
    pub carrier: usize,
    /// What each end takes it for.
    pub routes: [Option<(u64, Route)>; 2],
    pub decoders: [Decoder; 2],
    pub pipes: [Pipe; 2],
    /// An end has reset it, or was told so.
    pub is_closed: [bool; 2],
}

/// One direction of it.
#[derive(Debug, Default)]
pub struct Pipe {
    pub items: VecDeque<(Instant, Item)>,
    pub n_bytes: usize,
}

#[derive(Debug)]
pub enum Item {
    Chunks(Vec<Bytes>),
    End,
    Reset,
}

impl Mux {
    pub fn new(carrier: usize) -> Self {
        Self {
            carrier,
            routes: [None; 2],
            decoders: [Decoder::default(), Decoder::default()],
            pipes: [Pipe::default(), Pipe::default()],
            is_closed: [false; 2],
        }
    }
}
