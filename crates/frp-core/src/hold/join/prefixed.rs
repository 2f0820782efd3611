//! A stream of which something has been read, and which gives it back.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use transports::{BoxStream, Class, Stream};

/// Reads `prefix` first. What comes after it costs a look at an empty slice.
pub(super) struct Prefixed {
    prefix: Bytes,
    stream: BoxStream,
}

impl Prefixed {
    pub(super) fn boxed(prefix: Bytes, stream: BoxStream) -> BoxStream {
        Box::new(Self { prefix, stream })
    }

    fn inner(&mut self) -> Pin<&mut dyn Stream> {
        Pin::new(&mut *self.stream)
    }

    /// At most `max` bytes of the prefix. The last of them lets go of its buffer.
    fn take(&mut self, max: usize) -> Bytes {
        if max >= self.prefix.len() {
            return std::mem::take(&mut self.prefix);
        }
        self.prefix.split_to(max)
    }
}

impl AsyncRead for Prefixed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return self.inner().poll_read(cx, buf);
        }
        let chunk = self.take(buf.remaining());
        buf.put_slice(&chunk);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.inner().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.inner().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_shutdown(cx)
    }
}

impl Stream for Prefixed {
    fn poll_read_chunk(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<io::Result<Bytes>> {
        if self.prefix.is_empty() {
            return self.inner().poll_read_chunk(cx, max);
        }
        Poll::Ready(Ok(self.take(max)))
    }

    fn poll_write_chunk(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        chunk: &mut Bytes,
    ) -> Poll<io::Result<()>> {
        self.inner().poll_write_chunk(cx, chunk)
    }

    fn set_class(&mut self, class: Class) {
        self.stream.set_class(class);
    }

    fn reset(&mut self) {
        self.prefix.clear();
        self.stream.reset();
    }
}

impl fmt::Debug for Prefixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prefixed")
            .field("prefix_len", &self.prefix.len())
            .field("stream", &self.stream)
            .finish()
    }
}
