//! A stream of a QUIC connection.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::shared::Shared;
use crate::{Class, Stream};

/// One bidirectional stream of the connection.
///
/// The peer learns of a stream with its first frame. Whoever opens one and waits before he has
/// written anything gets an empty frame sent.
pub(super) struct QuicStream {
    /// Present until the drop, which may have to keep it a little longer.
    send: Option<SendStream>,
    recv: RecvStream,
    shared: Arc<Shared>,
    class: Class,
    /// The peer knows of the stream, or is about to.
    is_announced: bool,
    /// Somebody waits for room to write, and quinn wakes only one for each stream.
    is_write_pending: bool,
    /// This side has ended its sending half.
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

impl QuicStream {
    /// Wraps a stream that this side has opened.
    pub(super) fn opened(shared: Arc<Shared>, send: SendStream, recv: RecvStream) -> Self {
        Self {
            send: Some(send),
            recv,
            shared,
            class: Class::default(),
            is_announced: false,
            is_write_pending: false,
            is_finished: false,
            read_ended: false,
            is_reset: false,
            n_discarded: 0,
            stopped_writer: None,
        }
    }

    /// Wraps a stream that the peer has opened.
    pub(super) fn accepted(shared: Arc<Shared>, send: SendStream, recv: RecvStream) -> Self {
        let mut stream = Self::opened(shared, send, recv);
        stream.is_announced = true;
        stream
    }

    /// Runs `op` on the sending half; `len` is the most that it sends.
    fn poll_sending(
        &mut self,
        cx: &mut Context<'_>,
        len: usize,
        op: impl FnOnce(&mut SendStream, &mut Context<'_>) -> Poll<Result<usize, WriteError>>,
    ) -> Poll<io::Result<usize>> {
        self.check_alive()?;
        let Some(send) = &mut self.send else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        match ready!(op(send, cx)) {
            Ok(n) => {
                self.is_announced = true;
                self.shared.note_sent(n);
                Poll::Ready(Ok(n))
            }
            Err(error) => self.poll_write_failed(cx, len, error),
        }
    }

    /// The same for a writer, who may have to wait. What is urgent does not wait behind bulk that
    /// has filled the send window: priorities only order what is in it.
    fn poll_writing(
        &mut self,
        cx: &mut Context<'_>,
        len: usize,
        mut op: impl FnMut(&mut SendStream, &mut Context<'_>) -> Poll<Result<usize, WriteError>>,
    ) -> Poll<io::Result<usize>> {
        let mut outcome = self.poll_sending(cx, len, &mut op);
        if outcome.is_pending() && self.class != Class::Bulk && self.shared.widen_send_window() {
            outcome = self.poll_sending(cx, len, op);
        }
        self.is_write_pending = outcome.is_pending();
        outcome
    }

    fn poll_write_failed(
        &mut self,
        cx: &mut Context<'_>,
        len: usize,
        error: WriteError,
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(match error {
            WriteError::Stopped(NO_ERROR) => {
                return self.poll_discard(cx, len).map(|n| match n {
                    0 if len > 0 => Err(io::ErrorKind::BrokenPipe.into()),
                    n => Ok(n),
                });
            }
            WriteError::Stopped(code) => self.reset_by_peer(code),
            WriteError::ConnectionLost(error) => self.shared.lost(error),
            WriteError::ClosedStream => io::ErrorKind::BrokenPipe.into(),
            WriteError::ZeroRttRejected => io::ErrorKind::ConnectionReset.into(),
        }))
    }

    /// The peer has dropped the stream: it reads nothing more, and what it has written before is
    /// still on its way. An error here would make the caller give up on that, so this side goes
    /// on as over a stream that is closed at the far end only: some bytes are taken and dropped,
    /// then the writer waits until everything has been read. Zero means that it has.
    fn poll_discard(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<usize> {
        if self.read_ended {
            return Poll::Ready(0);
        }
        let n = len.min(MAX_DISCARDED - self.n_discarded);
        if n == 0 && len > 0 {
            self.stopped_writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.n_discarded += n;
        Poll::Ready(n)
    }

    /// Runs `op` on the receiving half.
    fn poll_receiving<T>(
        &mut self,
        cx: &mut Context<'_>,
        op: impl FnOnce(&mut RecvStream, &mut Context<'_>) -> Poll<Result<T, ReadError>>,
    ) -> Poll<io::Result<T>> {
        self.check_alive()?;
        if !self.is_write_pending {
            // Without room for it the reader waits for that as well, and comes back here.
            let _ = self.poll_announce(cx)?;
        }
        let error = match ready!(op(&mut self.recv, cx)) {
            Ok(read) => return Poll::Ready(Ok(read)),
            Err(error) => error,
        };
        let error = match error {
            ReadError::Reset(code) => self.reset_by_peer(code),
            ReadError::ConnectionLost(error) => self.shared.lost(error),
            ReadError::ClosedStream | ReadError::IllegalOrderedRead => {
                io::ErrorKind::NotConnected.into()
            }
            ReadError::ZeroRttRejected => io::ErrorKind::ConnectionReset.into(),
        };
        self.end_reading();
        Poll::Ready(Err(error))
    }

    fn note_read(&mut self, n: usize) {
        self.shared.note_received(n);
        if n == 0 {
            self.end_reading();
        }
    }

    fn end_reading(&mut self) {
        self.read_ended = true;
        if let Some(writer) = self.stopped_writer.take() {
            writer.wake();
        }
    }

    /// Tells the peer of the stream, if nothing else has.
    fn poll_announce(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_announced {
            return Poll::Ready(Ok(()));
        }
        let sent = self.poll_sending(cx, 0, |send, cx| pin!(send.write(&[])).poll(cx));
        sent.map_ok(|_| ())
    }

    fn check_alive(&self) -> io::Result<()> {
        if self.shared.is_closing() {
            return Err(self.shared.gone());
        }
        if self.is_reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }

    fn reset_by_peer(&mut self, code: VarInt) -> io::Error {
        self.is_reset = true;
        if code == REFUSED {
            self.shared.note_peer_drains();
        }
        let what = format!("the peer has reset the stream: error {code}");
        io::Error::new(io::ErrorKind::ConnectionReset, what)
    }
}

/// Turns down a stream that the peer has opened.
pub(super) fn refuse(mut send: SendStream, mut recv: RecvStream) {
    // They fail only when the stream is over already.
    let _ = send.reset(REFUSED);
    let _ = recv.stop(REFUSED);
}

impl AsyncRead for QuicStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(self.poll_receiving(cx, |recv, cx| recv.poll_read_buf(cx, buf)))?;
        let n = buf.filled().len() - before;
        self.note_read(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for QuicStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_writing(cx, buf.len(), |send, cx| pin!(send.write(buf)).poll(cx))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let announced = self.poll_announce(cx);
        self.is_write_pending = announced.is_pending();
        announced
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_finished {
            return Poll::Ready(Ok(()));
        }
        self.check_alive()?;
        self.is_finished = true;
        self.is_announced = true;
        if let Some(send) = &mut self.send {
            // It fails only when the sending half is over already.
            let _ = send.finish();
        }
        Poll::Ready(Ok(()))
    }
}

impl Stream for QuicStream {
    fn poll_read_chunk(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<io::Result<Bytes>> {
        if max == 0 {
            return Poll::Ready(Ok(Bytes::new()));
        }
        let chunk = ready!(self.poll_receiving(cx, |recv, cx| {
            // Dropping the future loses nothing, and who waits stays noted.
            pin!(recv.read_chunk(max, true)).poll(cx)
        }))?;
        let bytes = chunk.map(|chunk| chunk.bytes).unwrap_or_default();
        self.note_read(bytes.len());
        Poll::Ready(Ok(bytes))
    }

    fn poll_write_chunk(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        chunk: &mut Bytes,
    ) -> Poll<io::Result<()>> {
        let len = chunk.len();
        let n_taken = ready!(self.poll_writing(cx, len, |send, cx| {
            let mut chunks = [std::mem::take(chunk)];
            let written = pin!(send.write_chunks(&mut chunks)).poll(cx);
            [*chunk] = chunks;
            written.map_ok(|_| len - chunk.len())
        }))?;
        // What was taken and not sent is still there.
        chunk.advance(chunk.len() - (len - n_taken));
        Poll::Ready(Ok(()))
    }

    fn set_class(&mut self, class: Class) {
        self.class = class;
        let priority = match class {
            Class::Control => 2,
            Class::Interactive => 1,
            Class::Bulk => 0,
        };
        if let Some(send) = &self.send {
            // A stream that is over has no order any more.
            let _ = send.set_priority(priority);
        }
    }

    fn reset(&mut self) {
        if std::mem::replace(&mut self.is_reset, true) {
            return;
        }
        if let Some(send) = &mut self.send {
            // They fail only when a half is over already.
            let _ = send.reset(RESET);
        }
        let _ = self.recv.stop(RESET);
        self.end_reading();
    }
}

impl Drop for QuicStream {
    /// Dropping the halves ends the sending one after what was written, and stops the receiving
    /// one with code 0: what Go's streams do on close.
    fn drop(&mut self) {
        if let Some(send) = self.send.take()
            && self.shared.is_closing()
        {
            // The carrier broke the stream off. An end in good order would be a lie, and what was
            // written before is still to be sent.
            self.shared.keep_until_closed(send);
        }
        self.shared.end_stream();
    }
}

impl fmt::Debug for QuicStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicStream")
            .field("id", &self.recv.id())
            .field("peer_addr", &self.shared.peer_addr())
            .finish_non_exhaustive()
    }
}

/// What a stream is closed with in good order, as by Go.
const NO_ERROR: VarInt = VarInt::from_u32(0);

/// What a reset stream is ended with.
const RESET: VarInt = VarInt::from_u32(1);

/// What a stream is turned down with by a carrier that takes no new ones.
const REFUSED: VarInt = VarInt::from_u32(2);

/// Bytes taken for a peer that does not read any more: about what a stream of yamux takes in the
/// same case before its window is used up.
const MAX_DISCARDED: usize = 256 * 1024;
