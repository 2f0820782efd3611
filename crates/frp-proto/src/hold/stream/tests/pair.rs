//! Both ends of a stream, connected by hand.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::A;
use crate::hold::frame::{Decoder, Frame};
use crate::hold::{Budget, HeldStream, Output, Route};

/// Both ends of a stream, with id 2.
pub(super) struct Pair {
    pub(super) opener: HeldStream,
    pub(super) acceptor: HeldStream,
    pub(super) now: Instant,
}

impl Pair {
    pub(super) fn new() -> Self {
        let budget = Budget::new(1 << 30);
        Self {
            opener: HeldStream::open(2, &budget),
            acceptor: HeldStream::accept(2, &budget),
            now: start(),
        }
    }

    pub(super) fn attached() -> Self {
        let mut pair = Self::new();
        pair.attach(A, false);
        pair
    }

    pub(super) fn attach(&mut self, route: Route, is_planned: bool) {
        self.opener.attach(route, is_planned, self.now);
        self.answer(route);
    }

    /// Takes the ATTACH to the acceptor, and its answer back.
    pub(super) fn answer(&mut self, route: Route) {
        for frame in self.frames_of_opener(route) {
            match frame {
                Frame::Attach(attach) => self.acceptor.handle_attach(route, &attach, self.now),
                frame => self.acceptor.handle_frame(route, frame, self.now),
            }
            .unwrap();
        }
        self.one_way_here(route);
    }

    pub(super) fn lose(&mut self, route: Route) {
        self.opener.handle_route_end(route, false);
        self.acceptor.handle_route_end(route, false);
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    pub(super) fn exchange(&mut self, route: Route) {
        for _ in 0..4 {
            self.one_way_there(route);
            self.one_way_here(route);
        }
    }

    pub(super) fn one_way_there(&mut self, route: Route) {
        let frames = self.frames_of_opener(route);
        self.deliver_there(route, frames);
    }

    pub(super) fn one_way_here(&mut self, route: Route) {
        for frame in self.frames_of_acceptor(route) {
            self.opener.handle_frame(route, frame, self.now).unwrap();
        }
    }

    pub(super) fn deliver_there(&mut self, route: Route, frames: Vec<Frame>) {
        for frame in frames {
            match frame {
                Frame::Attach(attach) => self.acceptor.handle_attach(route, &attach, self.now),
                frame => self.acceptor.handle_frame(route, frame, self.now),
            }
            .unwrap();
        }
    }

    pub(super) fn frames_of_opener(&mut self, route: Route) -> Vec<Frame> {
        frames_of(&mut self.opener, route, self.now)
    }

    pub(super) fn frames_of_acceptor(&mut self, route: Route) -> Vec<Frame> {
        frames_of(&mut self.acceptor, route, self.now)
    }

    pub(super) fn write_here(&mut self, bytes: &[u8]) {
        let written = self.write_some_here(bytes);
        assert_eq!(written, bytes.len(), "there is room");
    }

    pub(super) fn write_some_here(&mut self, bytes: &[u8]) -> usize {
        self.opener.write(&mut Bytes::copy_from_slice(bytes))
    }

    pub(super) fn write_there(&mut self, bytes: &[u8]) {
        let written = self.acceptor.write(&mut Bytes::copy_from_slice(bytes));
        assert_eq!(written, bytes.len(), "there is room");
    }

    pub(super) fn read_here(&mut self) -> Vec<u8> {
        read_all(&mut self.opener, self.now)
    }

    pub(super) fn read_there(&mut self) -> Vec<u8> {
        read_all(&mut self.acceptor, self.now)
    }
}

pub(super) fn frames_of(stream: &mut HeldStream, route: Route, now: Instant) -> Vec<Frame> {
    let mut out = Output::default();
    while stream.poll_transmit(route, usize::MAX, now, &mut out) {}
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    let chunks: Vec<Bytes> = out.take().collect();
    let mut wire = Bytes::from(chunks.concat());
    while let Some(frame) = decoder.decode(&mut wire).unwrap() {
        frames.push(frame);
    }
    assert!(decoder.is_between_frames());
    frames
}

pub(super) fn read_all(stream: &mut HeldStream, now: Instant) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(bytes) = stream.read(100_000, now) {
        all.extend_from_slice(&bytes);
    }
    while stream.poll_event().is_some() {}
    all
}

pub(super) fn drain(stream: &mut HeldStream) -> &HeldStream {
    while stream.poll_event().is_some() {}
    stream
}

#[expect(clippy::disallowed_methods, reason = "any instant will do")]
pub(super) fn start() -> Instant {
    Instant::now()
}
