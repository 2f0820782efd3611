//! Streams for the unit tests of this crate.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use transports::{BoxStream, Stream};

/// The two ends of a pipe that holds `capacity` bytes in each direction.
pub(crate) fn pipe(capacity: usize) -> (BoxStream, BoxStream) {
    let (a, b) = tokio::io::duplex(capacity);
    (Box::new(Pipe(Some(a))), Box::new(Pipe(Some(b))))
}

/// One end; `None` after a reset.
#[derive(Debug)]
struct Pipe(Option<DuplexStream>);

impl Pipe {
    fn inner(&mut self) -> io::Result<Pin<&mut DuplexStream>> {
        self.0
            .as_mut()
            .map(Pin::new)
            .ok_or_else(|| io::ErrorKind::ConnectionReset.into())
    }
}

impl Stream for Pipe {
    fn reset(&mut self) {
        self.0 = None;
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.inner()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.inner()?.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_shutdown(cx)
    }
}
