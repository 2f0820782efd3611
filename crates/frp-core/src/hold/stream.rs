//! One held stream.
//!
//! 1. [`HeldConn`] is what the user of the stream holds: a [`Stream`] like those of carriers.
//! 2. `inner` is behind the stream's lock: the state machine of `frp_proto::hold`, which decides,
//!    and the routes that bytes go over. Whoever holds the lock moves bytes: a write goes straight
//!    into the carrier's stream.
//! 3. `link` is one route: a carrier's stream, and what of it is decoded or to be written.
//! 4. `driver` is the stream's task. Carriers wake it, it has the timer, and it opens the streams
//!    of carriers that the held stream goes on over.

mod driver;
mod inner;
mod link;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use frp_proto::hold::HeldStream;
use frp_proto::hold::frame::ResetCode;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use transports::{Class, Stream};

use super::clock::now;
use super::session::counters::Counters;
use super::session::usage::Used;
use inner::{Inner, Wakes};

pub(super) use driver::Driver;
pub(super) use inner::refusal;

/// The most that is copied of one write of a borrowed slice.
const MAX_COPY: usize = 64 * 1024;

/// What the user, the task and the session share of a held stream.
#[derive(Debug)]
pub(super) struct Shared {
    id: u64,
    inner: Mutex<Inner>,
}

impl Shared {
    pub(super) fn new(held: HeldStream, counters: &Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            id: held.id(),
            inner: Mutex::new(Inner::new(held, Arc::clone(counters))),
        })
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Does something with the stream, and then wakes whom it concerns.
    pub(super) fn with<T>(&self, op: impl FnOnce(&mut Inner, &mut Wakes) -> T) -> T {
        let mut wakes = Wakes::default();
        let result = op(&mut self.inner.lock(), &mut wakes);
        wakes.wake();
        result
    }

    /// Looks at the stream.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Inner) -> T) -> T {
        look(&self.inner.lock())
    }
}

/// A held stream, as its user holds it.
pub(super) struct HeldConn {
    shared: Arc<Shared>,
    /// Absent for the control stream, which has no user.
    used: Option<Used>,
}

impl HeldConn {
    pub(super) fn new(shared: Arc<Shared>, used: Option<Used>) -> Self {
        Self { shared, used }
    }

    fn write(&mut self, cx: &mut Context<'_>, chunk: &mut Bytes) -> Poll<io::Result<usize>> {
        let written = self
            .shared
            .with(|inner, wakes| inner.poll_write(cx, chunk, now(), wakes));
        if let (Poll::Ready(Ok(n)), Some(used)) = (&written, &mut self.used) {
            used.note_written(*n);
        }
        written
    }
}

impl AsyncRead for HeldConn {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let chunk = ready!(self.poll_read_chunk(cx, buf.remaining()))?;
        buf.put_slice(&chunk);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for HeldConn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut bytes = Bytes::copy_from_slice(&buf[..buf.len().min(MAX_COPY)]);
        self.write(cx, &mut bytes)
    }

    /// What was written is on its way already, or waits for a carrier.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shared.look(Inner::check))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.with(|inner, wakes| {
            inner.finish(now(), wakes);
            Poll::Ready(inner.check())
        })
    }
}

impl Stream for HeldConn {
    fn poll_read_chunk(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<io::Result<Bytes>> {
        let read = self
            .shared
            .with(|inner, wakes| inner.poll_read(cx, max, now(), wakes));
        if let (Poll::Ready(Ok(chunk)), Some(used)) = (&read, &mut self.used) {
            used.note_read(chunk.len());
        }
        read
    }

    fn poll_write_chunk(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        chunk: &mut Bytes,
    ) -> Poll<io::Result<()>> {
        self.write(cx, chunk).map_ok(|_| ())
    }

    fn set_class(&mut self, class: Class) {
        self.shared.with(|inner, _| inner.set_class(class));
    }

    fn reset(&mut self) {
        self.shared
            .with(|inner, wakes| inner.reset(ResetCode::BROKEN, now(), wakes));
    }
}

impl Drop for HeldConn {
    fn drop(&mut self) {
        self.shared
            .with(|inner, wakes| inner.drop_user(now(), wakes));
    }
}

impl fmt::Debug for HeldConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldConn")
            .field("id", &self.shared.id)
            .finish_non_exhaustive()
    }
}

// What an idle stream takes beside its task, with its one route and the counts of its `Arc`.
const _: () = assert!(size_of::<Shared>() + size_of::<link::Link>() + 16 <= 1024);
