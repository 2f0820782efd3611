//! The task between a session and its byte stream: it reads, writes and keeps time.
//!
//! There is one for each carrier. It takes the session's lock once for all that it has read and
//! all that it is to write next; system calls and encryption happen outside of the lock.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::CarrierError;
use crate::info::Io;
use crate::read_buffer::ReadBuffer;

use super::batch::Batch;
use super::session::Phase;
use super::shared::{Shared, now};

#[cfg(test)]
mod tests;

/// How long a closed carrier goes on sending: the contract's second.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The most that is read at once. Larger reads bring nothing and pin more memory.
const READ_LEN_MAX: usize = 64 * 1024;

/// The same for strangers.
const STRANGER_READ_LEN_MAX: usize = 4 * 1024;

/// What has been read is handed on at the latest when it is this much.
const FEED_LEN: usize = 32 * 1024;

/// Slices in one write. Linux takes 1,024; a batch rarely has more than these.
const N_SLICES: usize = 64;

/// Rounds of reading and writing before other tasks get their turn.
const ROUNDS_MAX: usize = 16;

/// Drives one carrier until its end.
pub(super) struct Driver<I: Io> {
    shared: Arc<Shared>,
    io: I,
    read_buffer: ReadBuffer,
    batch: Batch,
    /// The byte stream may hold what it has taken.
    flush_wanted: bool,
    write_error: Option<io::Error>,
    timer: Pin<Box<Sleep>>,
    phase: Phase,
    close_at: Option<Instant>,
    /// The byte stream is told of its end, and takes nothing any more.
    is_shutting: bool,
    /// The byte stream's own end has been sent.
    is_shut: bool,
    abort: Option<Box<dyn Fn() + Send + Sync>>,
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Something was done: there may be more.
    Done,
    /// Nothing to do until woken.
    Waits,
}

impl<I: Io> Driver<I> {
    pub(super) fn new(
        shared: Arc<Shared>,
        io: I,
        abort: Option<Box<dyn Fn() + Send + Sync>>,
    ) -> Self {
        Self {
            shared,
            io,
            read_buffer: ReadBuffer::new(STRANGER_READ_LEN_MAX),
            batch: Batch::default(),
            flush_wanted: false,
            write_error: None,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            phase: Phase::Open,
            close_at: None,
            is_shutting: false,
            is_shut: false,
            abort,
        }
    }

    /// Reads until there is nothing more or enough to hand on.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<Step, ReadEnd> {
        let mut step = Step::Waits;
        while self.read_buffer.bytes_mut().len() < FEED_LEN {
            match self.read_buffer.poll_fill(&mut self.io, cx) {
                Poll::Ready(Ok(0)) => return Err(ReadEnd::Eof),
                Poll::Ready(Ok(_)) => step = Step::Done,
                Poll::Ready(Err(e)) => return Err(ReadEnd::Error(e)),
                Poll::Pending => break,
            }
        }
        Ok(step)
    }

    /// Lets the session have what was read, and takes what it wants sent.
    fn exchange(&mut self, end: Option<ReadEnd>) {
        let now = now();
        let Self {
            shared,
            read_buffer,
            batch,
            write_error,
            is_shutting,
            ..
        } = self;
        let mut next_timeout = now;
        let mut is_admitted = false;
        self.phase = shared.with_driver(|session| {
            let bytes = read_buffer.bytes_mut();
            session.handle_bytes(bytes, now);
            match (end, write_error.take()) {
                // The system tells of a reset once, and here the writer was told: to the reader it
                // looks like the end. Had the peer ended in good order before, the writer would
                // have been told of a broken pipe.
                (Some(ReadEnd::Eof), Some(e)) if e.kind() == io::ErrorKind::ConnectionReset => {
                    session.handle_io_error(&e);
                }
                (Some(ReadEnd::Eof), _) => session.handle_eof(!bytes.is_empty()),
                (Some(ReadEnd::Error(e)), _) | (None, Some(e)) => session.handle_io_error(&e),
                (None, None) => {}
            }
            session.handle_timeout(now);
            // The peer may ask for something while it has not read our end yet. An answer could not
            // be written, and the error would break off what is still on its way.
            let is_blocked = !batch.is_empty() || *is_shutting;
            if !is_blocked {
                session.poll_transmit(batch, now);
            }
            next_timeout = session.poll_timeout(is_blocked);
            is_admitted = session.is_admitted();
            session.phase()
        });
        if is_admitted {
            self.read_buffer.set_max_len(READ_LEN_MAX);
        }
        if self.phase == Phase::Closing {
            let close_at = *self
                .close_at
                .get_or_insert_with(|| Instant::now() + CLOSE_TIMEOUT);
            // The session's own times no longer matter.
            next_timeout = close_at.into_std();
        }
        // Put off lazily: when it fires too early it is set anew.
        let next_timeout = Instant::from_std(next_timeout);
        if self.timer.is_elapsed() || next_timeout < self.timer.deadline() {
            self.timer.as_mut().reset(next_timeout);
        }
    }

    /// Writes the batch.
    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<Step> {
        let mut step = Step::Waits;
        while !self.batch.is_empty() {
            let mut slices = [IoSlice::new(&[]); N_SLICES];
            let n_slices = self.batch.fill(&mut slices);
            let io = Pin::new(&mut self.io);
            match io.poll_write_vectored(cx, &slices[..n_slices])? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(n) => {
                    self.batch.advance(n);
                    self.flush_wanted = true;
                    step = Step::Done;
                }
                Poll::Pending => return Ok(Step::Waits),
            }
        }
        Ok(step)
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.flush_wanted && Pin::new(&mut self.io).poll_flush(cx)?.is_ready() {
            self.flush_wanted = false;
        }
        Ok(())
    }

    /// The end of a carrier that was closed here: everything is sent, then the end is. Reading
    /// goes on until the peer has closed as well: a socket that is closed over unread bytes takes
    /// back what it has sent.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.is_shutting = self.is_shutting
            || (self.batch.is_empty() && self.shared.with(|session| session.is_flushed()));
        if self.is_shutting && !self.is_shut {
            self.is_shut = Pin::new(&mut self.io).poll_shutdown(cx).is_ready();
        }
        if self.close_at.is_some_and(|at| Instant::now() >= at) {
            self.shared
                .with(|session| session.end(CarrierError::ClosedHere));
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

/// How reading came to its end.
enum ReadEnd {
    Eof,
    Error(io::Error),
}

impl<I: Io> Future for Driver<I> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.shared.set_driver(cx.waker());
        for _ in 0..ROUNDS_MAX {
            let (read, end) = match this.read(cx) {
                Ok(step) => (step, None),
                Err(end) => (Step::Done, Some(end)),
            };
            this.exchange(end);
            if this.phase == Phase::Over {
                return Poll::Ready(());
            }
            let write = match this.write(cx) {
                Ok(step) => step,
                Err(e) => {
                    // What the peer said last may lie in the receive buffer: one more look.
                    this.batch.clear();
                    this.write_error = Some(e);
                    continue;
                }
            };
            if this.phase == Phase::Closing && this.poll_close(cx).is_ready() {
                return Poll::Ready(());
            }
            if read == Step::Done || write == Step::Done {
                continue;
            }
            if let Err(e) = this.flush(cx) {
                this.write_error = Some(e);
                continue;
            }
            if this.timer.as_mut().poll(cx).is_ready() {
                continue;
            }
            if !this.batch.is_empty() {
                this.shared.set_driver_busy();
            }
            return Poll::Pending;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<I: Io> Drop for Driver<I> {
    /// The task ends with the carrier, with the runtime, or by a panic.
    fn drop(&mut self) {
        let reason = CarrierError::Lost("the task of the carrier has ended".into());
        self.shared.with(|session| session.end(reason));
        self.shared.gone.set(CarrierError::ClosedHere);
        if self.phase != Phase::Closing
            && let Some(abort) = &self.abort
        {
            abort();
        }
    }
}
