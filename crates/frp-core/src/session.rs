//! The client's way to the server: the carrier in use, and the conns over it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use transports::{BoxStream, Carrier, CarrierError, Class, DialError, Endpoint, Stream, Transport};

/// A connection to one server, of which any number of conns (control, work, visitor) can be had:
/// streams of one carrier, or a carrier each where the transport does not multiplex.
#[derive(Debug)]
pub struct Session {
    transport: Arc<dyn Transport>,
    server: Endpoint,
    carrier: Arc<dyn Carrier>,
    /// The one stream of a carrier without multiplexing, until the first conn takes it.
    unused: Mutex<Option<Arc<dyn Carrier>>>,
}

impl Session {
    /// Dials `server`.
    pub async fn dial(transport: Arc<dyn Transport>, server: Endpoint) -> Result<Self, DialError> {
        let carrier = transport.dial(&server).await?;
        let unused = Mutex::new((!carrier.is_multiplexed()).then(|| carrier.clone()));
        Ok(Self {
            transport,
            server,
            carrier,
            unused,
        })
    }

    /// Opens a conn. The first one of a session is the control.
    pub async fn open_conn(&self) -> Result<BoxStream, OpenError> {
        if self.carrier.is_multiplexed() {
            return Ok(self.carrier.open_stream().await?);
        }
        let unused = self.unused.lock().take();
        let carrier = match unused {
            Some(carrier) => carrier,
            None => self.transport.dial(&self.server).await?,
        };
        let stream = carrier.open_stream().await?;
        Ok(CarrierStream::boxed(stream, carrier))
    }

    /// The carrier of the control conn.
    pub fn carrier(&self) -> &Arc<dyn Carrier> {
        &self.carrier
    }
}

/// Why a conn could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A carrier of its own was needed and could not be had.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The carrier is gone, or refuses another stream.
    #[error(transparent)]
    Carrier(#[from] CarrierError),
}

/// A stream that keeps the carrier alive which exists for it alone.
pub struct CarrierStream {
    stream: BoxStream,
    _carrier: Arc<dyn Carrier>,
}

impl CarrierStream {
    /// Ties the life of `carrier` to `stream`.
    pub fn boxed(stream: BoxStream, carrier: Arc<dyn Carrier>) -> BoxStream {
        Box::new(Self {
            stream,
            _carrier: carrier,
        })
    }
}

impl fmt::Debug for CarrierStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stream.fmt(f)
    }
}

impl Stream for CarrierStream {
    fn poll_read_chunk(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<io::Result<Bytes>> {
        Pin::new(&mut *self.stream).poll_read_chunk(cx, max)
    }

    fn poll_write_chunk(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        chunk: &mut Bytes,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_write_chunk(cx, chunk)
    }

    fn set_class(&mut self, class: Class) {
        self.stream.set_class(class);
    }

    fn reset(&mut self) {
        self.stream.reset();
    }
}

impl AsyncRead for CarrierStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for CarrierStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}
