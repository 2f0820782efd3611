//! One route of a held stream: the carrier's stream under it, and what is in between.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use frp_proto::hold::Route;
use frp_proto::hold::frame::{Decoder, Frame, FrameError};
use transports::{BoxStream, Class};

use crate::hold::session::carriers::HeldCarrier;

/// The most that is taken from a carrier's stream at once.
const READ_LEN: usize = 64 * 1024;

/// A stream of a carrier that carries, or has carried, a held stream.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) route: Route,
    pub(super) carrier: Arc<HeldCarrier>,
    stream: BoxStream,
    decoder: Decoder,
    /// Read and not decoded.
    input: Bytes,
    /// Handed out by the held stream for this route, and not taken by the carrier's stream.
    unwritten: VecDeque<Bytes>,
    is_read_ended: bool,
    /// Nothing more is sent once what is handed out is written.
    is_finishing: bool,
    is_shut: bool,
}

/// What a route brings.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A frame.
    Frame(Frame),
    /// The peer has ended its half between two frames.
    End,
}

/// Why a route brings nothing more.
#[derive(Debug)]
pub(super) enum ArrivalError {
    /// What came are no frames.
    Frame(FrameError),
    /// It ended within a frame.
    Cut,
    /// The carrier's stream broke.
    Io(io::Error),
}

impl Link {
    /// A route over `stream`, of which `input` has been read already.
    pub(super) fn new(
        route: Route,
        carrier: Arc<HeldCarrier>,
        stream: BoxStream,
        input: Bytes,
    ) -> Self {
        Self {
            route,
            carrier,
            stream,
            decoder: Decoder::default(),
            input,
            unwritten: VecDeque::new(),
            is_read_ended: false,
            is_finishing: false,
            is_shut: false,
        }
    }

    /// Takes the next frame, or part of one. Reading from the carrier's stream takes one from
    /// `n_reads`; without any left it is as if nothing had come, and the caller comes back.
    pub(super) fn poll_arrival(
        &mut self,
        cx: &mut Context<'_>,
        n_reads: &mut usize,
    ) -> Poll<Result<Arrival, ArrivalError>> {
        loop {
            match self.decoder.decode(&mut self.input) {
                Ok(Some(frame)) => return Poll::Ready(Ok(Arrival::Frame(frame))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(ArrivalError::Frame(error))),
            }
            if self.is_read_ended || *n_reads == 0 {
                return Poll::Pending;
            }
            self.input = Bytes::new();
            match ready!(Pin::new(&mut *self.stream).poll_read_chunk(cx, READ_LEN)) {
                Ok(chunk) if chunk.is_empty() => {
                    self.is_read_ended = true;
                    return Poll::Ready(if self.decoder.is_between_frames() {
                        Ok(Arrival::End)
                    } else {
                        Err(ArrivalError::Cut)
                    });
                }
                Ok(chunk) => {
                    *n_reads -= 1;
                    self.input = chunk;
                }
                Err(error) => return Poll::Ready(Err(ArrivalError::Io(error))),
            }
        }
    }

    /// Takes what is to be written.
    pub(super) fn push(&mut self, chunks: impl Iterator<Item = Bytes>) {
        self.unwritten.extend(chunks);
    }

    /// Writes what is there. Ready once the carrier's stream has all of it, and the end if nothing
    /// more is to come.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(chunk) = self.unwritten.front_mut() {
            ready!(Pin::new(&mut *self.stream).poll_write_chunk(cx, chunk))?;
            if chunk.is_empty() {
                self.unwritten.pop_front();
            }
        }
        if self.is_finishing && !self.is_shut {
            ready!(Pin::new(&mut *self.stream).poll_shutdown(cx))?;
            self.is_shut = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Gives back what only a busy route needs.
    pub(super) fn rest(&mut self) {
        self.unwritten.shrink_to_fit();
    }

    /// Nothing more is sent behind what was handed out.
    pub(super) fn finish(&mut self) {
        self.is_finishing = true;
    }

    /// Whether the carrier's stream has all that was handed out.
    pub(super) fn is_written(&self) -> bool {
        self.unwritten.is_empty() && (self.is_shut || !self.is_finishing)
    }

    /// Whether both halves are at their end.
    pub(super) fn is_over(&self) -> bool {
        self.is_read_ended && self.is_shut
    }

    /// Tells the carrier what the stream is.
    pub(super) fn set_class(&mut self, class: Class) {
        self.stream.set_class(class);
    }

    /// Ends the carrier's stream at once.
    pub(super) fn reset(&mut self) {
        self.stream.reset();
    }
}
