//! Carriers in which bytes vanish without a word.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use transports::{
    BoxFuture, BoxStream, Carrier, CarrierError, Class, DatagramError, ExportError, PathStats,
    Stream, TransportKind,
};

/// What is wrong with one direction.
#[derive(Debug, Default)]
pub(crate) struct Fault {
    /// What is written vanishes.
    pub(crate) is_black_hole: AtomicBool,
    /// How many streams are refused before one is opened.
    pub(crate) n_refusals: AtomicUsize,
    /// Datagrams that were sent.
    pub(crate) n_datagrams: AtomicUsize,
}

/// A carrier with a fault in the direction away from this end.
#[derive(Debug)]
pub(crate) struct Faulty {
    inner: Arc<dyn Carrier>,
    fault: Arc<Fault>,
    sent: tokio::sync::mpsc::UnboundedSender<Bytes>,
    /// What was sent as datagrams, for a test to deliver.
    pub(crate) datagrams: tokio::sync::Mutex<tokio::sync::mpsc::UnboundedReceiver<Bytes>>,
}

impl Faulty {
    pub(crate) fn over(inner: Arc<dyn Carrier>, fault: &Arc<Fault>) -> Arc<dyn Carrier> {
        let (sent, datagrams) = tokio::sync::mpsc::unbounded_channel();
        Arc::new(Self {
            inner,
            fault: Arc::clone(fault),
            sent,
            datagrams: tokio::sync::Mutex::new(datagrams),
        })
    }

    fn wrap(&self, inner: BoxStream) -> BoxStream {
        Box::new(FaultyStream {
            inner,
            fault: Arc::clone(&self.fault),
        })
    }
}

impl Carrier for Faulty {
    fn kind(&self) -> TransportKind {
        self.inner.kind()
    }

    fn is_multiplexed(&self) -> bool {
        true
    }

    fn open_stream(&self) -> BoxFuture<'_, Result<BoxStream, CarrierError>> {
        Box::pin(async {
            let left = &self.fault.n_refusals;
            let less = |n: usize| n.checked_sub(1);
            if left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
                .is_ok()
            {
                return Err(CarrierError::NoStream("on purpose"));
            }
            Ok(self.wrap(self.inner.open_stream().await?))
        })
    }

    fn accept_stream(&self) -> BoxFuture<'_, Result<Option<BoxStream>, CarrierError>> {
        Box::pin(async {
            let stream = self.inner.accept_stream().await?;
            Ok(stream.map(|stream| self.wrap(stream)))
        })
    }

    fn send_datagram(&self, data: Bytes) -> Result<(), DatagramError> {
        self.fault.n_datagrams.fetch_add(1, Ordering::Relaxed);
        let _ = self.sent.send(data);
        Ok(())
    }

    fn recv_datagram(&self) -> BoxFuture<'_, Result<Bytes, DatagramError>> {
        Box::pin(async {
            let mut datagrams = self.datagrams.lock().await;
            datagrams.recv().await.ok_or(DatagramError::Unsupported)
        })
    }

    fn path_stats(&self) -> PathStats {
        self.inner.path_stats()
    }

    fn export_keying_material(
        &self,
        out: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportError> {
        self.inner.export_keying_material(out, label, context)
    }

    fn admit(&self) {
        self.inner.admit();
    }

    fn drain(&self) {
        self.inner.drain();
    }

    fn close(&self) {
        self.inner.close();
    }

    fn closed(&self) -> BoxFuture<'_, CarrierError> {
        self.inner.closed()
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.inner.local_addr()
    }

    fn peer_addr(&self) -> SocketAddr {
        self.inner.peer_addr()
    }
}

#[derive(Debug)]
struct FaultyStream {
    inner: BoxStream,
    fault: Arc<Fault>,
}

impl FaultyStream {
    fn is_hole(&self) -> bool {
        self.fault.is_black_hole.load(Ordering::Relaxed)
    }
}

impl AsyncRead for FaultyStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for FaultyStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_hole() {
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut *self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_hole() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut *self.inner).poll_shutdown(cx)
    }
}

impl Stream for FaultyStream {
    fn poll_read_chunk(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<io::Result<Bytes>> {
        Pin::new(&mut *self.inner).poll_read_chunk(cx, max)
    }

    fn poll_write_chunk(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        chunk: &mut Bytes,
    ) -> Poll<io::Result<()>> {
        if self.is_hole() {
            chunk.clear();
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut *self.inner).poll_write_chunk(cx, chunk)
    }

    fn set_class(&mut self, class: Class) {
        self.inner.set_class(class);
    }

    fn reset(&mut self) {
        if !self.is_hole() {
            self.inner.reset();
        }
    }
}
