//! A stream seen through an encoding: cipher or compression.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use transports::{BoxStream, Class, Stream};

pub mod aead;
pub mod cfb;
pub mod snappy;

/// An encoding of one stream, each direction with a state of its own.
pub trait Transform: Send + Unpin {
    /// Appends the encoded form of `plain` (at most [`MAX_PLAIN_LEN`] bytes) to `out`.
    fn encode(&mut self, plain: &[u8], out: &mut BytesMut) -> io::Result<()>;

    /// Takes what can be decoded from the front of `input`. `None` when it needs more bytes.
    fn decode(&mut self, input: &mut BytesMut) -> io::Result<Option<Bytes>>;
}

/// The most that is encoded at once: a snappy chunk holds no more.
pub const MAX_PLAIN_LEN: usize = 64 * 1024;

/// Read from the inner stream at once.
const READ_LEN: usize = 64 * 1024;

/// The plain side of an encoded stream.
pub struct TransformStream<T> {
    inner: BoxStream,
    transform: T,
    /// Received and not yet decoded: less than one unit of the encoding plus one read.
    encoded_in: BytesMut,
    /// Decoded and not yet read.
    plain_in: Bytes,
    /// Encoded and not yet taken by the inner stream: at most one unit of the encoding.
    encoded_out: Bytes,
    at_end: bool,
}

impl<T: Transform> TransformStream<T> {
    /// Puts `transform` around `inner`.
    pub fn new(inner: BoxStream, transform: T) -> Self {
        Self {
            inner,
            transform,
            encoded_in: BytesMut::new(),
            plain_in: Bytes::new(),
            encoded_out: Bytes::new(),
            at_end: false,
        }
    }

    /// Makes sure that something can be read, or that the end is reached.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.plain_in.is_empty() && !self.at_end {
            if let Some(plain) = self.transform.decode(&mut self.encoded_in)? {
                self.plain_in = plain;
                continue;
            }
            let chunk = ready!(Pin::new(&mut *self.inner).poll_read_chunk(cx, READ_LEN))?;
            if chunk.is_empty() {
                if !self.encoded_in.is_empty() {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                self.at_end = true;
            } else if self.encoded_in.is_empty() {
                // The only reference, usually: then the bytes are decoded where they lie.
                self.encoded_in = BytesMut::from(chunk);
            } else {
                self.encoded_in.extend_from_slice(&chunk);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Hands everything encoded so far to the inner stream.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.encoded_out.is_empty() {
            ready!(Pin::new(&mut *self.inner).poll_write_chunk(cx, &mut self.encoded_out))?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_encode(&mut self, cx: &mut Context<'_>, plain: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_drain(cx))?;
        let len = plain.len().min(MAX_PLAIN_LEN);
        let mut out = BytesMut::with_capacity(len + ENCODING_OVERHEAD);
        self.transform.encode(&plain[..len], &mut out)?;
        self.encoded_out = out.freeze();
        // What the inner stream does not take now goes with the next write or flush.
        if let Poll::Ready(Err(e)) = self.poll_drain(cx) {
            return Poll::Ready(Err(e));
        }
        Poll::Ready(Ok(len))
    }
}

/// Room for an initialisation vector, a header or a tag, so that encoding does not reallocate.
const ENCODING_OVERHEAD: usize = 64;

impl<T> fmt::Debug for TransformStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransformStream")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl<T: Transform> Stream for TransformStream<T> {
    fn poll_read_chunk(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<io::Result<Bytes>> {
        ready!(self.poll_fill(cx))?;
        let len = self.plain_in.len().min(max);
        Poll::Ready(Ok(self.plain_in.split_to(len)))
    }

    fn poll_write_chunk(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        chunk: &mut Bytes,
    ) -> Poll<io::Result<()>> {
        let len = ready!(self.poll_encode(cx, chunk))?;
        chunk.advance(len);
        Poll::Ready(Ok(()))
    }

    fn set_class(&mut self, class: Class) {
        self.inner.set_class(class);
    }

    fn reset(&mut self) {
        self.inner.reset();
    }
}

impl<T: Transform> AsyncRead for TransformStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_fill(cx))?;
        let len = self.plain_in.len().min(buf.remaining());
        buf.put_slice(&self.plain_in.split_to(len));
        Poll::Ready(Ok(()))
    }
}

impl<T: Transform> AsyncWrite for TransformStream<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.poll_encode(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut *self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut *self.inner).poll_shutdown(cx)
    }
}
