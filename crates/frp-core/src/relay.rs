//! Copies between a user's connection and a service's, both ways at once.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
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

/// Bytes that relays have carried, those under way included.
#[derive(Debug, Default)]
pub struct Carried {
    a_to_b: AtomicU64,
    b_to_a: AtomicU64,
}

impl Carried {
    /// Adds to both directions. Sums that nothing else depends on: relaxed is enough.
    pub fn add(&self, a_to_b: u64, b_to_a: u64) {
        for (sum, more) in [(&self.a_to_b, a_to_b), (&self.b_to_a, b_to_a)] {
            if more > 0 {
                sum.fetch_add(more, Ordering::Relaxed);
            }
        }
    }

    /// From the first to the second, and back.
    pub fn get(&self) -> (u64, u64) {
        let get = |sum: &AtomicU64| sum.load(Ordering::Relaxed);
        (get(&self.a_to_b), get(&self.b_to_a))
    }
}

/// How long a connection may stay half-closed without a byte: yamux's `StreamCloseTimeout` in frp.
pub const HALF_CLOSED_IDLE: Duration = Duration::from_secs(300);

/// Held at once in each direction. Big enough that system calls and frames are few, small enough
/// that many busy connections fit in memory.
const MAX_HELD: usize = 128 * 1024;

/// Chunks held at once: a carrier's frames may be small.
const MAX_CHUNKS: usize = 16;

/// Rounds of reading and writing before other tasks get a turn.
const MAX_ROUNDS_PER_POLL: usize = 8;

/// Carries bytes both ways until both directions have ended (see [`HalfClose`]) or one fails, and
/// adds them to `carried` as they go. Both streams are closed on return.
pub async fn relay(
    mut a: BoxStream,
    mut b: BoxStream,
    half_close: HalfClose,
    carried: &Carried,
) -> Traffic {
    let mut told = (0, 0);
    let mut a_to_b = Direction::default();
    let mut b_to_a = Direction::default();
    let mut idle: Option<(Pin<Box<tokio::time::Sleep>>, u64)> = None;

    let result = poll_fn(|cx| {
        // With a Go peer, nothing more is read once one direction has ended.
        let is_ending = half_close == HalfClose::EndBoth && (a_to_b.is_done() || b_to_a.is_done());
        let (there, back) = if is_ending {
            (
                a_to_b.poll_deliver(cx, &mut b)?,
                b_to_a.poll_deliver(cx, &mut a)?,
            )
        } else {
            (
                a_to_b.poll_copy(cx, &mut a, &mut b)?,
                b_to_a.poll_copy(cx, &mut b, &mut a)?,
            )
        };
        carried.add(a_to_b.n_bytes - told.0, b_to_a.n_bytes - told.1);
        told = (a_to_b.n_bytes, b_to_a.n_bytes);
        match (there.is_ready(), back.is_ready(), half_close) {
            (true, true, _) => return Poll::Ready(Ok(())),
            (false, false, _) => return Poll::Pending,
            (_, _, HalfClose::EndBoth) if is_ending => return Poll::Pending,
            (_, _, HalfClose::EndBoth) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            (_, _, HalfClose::Keep) => {}
        }
        let n_bytes = a_to_b.n_bytes + b_to_a.n_bytes;
        let (timer, n_bytes_before) =
            idle.get_or_insert_with(|| (Box::pin(tokio::time::sleep(HALF_CLOSED_IDLE)), n_bytes));
        if *n_bytes_before != n_bytes {
            *n_bytes_before = n_bytes;
            timer.as_mut().reset(Instant::now() + HALF_CLOSED_IDLE);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "half-closed and idle",
        )))
    })
    .await;
    // What passed in the round that failed.
    carried.add(a_to_b.n_bytes - told.0, b_to_a.n_bytes - told.1);

    Traffic {
        a_to_b: a_to_b.n_bytes,
        b_to_a: b_to_a.n_bytes,
        error: result.err(),
    }
}

/// One direction of a relay.
#[derive(Default)]
struct Direction {
    /// Read, and not yet written in full.
    chunks: VecDeque<Bytes>,
    n_held: usize,
    n_bytes: u64,
    needs_flush: bool,
    state: State,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum State {
    #[default]
    Copying,
    /// The source has ended; what is held is delivered, then the target's sending half is closed.
    Delivering,
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
        for _ in 0..MAX_ROUNDS_PER_POLL {
            match self.state {
                State::Done => return Ok(Poll::Ready(())),
                State::Delivering => return self.poll_deliver(cx, target),
                State::Copying => {}
            }
            let is_source_empty = self.poll_gather(cx, source)?.is_pending();
            if self.poll_write(cx, target)?.is_pending() {
                return Ok(Poll::Pending);
            }
            if is_source_empty {
                // Nothing more for the moment: whatever the target has buffered goes out now, and
                // an idle connection holds no memory.
                self.chunks = VecDeque::new();
                if self.needs_flush && Pin::new(&mut **target).poll_flush(cx)?.is_ready() {
                    self.needs_flush = false;
                }
                return Ok(Poll::Pending);
            }
        }
        cx.waker().wake_by_ref();
        Ok(Poll::Pending)
    }

    /// Reads what is there, within bounds. Pending when the source has no more for now.
    fn poll_gather(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut BoxStream,
    ) -> io::Result<Poll<()>> {
        while self.n_held < MAX_HELD && self.chunks.len() < MAX_CHUNKS {
            let wanted = MAX_HELD - self.n_held;
            let chunk = match Pin::new(&mut **source).poll_read_chunk(cx, wanted) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(chunk) => chunk?,
            };
            if chunk.is_empty() {
                self.state = State::Delivering;
                break;
            }
            self.n_held += chunk.len();
            self.chunks.push_back(chunk);
        }
        Ok(Poll::Ready(()))
    }

    /// Writes what is held to its end: a socket takes many small frames in one call, a carrier
    /// takes each without copying.
    fn poll_write(&mut self, cx: &mut Context<'_>, target: &mut BoxStream) -> io::Result<Poll<()>> {
        while !self.chunks.is_empty() {
            let written = if self.chunks.len() > 1 && target.is_write_vectored() {
                self.poll_write_many(cx, target)
            } else {
                self.poll_write_one(cx, target)
            };
            match written {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => self.note_written(written?),
            }
        }
        Ok(Poll::Ready(()))
    }

    fn poll_write_one(
        &mut self,
        cx: &mut Context<'_>,
        target: &mut BoxStream,
    ) -> Poll<io::Result<usize>> {
        let Some(first) = self.chunks.front_mut() else {
            return Poll::Ready(Ok(0));
        };
        let before = first.len();
        ready!(Pin::new(&mut **target).poll_write_chunk(cx, first))?;
        let written = before - first.len();
        if first.is_empty() {
            self.chunks.pop_front();
        }
        Poll::Ready(Ok(written))
    }

    fn poll_write_many(
        &mut self,
        cx: &mut Context<'_>,
        target: &mut BoxStream,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); MAX_CHUNKS];
        for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
            *slice = IoSlice::new(chunk);
        }
        let slices = &slices[..self.chunks.len().min(MAX_CHUNKS)];
        let written = ready!(Pin::new(&mut **target).poll_write_vectored(cx, slices))?;
        self.drop_front(written);
        Poll::Ready(Ok(written))
    }

    /// Delivers what was read and closes the target's sending half.
    fn poll_deliver(
        &mut self,
        cx: &mut Context<'_>,
        target: &mut BoxStream,
    ) -> io::Result<Poll<()>> {
        if self.state == State::Done {
            return Ok(Poll::Ready(()));
        }
        if self.poll_write(cx, target)?.is_pending() {
            return Ok(Poll::Pending);
        }
        match Pin::new(&mut **target).poll_shutdown(cx) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(result) => {
                result?;
                self.state = State::Done;
                Ok(Poll::Ready(()))
            }
        }
    }

    fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn drop_front(&mut self, mut n: usize) {
        while let Some(first) = self.chunks.front_mut() {
            if n < first.len() {
                first.advance(n);
                return;
            }
            n -= first.len();
            self.chunks.pop_front();
        }
    }

    fn note_written(&mut self, n: usize) {
        self.n_held -= n;
        self.n_bytes += n as u64;
        self.needs_flush = true;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::testing::pipe;

    /// A relay between two pipes; returns their far ends.
    fn start(half_close: HalfClose) -> (BoxStream, BoxStream, tokio::task::JoinHandle<Traffic>) {
        let (user, a) = pipe(1000);
        let (b, service) = pipe(1000);
        let relaying = async move { relay(a, b, half_close, &Carried::default()).await };
        (user, service, tokio::spawn(relaying))
    }

    async fn read_all(stream: &mut BoxStream) -> Vec<u8> {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        all
    }

    #[tokio::test]
    async fn every_byte_arrives_in_both_directions_and_is_counted() {
        let (mut user, mut service, relay) = start(HalfClose::Keep);
        let request = vec![7; 100_000];
        let response: Vec<u8> = (0..=255).cycle().take(300_001).collect();

        let sent_by_user = request.clone();
        let asking = tokio::spawn(async move {
            user.write_all(&sent_by_user).await.unwrap();
            user.shutdown().await.unwrap();
            read_all(&mut user).await
        });
        assert_eq!(read_all(&mut service).await, request);
        service.write_all(&response).await.unwrap();
        drop(service);

        assert_eq!(asking.await.unwrap(), response);
        let traffic = relay.await.unwrap();
        assert_eq!((traffic.a_to_b, traffic.b_to_a), (100_000, 300_001));
        assert!(traffic.error.is_none());
    }

    #[tokio::test]
    async fn with_a_go_peer_either_end_closing_ends_both() {
        let (mut user, mut service, relay) = start(HalfClose::EndBoth);
        user.write_all(b"last words").await.unwrap();
        user.shutdown().await.unwrap();

        assert_eq!(read_all(&mut service).await, b"last words");
        assert_eq!(read_all(&mut user).await, b"");
        assert_eq!(relay.await.unwrap().a_to_b, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_closed_connection_without_traffic_ends_in_the_end() {
        let (mut user, mut service, relay) = start(HalfClose::Keep);
        user.shutdown().await.unwrap();
        assert_eq!(read_all(&mut service).await, b"");

        // The service neither answers nor closes; the paused clock runs to the next timer.
        let traffic = relay.await.unwrap();
        assert_eq!(traffic.error.unwrap().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_reset_on_one_side_ends_the_other() {
        let (user, mut service, relay) = start(HalfClose::Keep);
        drop(user);

        assert_eq!(read_all(&mut service).await, b"");
        drop(service);
        relay.await.unwrap();
    }
}
