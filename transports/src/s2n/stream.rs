//! A stream of a connection of s2n-quic.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use s2n_quic::stream::{BidirectionalStream, Error, ReceiveStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::shared::{NO_ERROR, REFUSED, RESET, Shared, code_of};
use crate::Stream;

/// One bidirectional stream of the connection. The peer learns of it with its first byte: s2n-quic
/// sends no frame that is empty.
pub(super) struct S2nStream {
    id: u64,
    /// The carrier has it as well, to know what is under way when it is closed.
    send: Arc<Mutex<SendStream>>,
    recv: ReceiveStream,
    shared: Arc<Shared>,
    /// Received and not read yet.
    rest: Bytes,
    is_finished: bool,
    /// The receiving half is over, in whichever way.
    read_ended: bool,
    /// Both halves are: one of the sides has reset the stream.
    is_reset: bool,
    /// Bytes taken for a peer that does not read any more.
    n_discarded: usize,
    /// Who waits for the receiving half to end.
    stopped_writer: Option<Waker>,
}

impl S2nStream {
    /// Wraps a stream that the carrier has counted.
    pub(super) fn new(shared: Arc<Shared>, stream: BidirectionalStream) -> Self {
        let id = stream.id();
        let (recv, send) = stream.split();
        Self {
            id,
            send: shared.begin_sending(send),
            recv,
            shared,
            rest: Bytes::new(),
            is_finished: false,
            read_ended: false,
            is_reset: false,
            n_discarded: 0,
            stopped_writer: None,
        }
    }

    /// Sends a prefix of what is `len` bytes long, as `take` cuts it off.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        len: usize,
        take: impl FnOnce(usize) -> Bytes,
    ) -> Poll<io::Result<usize>> {
        self.check_alive()?;
        if self.is_finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if len == 0 {
            return Poll::Ready(Ok(0));
        }
        let mut send = self.send.lock();
        let outcome = ready!(send.poll_send_ready(cx)).and_then(|room| {
            let chunk = take(room.min(len));
            let n = chunk.len();
            send.send_data(chunk).map(|()| n)
        });
        drop(send);
        match outcome {
            Ok(n) => {
                self.shared.note_sent(n);
                Poll::Ready(Ok(n))
            }
            Err(error) => self.poll_send_failed(cx, len, &error),
        }
    }

    fn poll_send_failed(
        &mut self,
        cx: &mut Context<'_>,
        len: usize,
        error: &Error,
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(match error {
            Error::StreamReset { error, .. } if code_of(*error) == u64::from(NO_ERROR) => {
                return self.poll_discard(cx, len).map(|n| match n {
                    0 => Err(io::ErrorKind::BrokenPipe.into()),
                    n => Ok(n),
                });
            }
            Error::StreamReset { error, .. } => self.reset_by_peer(code_of(*error)),
            Error::ConnectionError { error, .. } => {
                self.shared.ended_by(error);
                self.shared.as_io_error()
            }
            _ => io::ErrorKind::BrokenPipe.into(),
        }))
    }

    /// The peer has dropped the stream. See the same function of [`crate::quic`]'s streams.
    fn poll_discard(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<usize> {
        if self.read_ended {
            return Poll::Ready(0);
        }
        let n = len.min(MAX_DISCARDED - self.n_discarded);
        if n == 0 {
            self.stopped_writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.n_discarded += n;
        Poll::Ready(n)
    }

    /// Waits until there is something in `rest`, or the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_alive()?;
        if !self.rest.is_empty() || self.read_ended {
            return Poll::Ready(Ok(()));
        }
        let error = match ready!(self.recv.poll_receive(cx)) {
            Ok(Some(chunk)) => {
                self.rest = chunk;
                return Poll::Ready(Ok(()));
            }
            Ok(None) => {
                self.end_reading();
                return Poll::Ready(Ok(()));
            }
            Err(Error::StreamReset { error, .. }) => self.reset_by_peer(code_of(error)),
            Err(Error::ConnectionError { error, .. }) => {
                self.shared.ended_by(&error);
                self.shared.as_io_error()
            }
            Err(_) => io::ErrorKind::NotConnected.into(),
        };
        self.end_reading();
        Poll::Ready(Err(error))
    }

    fn end_reading(&mut self) {
        self.read_ended = true;
        if let Some(writer) = self.stopped_writer.take() {
            writer.wake();
        }
    }

    fn check_alive(&self) -> io::Result<()> {
        if self.shared.is_closing() || self.shared.gone.get().is_some() {
            return Err(self.shared.as_io_error());
        }
        if self.is_reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }

    fn reset_by_peer(&mut self, code: u64) -> io::Error {
        self.is_reset = true;
        if code == u64::from(REFUSED) {
            self.shared.note_peer_drains();
        }
        let what = format!("the peer has reset the stream: error {code}");
        io::Error::new(io::ErrorKind::ConnectionReset, what)
    }
}

/// Turns down a stream that the peer has opened.
pub(super) fn refuse(stream: BidirectionalStream, code: u8) {
    let (mut recv, mut send) = stream.split();
    // They fail only when the stream is over already.
    let _ = send.reset(code.into());
    let _ = recv.stop_sending(code.into());
}

impl AsyncRead for S2nStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_fill(cx))?;
        let n = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest.split_to(n));
        self.shared.note_received(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for S2nStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, buf.len(), |n| Bytes::copy_from_slice(&buf[..n]))
    }

    /// What was written is on its way by itself. A stream on which nothing was cannot be announced.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.check_alive())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_finished {
            return Poll::Ready(Ok(()));
        }
        self.check_alive()?;
        self.is_finished = true;
        // It fails only when the sending half is over already.
        let _ = self.send.lock().finish();
        Poll::Ready(Ok(()))
    }
}

impl Stream for S2nStream {
    fn poll_read_chunk(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<io::Result<Bytes>> {
        if max == 0 {
            return Poll::Ready(Ok(Bytes::new()));
        }
        ready!(self.poll_fill(cx))?;
        let n = self.rest.len().min(max);
        self.shared.note_received(n);
        Poll::Ready(Ok(self.rest.split_to(n)))
    }

    fn poll_write_chunk(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        chunk: &mut Bytes,
    ) -> Poll<io::Result<()>> {
        let len = chunk.len();
        let n = ready!(self.poll_send(cx, len, |n| chunk.split_to(n)))?;
        // What was taken and not sent is still there.
        chunk.advance(chunk.len() - (len - n));
        Poll::Ready(Ok(()))
    }

    fn reset(&mut self) {
        if std::mem::replace(&mut self.is_reset, true) {
            return;
        }
        // They fail only when a half is over already.
        let _ = self.send.lock().reset(RESET.into());
        let _ = self.recv.stop_sending(RESET.into());
        self.end_reading();
    }
}

impl Drop for S2nStream {
    /// Ends the sending half after what was written; s2n-quic stops the receiving one with code 0,
    /// as Go's streams do on close.
    fn drop(&mut self) {
        self.shared.end_sending(self.id);
        self.shared.end_stream();
    }
}

impl fmt::Debug for S2nStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S2nStream")
            .field("id", &self.id)
            .field("peer_addr", &self.shared.peer_addr())
            .finish_non_exhaustive()
    }
}

/// Bytes taken for a peer that does not read any more, as many as with quinn.
const MAX_DISCARDED: usize = 256 * 1024;
