//! Two sessions against each other, by the thousand: every run is a seed.
//!
//! The wire between them is two byte queues, of which the run takes as much at a time as the dice
//! say. Each stream has a sender and a receiver at either end that write, read, pause, finish,
//! reset and drop at random. What was received is always an exact prefix of what was sent; the
//! end comes if and only if the sender finished; in the end everything has arrived.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::mux::batch::Batch;
use crate::mux::{MuxConfig, Role};

use super::tests::harness::written;
use super::{BACKLOG, GROWTH_MAX, Phase, Session};

/// Runs of the test. Each is a few thousand steps at most.
const N_RUNS: u64 = 2_000;

#[test]
fn two_sessions_carry_every_byte_whatever_the_interleaving() {
    let first: u64 = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(0);
    for seed in first..first + N_RUNS {
        if let Err(panic) = std::panic::catch_unwind(|| Run::new(seed).run()) {
            eprintln_seed(seed);
            std::panic::resume_unwind(panic);
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the seed is what makes a failure repeatable"
)]
fn eprintln_seed(seed: u64) {
    eprintln!("failed with SEED={seed}");
}

/// One run: two ends and the wire between them.
struct Run {
    dice: SmallRng,
    ends: [End; 2],
    /// Towards each end.
    wires: [BytesMut; 2],
    /// What each stream carries from each end, by id.
    streams: BTreeMap<u32, [Plan; 2]>,
    now: Instant,
}

struct End {
    session: Session,
    unparsed: BytesMut,
    batch: Batch,
    n_to_open: usize,
    /// Streams that this end holds a handle of.
    handles: Vec<u32>,
}

/// What one end does with its half of a stream.
struct Plan {
    to_send: usize,
    n_sent: usize,
    n_received: usize,
    has_finished: bool,
    saw_end: bool,
    /// The end that sends or the one that receives has reset or dropped the stream.
    is_broken: bool,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut dice = SmallRng::seed_from_u64(seed);
        let now = Instant::now();
        let config = MuxConfig {
            max_window: 256 * 1024 * dice.random_range(1..24),
            ..MuxConfig::default()
        };
        let ends = [Role::Client, Role::Server].map(|role| End {
            session: Session::new(role, &config, false, now),
            unparsed: BytesMut::new(),
            batch: Batch::default(),
            n_to_open: dice.random_range(0..12),
            handles: Vec::new(),
        });
        Self {
            dice,
            ends,
            wires: [BytesMut::new(), BytesMut::new()],
            streams: BTreeMap::new(),
            now,
        }
    }

    fn run(mut self) {
        let mut n_quiet = 0;
        for _ in 0..200_000 {
            let has_moved = self.step();
            if self.dice.random_bool(0.1) {
                self.check_bounds();
            }
            n_quiet = if has_moved { 0 } else { n_quiet + 1 };
            if n_quiet > 100 && !self.sweep() {
                return self.check_end();
            }
        }
        panic!("the run does not come to rest");
    }

    /// Tries everything once. Says whether anything changed.
    fn sweep(&mut self) -> bool {
        let mut has_moved = false;
        for side in 0..2 {
            has_moved |= self.open(side) | self.accept(side);
            for id in self.ends[side].handles.clone() {
                has_moved |= self.write(side, id);
            }
            has_moved |= self.transmit(side) | self.deliver(side);
            for id in self.ends[side].handles.clone() {
                has_moved |= self.read(side, id);
            }
        }
        has_moved
    }

    /// One thing happens. Says whether anything changed.
    fn step(&mut self) -> bool {
        let side = self.dice.random_range(0..2);
        self.now += Duration::from_micros(self.dice.random_range(0..100));
        match self.dice.random_range(0..10) {
            0 => self.open(side),
            1 => self.accept(side),
            2 | 3 => self.any_handle(side).is_some_and(|id| self.write(side, id)),
            4 | 5 => self.any_handle(side).is_some_and(|id| self.read(side, id)),
            6 | 7 => self.transmit(side),
            _ => self.deliver(side),
        }
    }

    fn open(&mut self, side: usize) -> bool {
        let end = &mut self.ends[side];
        if end.n_to_open == 0 {
            return false;
        }
        let Some(id) = end.session.open(self.now).unwrap() else {
            return false;
        };
        end.n_to_open -= 1;
        end.handles.push(id);
        let plans = [0, 1].map(|_| Plan {
            to_send: match self.dice.random_range(0..8) {
                0 => 0,
                1 => self.dice.random_range(0..2_000),
                2..7 => self.dice.random_range(0..40_000),
                _ => self.dice.random_range(300_000..900_000),
            },
            n_sent: 0,
            n_received: 0,
            has_finished: false,
            saw_end: false,
            is_broken: false,
        });
        self.streams.insert(id, plans);
        true
    }

    fn accept(&mut self, side: usize) -> bool {
        let end = &mut self.ends[side];
        let Some(id) = end.session.accept().unwrap() else {
            return false;
        };
        end.handles.push(id);
        true
    }

    fn write(&mut self, side: usize, id: u32) -> bool {
        let [plan, _] = sides(self.streams.get_mut(&id).unwrap(), side);
        let session = &mut self.ends[side].session;
        if plan.is_broken || plan.has_finished {
            return false;
        }
        if plan.n_sent == plan.to_send {
            plan.has_finished = true;
            session.finish(id).unwrap();
            return true;
        }
        let len_max = if self.dice.random_bool(0.5) {
            100
        } else {
            100_000
        };
        let len = self
            .dice
            .random_range(1..=len_max)
            .min(plan.to_send - plan.n_sent);
        let data = pattern(id, side, plan.n_sent, len);
        let written = if self.dice.random_bool(0.5) {
            session.write(id, &mut Bytes::from(data), Waker::noop())
        } else {
            session.write_copy(id, &data, Waker::noop())
        };
        match written {
            Poll::Ready(n) => {
                plan.n_sent += n.unwrap();
                true
            }
            Poll::Pending => false,
        }
    }

    fn read(&mut self, side: usize, id: u32) -> bool {
        let plans = self.streams.get_mut(&id).unwrap();
        let session = &mut self.ends[side].session;
        let [mine, theirs] = sides(plans, side);
        if mine.is_broken && theirs.is_broken {
            // One of the two has reset the stream: the handle is let go of.
            session.drop_stream(id, self.now);
            self.ends[side].handles.retain(|handle| *handle != id);
            return true;
        }
        match self.dice.random_range(0..2_000) {
            0 => {
                session.reset(id);
                (mine.is_broken, theirs.is_broken) = (true, true);
                return true;
            }
            1 => {
                session.drop_stream(id, self.now);
                // What this end wrote still arrives, and its end. What the peer writes vanishes.
                mine.has_finished = true;
                mine.to_send = mine.n_sent;
                theirs.is_broken = true;
                self.ends[side].handles.retain(|handle| *handle != id);
                return true;
            }
            _ => {}
        }
        let max = self.dice.random_range(1..200_000);
        match session.read(id, max, Waker::noop()) {
            Poll::Pending => false,
            Poll::Ready(Err(_)) => panic!("nobody has reset stream {id}"),
            Poll::Ready(Ok(chunk)) if chunk.is_empty() => {
                let is_first = !theirs.saw_end;
                theirs.saw_end = true;
                assert!(theirs.has_finished, "no end without finishing");
                assert_eq!(theirs.n_received, theirs.n_sent);
                if mine.has_finished || mine.is_broken {
                    session.drop_stream(id, self.now);
                    self.ends[side].handles.retain(|handle| *handle != id);
                }
                is_first
            }
            Poll::Ready(Ok(chunk)) => {
                let expected = pattern(id, 1 - side, theirs.n_received, chunk.len());
                assert!(
                    chunk == expected,
                    "stream {id} carries its own bytes in order"
                );
                theirs.n_received += chunk.len();
                true
            }
        }
    }

    fn transmit(&mut self, side: usize) -> bool {
        let end = &mut self.ends[side];
        end.session.handle_timeout(self.now);
        if self.wires[1 - side].len() > 300_000 {
            assert!(
                end.session.poll_timeout(true) > self.now,
                "nothing is due twice"
            );
            return false;
        }
        end.session.poll_transmit(&mut end.batch, self.now);
        assert!(
            end.session.poll_timeout(false) > self.now,
            "nothing is due twice"
        );
        end.session.take_effects();
        let bytes = written(&mut end.batch);
        self.wires[1 - side].extend_from_slice(&bytes);
        !bytes.is_empty()
    }

    fn deliver(&mut self, side: usize) -> bool {
        let wire = &mut self.wires[side];
        if wire.is_empty() {
            return false;
        }
        let len_max = if self.dice.random_bool(0.3) {
            20
        } else {
            200_000
        };
        let len = self.dice.random_range(1..=len_max).min(wire.len());
        let end = &mut self.ends[side];
        end.unparsed.extend_from_slice(&wire.split_to(len));
        end.session.handle_bytes(&mut end.unparsed, self.now);
        assert!(
            end.unparsed.len() < 12,
            "only the start of a header is left"
        );
        true
    }

    fn any_handle(&mut self, side: usize) -> Option<u32> {
        let handles = &self.ends[side].handles;
        let idx = self.dice.random_range(0..handles.len().max(1));
        handles.get(idx).copied()
    }

    fn check_bounds(&self) {
        for end in &self.ends {
            let session = &end.session;
            assert_eq!(session.phase(), Phase::Open, "{:?}", session.closed);
            assert!(session.accept_queue.len() <= BACKLOG);
            assert!(session.n_grown <= GROWTH_MAX);
            assert!(session.control_queue.len() <= session.streams.len() + 24);
            let streams = session.streams.values();
            let (mut n_unread, mut n_unsent) = (0, 0);
            for stream in streams {
                n_unread += stream.recv.len();
                n_unsent += stream.send.len();
                assert!(stream.recv.len() <= stream.recv_window.size() as usize);
                assert!(stream.send.len() <= 128 * 1024);
            }
            assert_eq!(session.n_unread, n_unread);
            assert_eq!(session.n_unsent, n_unsent);
        }
    }

    fn check_end(&mut self) {
        for (id, plans) in &self.streams {
            for plan in plans.iter().filter(|plan| !plan.is_broken) {
                assert!(
                    plan.has_finished,
                    "the sender of stream {id} was never stuck"
                );
                assert!(plan.saw_end, "the end of stream {id} has arrived");
                assert_eq!(plan.n_received, plan.to_send, "stream {id}");
            }
        }
    }
}

/// The plans of this side and of the other.
fn sides(plans: &mut [Plan; 2], side: usize) -> [&mut Plan; 2] {
    let [client, server] = plans;
    if side == 0 {
        [client, server]
    } else {
        [server, client]
    }
}

/// What stream `id` carries from `side`, from `start` on.
fn pattern(id: u32, side: usize, start: usize, len: usize) -> Vec<u8> {
    static REPEATED: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..PERIOD).map(|i| (i % 251 + i / 251) as u8).collect());
    let mut bytes = Vec::with_capacity(len);
    let mut at = (start + id as usize * 7 + side * 13) % PERIOD;
    while bytes.len() < len {
        let end = PERIOD.min(at + len - bytes.len());
        bytes.extend_from_slice(&REPEATED[at..end]);
        at = end % PERIOD;
    }
    bytes
}

/// A prime, so that no two places that could be mixed up look alike.
const PERIOD: usize = 65_521;
