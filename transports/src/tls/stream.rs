//! An established TLS connection.
//!
//! tokio-rustls runs the handshake and hands its pieces over to [`TlsStream`], which differs from
//! its own stream in three things: the connection's [`TlsExporter`] can be had while the stream is
//! somewhere else, the socket is read 64 KiB at a time instead of 4 KiB, and a connection that
//! waits for data holds no buffer for it.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufRead, IoSlice, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use rustls::Connection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::ExportError;
use crate::info::Exporter;

/// TLS over `IO`, after the handshake.
///
/// Encrypted data may stay behind in it after a write: flush before waiting for an answer.
pub struct TlsStream<IO> {
    io: IO,
    tls: Arc<Mutex<Connection>>,
    inbound: Inbound,
    is_write_shut: bool,
    /// The peer has said that nothing follows.
    is_read_shut: bool,
    /// An error of the peer's that is reported once what came ahead of it has been read.
    failure: Option<io::Error>,
}

impl<IO> TlsStream<IO> {
    pub(super) fn new(io: IO, mut connection: Connection) -> Self {
        connection.set_buffer_limit(Some(MAX_UNSENT_LEN));
        Self {
            io,
            tls: Arc::new(Mutex::new(connection)),
            inbound: Inbound::default(),
            is_write_shut: false,
            is_read_shut: false,
            failure: None,
        }
    }

    /// Access to the connection's keying material, also after the stream has been handed on.
    pub fn exporter(&self) -> TlsExporter {
        TlsExporter {
            tls: self.tls.clone(),
        }
    }

    /// What is below.
    pub fn get_ref(&self) -> &IO {
        &self.io
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if this.decrypt(out)? == Progress::Done {
                return Poll::Ready(Ok(()));
            }
            ready!(this.inbound.poll_fill(&mut this.io, cx))?;
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_write_shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        let mut tls = this.tls.lock();
        loop {
            let n_taken = tls.writer().write_vectored(bufs)?;
            let sent = poll_send(&mut tls, &mut this.io, cx);
            match (n_taken, sent) {
                (_, Poll::Ready(Err(e))) => return Poll::Ready(Err(e)),
                // There was no room, and now there is.
                (0, Poll::Ready(Ok(()))) => {}
                (0, Poll::Pending) => return Poll::Pending,
                // What is not sent yet is sent by the next write or flush.
                (n, _) => return Poll::Ready(Ok(n)),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(poll_send(&mut this.tls.lock(), &mut this.io, cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        {
            let mut tls = this.tls.lock();
            if !this.is_write_shut {
                tls.send_close_notify();
                this.is_write_shut = true;
            }
            ready!(poll_send(&mut tls, &mut this.io, cx))?;
        }
        if this.is_read_shut {
            this.discard(cx);
        }
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> TlsStream<IO> {
    /// Takes what follows the peer's end: the layer below has an end of its own. Left unread, it
    /// would make the system answer our close with a reset, and the peer lose what we sent last.
    fn discard(&mut self, cx: &mut Context<'_>) {
        for _ in 0..MAX_DISCARDS {
            let mut scratch = [0; 256];
            let mut scratch = ReadBuf::new(&mut scratch);
            let read = Pin::new(&mut self.io).poll_read(cx, &mut scratch);
            if !matches!(read, Poll::Ready(Ok(()))) || scratch.filled().is_empty() {
                return;
            }
        }
    }

    /// Moves as much plaintext to `out` as there is, decrypting what has been received.
    fn decrypt(&mut self, out: &mut ReadBuf<'_>) -> io::Result<Progress> {
        let mut tls = self.tls.lock();
        let n_before = out.filled().len();
        loop {
            let is_end = take_plaintext(&mut tls, out)?;
            let is_some = out.filled().len() > n_before;
            self.is_read_shut |= is_end;
            if is_end || out.remaining() == 0 {
                return Ok(Progress::Done);
            }
            if let Some(failure) = self.failure.take_if(|_| !is_some) {
                return Err(failure);
            }
            if self.failure.is_some() || self.inbound.is_empty() {
                return Ok(if is_some {
                    Progress::Done
                } else {
                    Progress::NeedsInput
                });
            }
            if let Err(e) = self.inbound.feed(&mut tls) {
                // The alert that says why, as far as the socket takes it without waiting.
                let mut cx = Context::from_waker(std::task::Waker::noop());
                let _ = poll_send(&mut tls, &mut self.io, &mut cx);
                self.failure = Some(e);
            }
        }
    }
}

impl<IO: fmt::Debug> fmt::Debug for TlsStream<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("io", &self.io)
            .finish_non_exhaustive()
    }
}

/// Derives keys that only the two ends of a TLS connection know.
#[derive(Clone)]
pub struct TlsExporter {
    tls: Arc<Mutex<Connection>>,
}

impl Exporter for TlsExporter {
    fn export(&self, out: &mut [u8], label: &[u8], context: &[u8]) -> Result<(), ExportError> {
        let tls = self.tls.lock();
        tls.export_keying_material(out, label, Some(context))
            .map(|_| ())
            .map_err(|_| ExportError)
    }
}

impl fmt::Debug for TlsExporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsExporter").finish_non_exhaustive()
    }
}

/// Reads of what nobody wants. A peer that goes on after its end has only itself to blame.
const MAX_DISCARDS: usize = 16;

#[derive(PartialEq, Eq)]
enum Progress {
    /// There is plaintext, or there will never be more.
    Done,
    NeedsInput,
}

/// Copies decrypted bytes to `out`. `true` at the end of the stream.
fn take_plaintext(tls: &mut Connection, out: &mut ReadBuf<'_>) -> io::Result<bool> {
    let n_before = out.filled().len();
    while out.remaining() > 0 {
        let mut reader = tls.reader();
        // Borrowed and not `read`, which would have `out` filled with zeros first.
        match reader.fill_buf() {
            Ok([]) => return Ok(true),
            Ok(chunk) => {
                let n = chunk.len().min(out.remaining());
                out.put_slice(&chunk[..n]);
                reader.consume(n);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            // Before an error is reported, what came ahead of it is delivered.
            Err(_) if out.filled().len() > n_before => return Ok(false),
            Err(e) => return Err(e),
        }
    }
    Ok(false)
}

/// Sends encrypted data until there is none.
fn poll_send<IO: AsyncWrite + Unpin>(
    tls: &mut Connection,
    io: &mut IO,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while tls.wants_write() {
        match tls.write_tls(&mut Sink { io, cx }) {
            Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(e) => return Poll::Ready(Err(e)),
        }
    }
    Poll::Ready(Ok(()))
}

/// Encrypted bytes that have been received and not been given to rustls yet.
#[derive(Default)]
struct Inbound {
    buf: Option<Box<[u8]>>,
    start: usize,
    end: usize,
    is_at_end: bool,
}

impl Inbound {
    fn is_empty(&self) -> bool {
        self.start == self.end && !self.is_at_end
    }

    /// Reads from `io`. Holds a buffer only if something came.
    fn poll_fill<IO: AsyncRead + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut buf = self.buf.take().unwrap_or_else(borrow_buffer);
        let mut read_buf = ReadBuf::new(&mut buf);
        let outcome = Pin::new(io).poll_read(cx, &mut read_buf);
        let len = read_buf.filled().len();
        if let Poll::Ready(Ok(())) = outcome
            && len > 0
        {
            self.start = 0;
            self.end = len;
            self.buf = Some(buf);
            return outcome;
        }
        return_buffer(buf);
        self.is_at_end = matches!(outcome, Poll::Ready(Ok(())));
        outcome
    }

    /// Gives rustls what it takes at once, about 4 KiB, and lets it decrypt.
    fn feed(&mut self, tls: &mut Connection) -> io::Result<()> {
        let mut rest = match &self.buf {
            Some(buf) => &buf[self.start..self.end],
            None => &[],
        };
        let n_read = tls.read_tls(&mut rest)?;
        self.start += n_read;
        self.is_at_end = false;
        if self.start == self.end
            && let Some(buf) = self.buf.take()
        {
            return_buffer(buf);
        }
        tls.process_new_packets()
            .map(|_| ())
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }
}

thread_local! {
    /// Connections take turns with one buffer for each thread: most reads end within one poll.
    static SPARE: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

fn borrow_buffer() -> Box<[u8]> {
    SPARE
        .take()
        .unwrap_or_else(|| vec![0; READ_LEN].into_boxed_slice())
}

fn return_buffer(buf: Box<[u8]>) {
    SPARE.set(Some(buf));
}

/// Lets rustls write to an asynchronous stream.
struct Sink<'a, 'b, IO> {
    io: &'a mut IO,
    cx: &'a mut Context<'b>,
}

impl<IO: AsyncWrite + Unpin> Write for Sink<'_, '_, IO> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        or_would_block(Pin::new(&mut *self.io).poll_write(self.cx, buf))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        or_would_block(Pin::new(&mut *self.io).poll_write_vectored(self.cx, bufs))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn or_would_block(outcome: Poll<io::Result<usize>>) -> io::Result<usize> {
    match outcome {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// Four full records a read: enough that the system call no longer shows beside the decryption.
const READ_LEN: usize = 64 * 1024;

/// The most that is encrypted ahead of the socket. As much as is read at a time; beyond it the
/// writer waits.
const MAX_UNSENT_LEN: usize = 64 * 1024;
