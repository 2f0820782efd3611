//! A carrier with exactly one stream: frp's `tcpMux = false`.
//!
//! The one stream is the byte stream itself. Whoever asks first, by opening or by accepting, gets
//! it. The byte stream lies behind a lock, shared by the carrier and its stream, so that closing
//! the carrier ends the stream wherever it is by then.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::ended::Ended;
use crate::info::{Admission, CarrierInfo, Exporter, Io, Path};
use crate::read_buffer::ReadBuffer;
use crate::{
    BoxFuture, BoxStream, Carrier, CarrierError, ExportError, PathStats, Stream, TransportKind,
};

/// A carrier with one stream over a byte stream.
pub struct SingleCarrier<I: Io> {
    shared: Arc<Shared<I>>,
}

impl<I: Io> SingleCarrier<I> {
    /// Makes a carrier of `io`.
    pub fn start(io: I, info: CarrierInfo) -> Arc<dyn Carrier> {
        Arc::new(Self {
            shared: Arc::new(Shared {
                inner: Mutex::new(Inner {
                    io: Some(io),
                    is_taken: false,
                    read_ended: false,
                    write_ended: false,
                    reader: None,
                    writer: None,
                    admission: info.admission,
                    abort: info.abort,
                }),
                ended: Ended::default(),
                bytes_sent: AtomicU64::new(0),
                bytes_received: AtomicU64::new(0),
                kind: info.kind,
                local_addr: info.local_addr,
                peer_addr: info.peer_addr,
                exporter: info.exporter,
                path: info.path,
            }),
        })
    }
}

impl<I: Io> Carrier for SingleCarrier<I> {
    fn kind(&self) -> TransportKind {
        self.shared.kind
    }

    fn is_multiplexed(&self) -> bool {
        false
    }

    fn open_stream(&self) -> BoxFuture<'_, Result<BoxStream, CarrierError>> {
        Box::pin(async {
            if let Some(reason) = self.shared.ended.get() {
                return Err(reason.clone());
            }
            let stream = self.shared.take_stream();
            stream.ok_or(CarrierError::NoStream("the carrier has only one"))
        })
    }

    fn accept_stream(&self) -> BoxFuture<'_, Result<Option<BoxStream>, CarrierError>> {
        Box::pin(async {
            match self.shared.ended.get() {
                Some(CarrierError::ClosedByPeer) => Ok(None),
                Some(reason) => Err(reason.clone()),
                None => Ok(self.shared.take_stream()),
            }
        })
    }

    fn path_stats(&self) -> PathStats {
        let is_open = self.shared.ended.get().is_none() && self.shared.inner.lock().is_taken;
        let mut stats = PathStats {
            rtt: None,
            bytes_sent: self.shared.bytes_sent.load(Ordering::Relaxed),
            bytes_received: self.shared.bytes_received.load(Ordering::Relaxed),
            n_streams: usize::from(is_open),
            ..PathStats::default()
        };
        if let Some(path) = &self.shared.path {
            path.fill(&mut stats);
        }
        stats
    }

    fn export_keying_material(
        &self,
        out: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportError> {
        let exporter = self.shared.exporter.as_ref().ok_or(ExportError)?;
        exporter.export(out, label, context)
    }

    fn admit(&self) {
        if let Some(admission) = &self.shared.inner.lock().admission {
            admission.admit();
        }
    }

    fn drain(&self) {
        let is_unused = {
            let mut inner = self.shared.inner.lock();
            !std::mem::replace(&mut inner.is_taken, true)
        };
        if is_unused {
            self.shared
                .end(CarrierError::ClosedHere, Farewell::Finish(CLOSE_TIMEOUT));
        }
    }

    fn close(&self) {
        self.shared
            .end(CarrierError::ClosedHere, Farewell::Finish(CLOSE_TIMEOUT));
    }

    fn handle_holdfast_peer(&self) {
        if let Some(path) = &self.shared.path {
            path.handle_holdfast_peer();
        }
    }

    fn closed(&self) -> BoxFuture<'_, CarrierError> {
        Box::pin(self.shared.ended.wait())
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.shared.local_addr
    }

    fn peer_addr(&self) -> SocketAddr {
        self.shared.peer_addr
    }
}

impl<I: Io> Drop for SingleCarrier<I> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<I: Io> fmt::Debug for SingleCarrier<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleCarrier")
            .field("kind", &self.shared.kind)
            .field("peer_addr", &self.shared.peer_addr)
            .field("ended", &self.shared.ended.get())
            .finish_non_exhaustive()
    }
}

/// What the carrier and its stream share.
struct Shared<I> {
    inner: Mutex<Inner<I>>,
    ended: Ended,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
    kind: TransportKind,
    local_addr: Option<SocketAddr>,
    peer_addr: SocketAddr,
    exporter: Option<Arc<dyn Exporter>>,
    path: Option<Arc<dyn Path>>,
}

struct Inner<I> {
    /// Gone once the carrier has ended.
    io: Option<I>,
    is_taken: bool,
    read_ended: bool,
    write_ended: bool,
    /// Who waits in a read and in a write, to be told of the end.
    reader: Option<Waker>,
    writer: Option<Waker>,
    admission: Option<Box<dyn Admission>>,
    abort: Option<Box<dyn Fn() + Send + Sync>>,
}

/// How the byte stream is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Farewell {
    /// Sends what was written, then the end, for as long as given.
    Finish(Duration),
    /// At once, as an error for the peer where that can be had.
    Abort,
}

impl<I: Io> Shared<I> {
    fn take_stream(self: &Arc<Self>) -> Option<BoxStream> {
        if std::mem::replace(&mut self.inner.lock().is_taken, true) {
            return None;
        }
        Some(Box::new(SingleStream {
            shared: Arc::clone(self),
            read_buffer: ReadBuffer::new(READ_LEN_MAX),
        }))
    }

    /// Ends the carrier, unless it has ended.
    fn end(&self, reason: CarrierError, farewell: Farewell) {
        if !self.ended.set(reason) {
            return;
        }
        let (io, abort, admission, wakers) = {
            let mut inner = self.inner.lock();
            let wakers = [inner.reader.take(), inner.writer.take()];
            (
                inner.io.take(),
                inner.abort.take(),
                inner.admission.take(),
                wakers,
            )
        };
        drop(admission);
        wakers.into_iter().flatten().for_each(Waker::wake);
        let Some(io) = io else { return };
        match farewell {
            Farewell::Abort => {
                if let Some(abort) = abort {
                    abort();
                }
            }
            Farewell::Finish(within) => finish(io, within),
        }
    }

    /// Runs `op` on the byte stream, and ends the carrier when it fails.
    fn with_io<T>(
        &self,
        op: impl FnOnce(&mut Inner<I>, Pin<&mut I>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let result = {
            let mut inner = self.inner.lock();
            // Taken out for the call, so that `op` can note in `inner` who waits.
            let Some(mut io) = inner.io.take() else {
                drop(inner);
                return Poll::Ready(Err(self.gone()));
            };
            let result = op(&mut inner, Pin::new(&mut io));
            inner.io = Some(io);
            result
        };
        if let Poll::Ready(Err(e)) = &result {
            self.end(CarrierError::Lost(e.to_string()), Farewell::Abort);
        }
        result
    }

    fn gone(&self) -> io::Error {
        let reason = self
            .ended
            .get()
            .cloned()
            .unwrap_or(CarrierError::ClosedHere);
        io::Error::new(io::ErrorKind::ConnectionAborted, reason)
    }

    /// Both halves have come to their end in good order: so has the carrier.
    fn end_if_complete(&self) {
        let is_complete = {
            let inner = self.inner.lock();
            inner.read_ended && inner.write_ended
        };
        if is_complete {
            self.end(CarrierError::ClosedByPeer, Farewell::Finish(CLOSE_TIMEOUT));
        }
    }
}

/// Sends what `io` still holds, then its end; in a task of its own if that has to wait.
fn finish<I: Io>(mut io: I, within: Duration) {
    let mut cx = Context::from_waker(Waker::noop());
    if Pin::new(&mut io).poll_shutdown(&mut cx).is_ready() {
        return;
    }
    // Outside a runtime there is nothing that could wait.
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move {
            let shutdown = poll_fn(|cx| Pin::new(&mut io).poll_shutdown(cx));
            let _ = tokio::time::timeout(within, shutdown).await;
        });
    }
}

/// The one stream.
struct SingleStream<I: Io> {
    shared: Arc<Shared<I>>,
    read_buffer: ReadBuffer,
}

impl<I: Io> SingleStream<I> {
    /// Reads into the buffer. `Ok(0)` is the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let read_buffer = &mut self.read_buffer;
        let n = ready!(self.shared.with_io(|inner, mut io| {
            let result = read_buffer.poll_fill(&mut *io, cx);
            if result.is_pending() {
                note(&mut inner.reader, cx);
            }
            result
        }))?;
        self.note_read(n);
        Poll::Ready(Ok(n))
    }

    fn note_read(&self, n: usize) {
        self.shared
            .bytes_received
            .fetch_add(n as u64, Ordering::Relaxed);
        if n == 0 {
            self.shared.inner.lock().read_ended = true;
            self.shared.end_if_complete();
        }
    }

    fn has_read_all(&self) -> bool {
        self.read_buffer.is_empty() && self.shared.inner.lock().read_ended
    }

    fn poll_writing<T>(
        &self,
        cx: &mut Context<'_>,
        op: impl FnOnce(Pin<&mut I>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.shared.with_io(|inner, io| {
            let result = op(io, cx);
            if result.is_pending() {
                note(&mut inner.writer, cx);
            }
            result
        })
    }

    fn note_written(&self, n: usize) -> Poll<io::Result<usize>> {
        self.shared
            .bytes_sent
            .fetch_add(n as u64, Ordering::Relaxed);
        Poll::Ready(Ok(n))
    }
}

/// Notes who waits.
fn note(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

impl<I: Io> AsyncRead for SingleStream<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.read_buffer.is_empty() {
            buf.put_slice(&self.read_buffer.take(buf.remaining()));
            return Poll::Ready(Ok(()));
        }
        if buf.remaining() == 0 || self.has_read_all() {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(self.shared.with_io(|inner, io| {
            let result = io.poll_read(cx, buf);
            if result.is_pending() {
                note(&mut inner.reader, cx);
            }
            result
        }))?;
        self.note_read(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<I: Io> AsyncWrite for SingleStream<I> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(self.poll_writing(cx, |io, cx| io.poll_write(cx, buf)))?;
        self.note_written(n)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(self.poll_writing(cx, |io, cx| io.poll_write_vectored(cx, bufs)))?;
        self.note_written(n)
    }

    fn is_write_vectored(&self) -> bool {
        self.shared
            .inner
            .lock()
            .io
            .as_ref()
            .is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_writing(cx, |io, cx| io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.shared.inner.lock().write_ended {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_writing(cx, |io, cx| io.poll_shutdown(cx)))?;
        self.shared.inner.lock().write_ended = true;
        self.shared.end_if_complete();
        Poll::Ready(Ok(()))
    }
}

impl<I: Io> Stream for SingleStream<I> {
    fn poll_read_chunk(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<io::Result<Bytes>> {
        if self.read_buffer.is_empty() && !self.has_read_all() {
            ready!(self.poll_fill(cx))?;
        }
        Poll::Ready(Ok(self.read_buffer.take(max)))
    }

    fn reset(&mut self) {
        self.shared.end(CarrierError::ClosedHere, Farewell::Abort);
    }
}

impl<I: Io> Drop for SingleStream<I> {
    fn drop(&mut self) {
        self.shared
            .end(CarrierError::ClosedHere, Farewell::Finish(LINGER_TIMEOUT));
    }
}

impl<I: Io> fmt::Debug for SingleStream<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleStream")
            .field("kind", &self.shared.kind)
            .field("peer_addr", &self.shared.peer_addr)
            .finish_non_exhaustive()
    }
}

/// How long a closed carrier goes on sending: the contract's second.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a dropped stream goes on sending what was written: as long as a multiplexed one.
const LINGER_TIMEOUT: Duration = Duration::from_secs(300);

/// The most that one read without copying takes: four TLS records; larger reads gain nothing.
const READ_LEN_MAX: usize = 64 * 1024;
