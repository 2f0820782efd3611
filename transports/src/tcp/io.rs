//! A connection on its way to becoming a carrier: what has been read of it too early, and how it is
//! left.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::adapt::Adapting;
use super::info::TcpPath;
use super::options::Sending;
use crate::info::{Io, Path};
use crate::socket::abort_on_close;

/// A TCP connection whose closing can be made abrupt.
#[derive(Debug)]
pub(super) struct TcpIo {
    socket: TcpStream,
    path: Arc<TcpPath>,
    adapting: Option<Box<Adapting>>,
    is_aborted: Arc<AtomicBool>,
}

impl TcpIo {
    pub(super) fn new(socket: TcpStream, sending: &Sending) -> Self {
        let adapting = Adapting::begin(&socket, sending);
        Self {
            path: TcpPath::new(&socket),
            adapting,
            socket,
            is_aborted: Arc::default(),
        }
    }

    /// A moment at which the congestion control may change: the connection is used.
    fn adapt(&mut self) {
        if let Some(adapting) = &mut self.adapting
            && let Some(is_bbr) = adapting.handle_use(&self.socket)
        {
            self.path.handle_adapted(is_bbr);
        }
    }

    /// Nothing can be done on the connection now. Whoever waits for it waits for the next such
    /// moment as well, as long as something is on its way.
    fn adapt_waiting(&mut self, cx: &mut Context<'_>) {
        if let Some(adapting) = &mut self.adapting
            && let Some(is_bbr) = adapting.poll_waiting(&self.socket, cx)
        {
            self.path.handle_adapted(is_bbr);
        }
    }

    /// Returns what tells of the path.
    pub(super) fn path(&self) -> Arc<dyn Path> {
        Arc::clone(&self.path) as Arc<dyn Path>
    }

    /// Returns what makes the closing of the socket abrupt, wherever the socket is by then.
    pub(super) fn abort_switch(&self) -> Box<dyn Fn() + Send + Sync> {
        let is_aborted = self.is_aborted.clone();
        Box::new(move || is_aborted.store(true, Ordering::Relaxed))
    }
}

impl Drop for TcpIo {
    fn drop(&mut self) {
        self.path.forget();
        if self.is_aborted.load(Ordering::Relaxed) {
            abort_on_close(&self.socket);
        }
    }
}

impl AsyncRead for TcpIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.adapt();
        let outcome = Pin::new(&mut this.socket).poll_read(cx, buf);
        if outcome.is_pending() {
            this.adapt_waiting(cx);
        }
        outcome
    }
}

impl AsyncWrite for TcpIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.adapt();
        let outcome = Pin::new(&mut this.socket).poll_write(cx, buf);
        if outcome.is_pending() {
            this.adapt_waiting(cx);
        }
        outcome
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.adapt();
        let outcome = Pin::new(&mut this.socket).poll_write_vectored(cx, bufs);
        if outcome.is_pending() {
            this.adapt_waiting(cx);
        }
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

/// A connection that reads `prefix` first.
struct Prefixed {
    io: Box<dyn Io>,
    /// Taken away once it has been read.
    prefix: Option<Box<[u8]>>,
    n_taken: usize,
}

/// Puts back what has been read of `io`.
pub(crate) fn put_back(prefix: &[u8], io: Box<dyn Io>) -> Box<dyn Io> {
    if prefix.is_empty() {
        return io;
    }
    Box::new(Prefixed {
        io,
        prefix: Some(prefix.into()),
        n_taken: 0,
    })
}

impl AsyncRead for Prefixed {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(prefix) = &this.prefix else {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        };
        let rest = &prefix[this.n_taken..];
        let n = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..n]);
        this.n_taken += n;
        if this.n_taken == prefix.len() {
            this.prefix = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
