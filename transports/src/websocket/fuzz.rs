//! What a fuzzer throws at a WebSocket, and what must hold whatever it throws.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame::Side;
use super::stream::WebsocketStream;
use super::{accept, connect};

/// See [`crate::fuzzing::websocket_frames`].
pub(crate) fn fuzz(data: &[u8]) {
    accept::fuzz(data);
    connect::fuzz(data);
    for side in [Side::Client, Side::Server] {
        let whole = run(side, data, data.len());
        for cut in [1, 13] {
            assert_eq!(whole, run(side, data, cut), "cuts make no difference");
        }
    }
}

/// What comes out of `data` when it arrives in pieces: the bytes, and how they end.
fn run(side: Side, data: &[u8], cut: usize) -> (Vec<u8>, Result<(), io::ErrorKind>) {
    let mut stream = WebsocketStream::new(Script::new(data, cut), side, b"");
    let mut cx = Context::from_waker(Waker::noop());
    let mut received = Vec::new();
    let mut n_polls = 0;
    let end = loop {
        n_polls += 1;
        assert!(n_polls <= 2 * data.len() + 10, "every read gets on");
        let mut out = [0; 7];
        let mut out = ReadBuf::new(&mut out);
        match Pin::new(&mut stream).poll_read(&mut cx, &mut out) {
            Poll::Ready(Ok(())) if out.filled().is_empty() => break Ok(()),
            Poll::Ready(Ok(())) => received.extend_from_slice(out.filled()),
            Poll::Ready(Err(e)) => break Err(e.kind()),
            Poll::Pending => {}
        }
        stream.check_bounds();
        // The application answers, and the socket takes it slowly.
        let _ = Pin::new(&mut stream).poll_write(&mut cx, b"answer");
    };
    assert!(received.len() <= data.len());
    let _ = Pin::new(&mut stream).poll_shutdown(&mut cx);
    stream.check_bounds();
    (received, end)
}

/// A connection on which `data` comes in pieces, and which takes three bytes at a time.
struct Script {
    data: Vec<u8>,
    cut: usize,
    n_given: usize,
    is_full: bool,
}

impl Script {
    fn new(data: &[u8], cut: usize) -> Self {
        Self {
            data: data.to_vec(),
            cut: cut.max(1),
            n_given: 0,
            is_full: false,
        }
    }
}

impl AsyncRead for Script {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let rest = &this.data[this.n_given..];
        let piece = &rest[..rest.len().min(this.cut).min(out.remaining())];
        out.put_slice(piece);
        this.n_given += piece.len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.is_full = !self.is_full;
        if self.is_full {
            Poll::Pending
        } else {
            Poll::Ready(Ok(buf.len().min(3)))
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
