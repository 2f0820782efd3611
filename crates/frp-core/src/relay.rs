//! Copies between a user's connection and a service's, both ways at once.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use transports::BoxStream;

/// What became of the other direction when one has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfClose {
    /// It goes on until it ends itself, or nothing passes for [`HALF_CLOSED_IDLE`]. Between
    /// Holdfasts.
    Keep,
    /// It ends as well, after what was read already is delivered. A Go peer does the same.
    EndBoth,
}

/// Bytes carried, and how it ended.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Bytes from the first stream to the second.
    pub a_to_b: u64,
    /// Bytes from the second stream to the first.
    pub b_to_a: u64,
    /// What broke off the relay, if anything did. A peer that went away is no error to a tunnel:
    /// log it at debug level.
    pub error: Option<io::Error>,
}

/// How long a connection may stay half-closed without a byte: yamux's `StreamCloseTimeout` in frp.
pub const HALF_CLOSED_IDLE: Duration = Duration::from_secs(300);

/// Read at once. Big enough that system calls and frames are few, small enough that many busy
/// connections fit in memory.
const CHUNK_LEN: usize = 128 * 1024;

/// Chunks in a row before other tasks get a turn.
const MAX_CHUNKS_PER_POLL: usize = 8;

/// Carries bytes both ways until both directions have ended (see [`HalfClose`]) or one fails.
/// Both streams are closed on return.
pub async fn relay(mut a: BoxStream, mut b: BoxStream, half_close: HalfClose) -> Traffic {
    let mut a_to_b = Direction::default();
    let mut b_to_a = Direction::default();
    let mut idle: Option<(Pin<Box<tokio::time::Sleep>>, u64)> = None;

    let result = poll_fn(|cx| {
        let there = a_to_b.poll_copy(cx, &mut a, &mut b)?;
        let back = b_to_a.poll_copy(cx, &mut b, &mut a)?;
        match (there.is_ready(), back.is_ready(), half_close) {
            (true, true, _) => return Poll::Ready(Ok(())),
            (false, false, _) => return Poll::Pending,
            (true, false, HalfClose::EndBoth) => return b_to_a.poll_deliver(cx, &mut a),
            (false, true, HalfClose::EndBoth) => return a_to_b.poll_deliver(cx, &mut b),
            (_, _, HalfClose::Keep) => {}
        }
        let carried = a_to_b.n_bytes + b_to_a.n_bytes;
        let (timer, carried_before) = idle
            .get_or_insert_with(|| (Box::pin(tokio::time::sleep(HALF_CLOSED_IDLE)), carried));
        if *carried_before != carried {
            *carried_before = carried;
            timer.as_mut().reset(Instant::now() + HALF_CLOSED_IDLE);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "half-closed and idle")))
    })
    .await;

    Traffic { a_to_b: a_to_b.n_bytes, b_to_a: b_to_a.n_bytes, error: result.err() }
}

/// One direction of a relay.
#[derive(Default)]
struct Direction {
    /// Read, and not yet written in full.
    chunk: Bytes,
    n_bytes: u64,
    needs_flush: bool,
    state: State,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum State {
    #[default]
    Copying,
    /// The source has ended; the sending half of the target is being closed.
    ShuttingDown,
    Done,
}

impl Direction {
    /// Copies what is there. Ready once the source has ended and the target knows.
    fn poll_copy(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut BoxStream,
        target: &mut BoxStream,
    ) -> io::Result<Poll<()>> {
        for _ in 0..MAX_CHUNKS_PER_POLL {
            match self.state {
                State::Done => return Ok(Poll::Ready(())),
                State::ShuttingDown => match Pin::new(&mut **target).poll_shutdown(cx) {
                    Poll::Pending => return Ok(Poll::Pending),
                    Poll::Ready(result) => {
                        result?;
                        self.state = State::Done;
                        return Ok(Poll::Ready(()));
                    }
                },
                State::Copying => {}
            }
            if self.poll_write(cx, target)?.is_pending() {
                return Ok(Poll::Pending);
            }
            match Pin::new(&mut **source).poll_read_chunk(cx, CHUNK_LEN) {
                Poll::Ready(chunk) => {
                    self.chunk = chunk?;
                    if self.chunk.is_empty() {
                        self.state = State::ShuttingDown;
                    }
                }
                Poll::Pending => {
                    // Nothing more for the moment: whatever the target has buffered goes out now.
                    if self.needs_flush && Pin::new(&mut **target).poll_flush(cx)?.is_ready() {
                        self.needs_flush = false;
                    }
                    return Ok(Poll::Pending);
                }
            }
        }
        cx.waker().wake_by_ref();
        Ok(Poll::Pending)
    }

    /// Writes the chunk in hand to its end.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        target: &mut BoxStream,
    ) -> io::Result<Poll<()>> {
        while !self.chunk.is_empty() {
            let before = self.chunk.len();
            match Pin::new(&mut **target).poll_write_chunk(cx, &mut self.chunk) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(result) => result?,
            }
            self.n_bytes += (before - self.chunk.len()) as u64;
            self.needs_flush = true;
        }
        Ok(Poll::Ready(()))
    }

    /// Delivers what was read before the other direction ended, and closes the target.
    fn poll_deliver(
        &mut self,
        cx: &mut Context<'_>,
        target: &mut BoxStream,
    ) -> Poll<io::Result<()>> {
        if self.poll_write(cx, target)?.is_pending() {
            return Poll::Pending;
        }
        Pin::new(&mut **target).poll_shutdown(cx)
    }
}
