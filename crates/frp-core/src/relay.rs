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
        let (timer, carried_before) =
            idle.get_or_insert_with(|| (Box::pin(tokio::time::sleep(HALF_CLOSED_IDLE)), carried));
        if *carried_before != carried {
            *carried_before = carried;
            timer.as_mut().reset(Instant::now() + HALF_CLOSED_IDLE);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "half-closed and idle",
        )))
    })
    .await;

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
    fn poll_write(&mut self, cx: &mut Context<'_>, target: &mut BoxStream) -> io::Result<Poll<()>> {
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
        (user, service, tokio::spawn(relay(a, b, half_close)))
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
