//! What the two ends of a carrier in memory share.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use crate::ended::Ended;
use crate::{CarrierError, Stream};

use super::extras::{Datagrams, Extras, Keys};
use super::pipe::{Break, Pipe};

/// Streams of a client that has not been admitted, as on the real transports.
const STRANGER_STREAMS: usize = 4;

/// Which end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client = 0,
    Server = 1,
}

impl Side {
    pub(super) fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// Two ends and the streams between them.
#[derive(Debug)]
pub(super) struct Link {
    inner: Mutex<Inner>,
    ends: [End; 2],
    pub(super) keys: Option<Keys>,
    pub(super) extras: Extras,
}

#[derive(Debug, Default)]
struct Inner {
    streams: Vec<Weak<Duplex>>,
    /// What each side can accept.
    accepting: [VecDeque<MemoryStream>; 2],
    drained_by: Option<Side>,
    is_admitted: bool,
}

/// What belongs to one end.
#[derive(Debug, Default)]
pub(super) struct End {
    pub(super) ended: Ended,
    changed: Notify,
    pub(super) bytes_sent: AtomicU64,
    pub(super) bytes_received: AtomicU64,
    /// Datagrams that have come for it.
    pub(super) datagrams: Datagrams,
}

impl Link {
    pub(super) fn new(extras: Extras) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::default(),
            ends: [End::default(), End::default()],
            keys: extras.has_keys.then(Keys::new),
            extras,
        })
    }

    pub(super) fn end(&self, side: Side) -> &End {
        &self.ends[side as usize]
    }

    /// Opens a stream, whose other end can be accepted.
    pub(super) fn open(self: &Arc<Self>, side: Side) -> Result<MemoryStream, CarrierError> {
        // Made before the lock is taken, as a stream that is dropped takes it too.
        let (ours, theirs) = MemoryStream::pair(self, side);
        if let Some(reason) = self.end(side).ended.get() {
            return Err(reason.clone());
        }
        let mut inner = self.inner.lock();
        if let Some(by) = inner.drained_by {
            drop(inner);
            return Err(CarrierError::NoStream(if by == side {
                "the carrier is being drained"
            } else {
                "the peer takes no new ones"
            }));
        }
        inner.streams.retain(|stream| stream.strong_count() > 0);
        let is_refused =
            side == Side::Client && !inner.is_admitted && inner.streams.len() >= STRANGER_STREAMS;
        if is_refused {
            drop(inner);
            ours.duplex.fail(&Break::Reset);
            return Ok(ours);
        }
        inner.streams.push(Arc::downgrade(&ours.duplex));
        inner.accepting[side.peer() as usize].push_back(theirs);
        drop(inner);
        self.end(side.peer()).changed.notify_one();
        Ok(ours)
    }

    /// The two ends of a stream that nobody has to accept.
    pub(super) fn only_stream(self: &Arc<Self>) -> [Option<MemoryStream>; 2] {
        let (client, server) = MemoryStream::pair(self, Side::Client);
        self.inner
            .lock()
            .streams
            .push(Arc::downgrade(&client.duplex));
        [Some(client), Some(server)]
    }

    /// Waits for a stream of the peer. Cancel safe.
    pub(super) async fn accept(&self, side: Side) -> Result<Option<MemoryStream>, CarrierError> {
        let end = self.end(side);
        loop {
            let accepted = self.inner.lock().accepting[side as usize].pop_front();
            if accepted.is_some() {
                return Ok(accepted);
            }
            match end.ended.get() {
                Some(CarrierError::ClosedByPeer) => return Ok(None),
                Some(reason) => return Err(reason.clone()),
                None => {}
            }
            tokio::select! {
                () = end.changed.notified() => {}
                _ = end.ended.wait() => {}
            }
        }
    }

    pub(super) fn admit(&self) {
        self.inner.lock().is_admitted = true;
    }

    pub(super) fn drain(&self, side: Side) {
        self.inner.lock().drained_by.get_or_insert(side);
        self.end_if_drained();
    }

    pub(super) fn close(&self, side: Side) {
        self.end_with(side, &CarrierError::ClosedHere, &CarrierError::ClosedByPeer);
    }

    /// Nobody will accept what `side` has not accepted.
    pub(super) fn leave(&self, side: Side) {
        self.close(side);
        let accepting = std::mem::take(&mut self.inner.lock().accepting[side as usize]);
        drop(accepting);
    }

    /// The path breaks: both ends see it.
    pub(super) fn lose(&self) {
        let lost = CarrierError::Lost("the path was cut".into());
        self.end_with(Side::Client, &lost, &lost);
    }

    pub(super) fn n_streams(&self) -> usize {
        self.inner
            .lock()
            .streams
            .iter()
            .filter(|stream| stream.strong_count() > 0)
            .count()
    }

    fn end_with(&self, side: Side, reason: &CarrierError, peers_reason: &CarrierError) {
        if self.end(side).ended.get().is_some() {
            return;
        }
        let (streams, accepting) = {
            let mut inner = self.inner.lock();
            // What the closing side has not accepted it never will. The peer still can.
            let accepting = std::mem::take(&mut inner.accepting[side as usize]);
            (std::mem::take(&mut inner.streams), accepting)
        };
        self.end(side).ended.set(reason.clone());
        self.end(side.peer()).ended.set(peers_reason.clone());
        for stream in streams.iter().filter_map(Weak::upgrade) {
            stream.pipe_to(side).fail(&Break::Carrier(reason.clone()));
            stream
                .pipe_to(side.peer())
                .fail(&Break::Carrier(peers_reason.clone()));
        }
        drop(accepting);
    }

    fn end_if_drained(&self) {
        let drained_by = {
            let inner = self.inner.lock();
            let is_idle = inner
                .streams
                .iter()
                .all(|stream| stream.strong_count() == 0);
            inner.drained_by.filter(|_| is_idle)
        };
        if let Some(side) = drained_by {
            self.close(side);
        }
    }
}

/// A stream: a pipe each way.
#[derive(Debug, Default)]
pub(super) struct Duplex {
    pipes: [Pipe; 2],
    n_dropped: AtomicUsize,
}

impl Duplex {
    fn pipe_to(&self, side: Side) -> &Pipe {
        &self.pipes[side as usize]
    }

    fn fail(&self, how: &Break) {
        self.pipes.iter().for_each(|pipe| pipe.fail(how));
    }
}

/// One end of a stream.
pub(super) struct MemoryStream {
    link: Arc<Link>,
    duplex: Arc<Duplex>,
    side: Side,
    /// The stream is the whole carrier: its end is the carrier's.
    pub(super) is_only: bool,
}

impl MemoryStream {
    /// The ends of `side` and of its peer.
    fn pair(link: &Arc<Link>, side: Side) -> (Self, Self) {
        let duplex = Arc::new(Duplex::default());
        let end = |side| Self {
            link: Arc::clone(link),
            duplex: Arc::clone(&duplex),
            side,
            is_only: false,
        };
        (end(side), end(side.peer()))
    }

    fn incoming(&self) -> &Pipe {
        self.duplex.pipe_to(self.side)
    }

    fn outgoing(&self) -> &Pipe {
        self.duplex.pipe_to(self.side.peer())
    }

    fn write(&self, cx: &Context<'_>, chunk: &mut Bytes) -> Poll<io::Result<usize>> {
        let n = ready!(self.outgoing().poll_write(cx, chunk))?;
        self.link
            .end(self.side)
            .bytes_sent
            .fetch_add(n as u64, Ordering::Relaxed);
        Poll::Ready(Ok(n))
    }
}

impl AsyncRead for MemoryStream {
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

impl AsyncWrite for MemoryStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, &mut Bytes::copy_from_slice(buf))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.outgoing().check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing().check()?;
        self.outgoing().finish();
        Poll::Ready(Ok(()))
    }
}

impl Stream for MemoryStream {
    fn poll_read_chunk(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<io::Result<Bytes>> {
        let chunk = ready!(self.incoming().poll_read(cx, max))?;
        let received = &self.link.end(self.side).bytes_received;
        received.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        Poll::Ready(Ok(chunk))
    }

    fn poll_write_chunk(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        chunk: &mut Bytes,
    ) -> Poll<io::Result<()>> {
        self.write(cx, chunk).map_ok(|_| ())
    }

    fn reset(&mut self) {
        self.duplex.fail(&Break::Reset);
        if self.is_only {
            self.link.close(self.side);
        }
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        self.outgoing().finish();
        self.incoming().discard();
        let is_last = self.duplex.n_dropped.fetch_add(1, Ordering::AcqRel) == 1;
        if is_last {
            let mut inner = self.link.inner.lock();
            inner
                .streams
                .retain(|stream| !std::ptr::eq(stream.as_ptr(), &raw const *self.duplex));
        }
        if self.is_only {
            self.link.close(self.side);
        } else if is_last {
            self.link.end_if_drained();
        }
    }
}

impl fmt::Debug for MemoryStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStream")
            .field("side", &self.side)
            .finish_non_exhaustive()
    }
}
