//! One direction of a stream: bytes that wait in memory to be read.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::CarrierError;

/// What may wait to be read before the writer has to wait. The same order as a real transport's
/// window, so that tests meet back-pressure.
const CAPACITY: usize = 64 * 1024;

/// Bytes on their way from one end to the other.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    chunks: VecDeque<Bytes>,
    len: usize,
    /// The writer has finished.
    is_finished: bool,
    /// The reader takes no more: what is written vanishes.
    is_discarding: bool,
    /// Why the direction broke.
    broken: Option<Break>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// How a direction breaks.
#[derive(Clone, Debug)]
pub(super) enum Break {
    /// One of the ends reset the stream: what was not read is lost.
    Reset,
    /// The carrier ended: what was written can still be read.
    Carrier(CarrierError),
}

impl Break {
    fn error(&self) -> io::Error {
        match self {
            Self::Reset => io::Error::new(io::ErrorKind::ConnectionReset, "the stream was reset"),
            Self::Carrier(reason) => {
                io::Error::new(io::ErrorKind::ConnectionAborted, reason.clone())
            }
        }
    }
}

impl Pipe {
    pub(super) fn poll_read(&self, cx: &Context<'_>, max: usize) -> Poll<io::Result<Bytes>> {
        let mut inner = self.inner.lock();
        if let Some(broken @ Break::Reset) = &inner.broken {
            return Poll::Ready(Err(broken.error()));
        }
        if max == 0 {
            return Poll::Ready(Ok(Bytes::new()));
        }
        if let Some(front) = inner.chunks.front_mut() {
            let chunk = front.split_to(front.len().min(max));
            if front.is_empty() {
                inner.chunks.pop_front();
            }
            inner.len -= chunk.len();
            wake(&mut inner.writer);
            return Poll::Ready(Ok(chunk));
        }
        if inner.is_finished {
            return Poll::Ready(Ok(Bytes::new()));
        }
        if let Some(broken) = &inner.broken {
            return Poll::Ready(Err(broken.error()));
        }
        inner.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Takes a prefix of `chunk`. Says how much.
    pub(super) fn poll_write(
        &self,
        cx: &Context<'_>,
        chunk: &mut Bytes,
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.inner.lock();
        if let Some(broken) = &inner.broken {
            return Poll::Ready(Err(broken.error()));
        }
        if inner.is_finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = if inner.is_discarding {
            chunk.len()
        } else {
            CAPACITY - inner.len
        };
        if room == 0 {
            inner.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let prefix = chunk.split_to(chunk.len().min(room));
        let len = prefix.len();
        if !inner.is_discarding && len > 0 {
            inner.len += len;
            inner.chunks.push_back(prefix);
            wake(&mut inner.reader);
        }
        Poll::Ready(Ok(len))
    }

    pub(super) fn check(&self) -> io::Result<()> {
        match &self.inner.lock().broken {
            Some(broken) => Err(broken.error()),
            None => Ok(()),
        }
    }

    pub(super) fn finish(&self) {
        let mut inner = self.inner.lock();
        inner.is_finished |= inner.broken.is_none();
        wake(&mut inner.reader);
    }

    pub(super) fn discard(&self) {
        let mut inner = self.inner.lock();
        inner.is_discarding = true;
        inner.chunks.clear();
        inner.len = 0;
        wake(&mut inner.writer);
    }

    pub(super) fn fail(&self, how: &Break) {
        let mut inner = self.inner.lock();
        inner.broken.get_or_insert_with(|| how.clone());
        wake(&mut inner.reader);
        wake(&mut inner.writer);
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
