//! A WebSocket connection as a byte stream.
//!
//! What is written leaves in binary frames, one for each write. Its end is a close frame, which
//! ends one direction, as the end of a TCP connection does: the other goes on until its own (RFC
//! 6455 section 5.5.1 lets a peer send the rest of what it has before it answers a close). frp's
//! peers close both at once.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::decoder::{Decoder, Event};
use super::frame::{EncodedHeader, FrameError, Header, MAX_CONTROL_LEN, Mask, Opcode, Side};
use crate::info::Io;
use crate::read_buffer::ReadBuffer;

/// A WebSocket connection over `IO`, after the upgrade.
///
/// A frame may stay behind in it after a write: flush before waiting for an answer.
#[derive(Debug)]
pub(crate) struct WebsocketStream<IO: Io> {
    io: IO,
    side: Side,
    inbound: ReadBuffer,
    decoder: Decoder,
    /// The rest of frames that have been begun, at most one of data and two of control.
    unsent: BytesMut,
    /// What the next pong has to carry. A later ping takes the place of an earlier one, which
    /// needs no answer then (section 5.5.3).
    pong: Option<Bytes>,
    /// Readers send on what a ping has brought about, as nobody may ever write.
    is_reader_sending: bool,
    /// Who waits for room to write. A reader that sends must wake it, too.
    writer: Option<Waker>,
    is_close_sent: bool,
}

impl<IO: Io> WebsocketStream<IO> {
    /// `received` is what came after the upgrade and was read with it.
    pub(super) fn new(io: IO, side: Side, received: &[u8]) -> Self {
        let mut inbound = ReadBuffer::new(READ_LEN_MAX);
        inbound.bytes_mut().extend_from_slice(received);
        let peer = match side {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        };
        Self {
            io,
            side,
            inbound,
            decoder: Decoder::new(peer),
            unsent: BytesMut::new(),
            pong: None,
            is_reader_sending: false,
            writer: None,
            is_close_sent: false,
        }
    }

    /// Moves as much data to `out` as there is. `None`: more input is needed.
    fn decode(&mut self, out: &mut ReadBuf<'_>) -> Result<Option<()>, FrameError> {
        let n_before = out.filled().len();
        let input = self.inbound.bytes_mut();
        while out.remaining() > 0 {
            match self.decoder.poll(input) {
                Ok(Event::Data) => self.decoder.take(input, out),
                Ok(Event::Ping(payload)) => {
                    self.pong = Some(payload);
                    self.is_reader_sending = true;
                }
                Ok(Event::Close) => return Ok(Some(())),
                Ok(Event::Nothing) => break,
                // What came ahead of it is delivered first; the next read finds it again.
                Err(_) if out.filled().len() > n_before => break,
                Err(error) => return Err(error),
            }
        }
        Ok((out.filled().len() > n_before).then_some(()))
    }

    /// Sends, from a reader, what a ping has brought about.
    fn poll_send_from_reader(&mut self, cx: &mut Context<'_>) {
        if !self.is_reader_sending {
            return;
        }
        // There is room for one waker below, and a writer may wait there already.
        let sent = match &self.writer {
            Some(writer) if !writer.will_wake(cx.waker()) => {
                let both = Waker::from(Arc::new(Both(writer.clone(), cx.waker().clone())));
                self.poll_send(&mut Context::from_waker(&both))
            }
            _ => self.poll_send(cx),
        };
        // An error is for the writer, or for the next read.
        if sent.is_ready() {
            self.is_reader_sending = false;
        }
    }

    /// Sends frames that have been begun, and the pong that is due after them.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while !self.unsent.is_empty() {
                let n = ready!(Pin::new(&mut self.io).poll_write(cx, &self.unsent))?;
                if n == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.unsent.advance(n);
            }
            // An idle connection holds no buffer.
            self.unsent = BytesMut::new();
            let Some(payload) = self.pong.take_if(|_| !self.is_close_sent) else {
                return Poll::Ready(Ok(()));
            };
            self.push_frame(Opcode::Pong, &[IoSlice::new(&payload)], payload.len());
        }
    }

    /// As [`Self::poll_send`], for a writer.
    fn poll_send_from_writer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = self.poll_send(cx);
        self.note_writer(sent.is_pending(), cx);
        sent
    }

    fn note_writer(&mut self, waits: bool, cx: &Context<'_>) {
        match &mut self.writer {
            _ if !waits => self.writer = None,
            Some(writer) => writer.clone_from(cx.waker()),
            None => self.writer = Some(cx.waker().clone()),
        }
    }

    /// Appends a frame with the first `len` bytes of `payload` to what is to be sent.
    fn push_frame(&mut self, opcode: Opcode, payload: &[IoSlice<'_>], len: usize) {
        let (mut mask, header) = self.header(opcode, len);
        self.unsent.reserve(header.as_slice().len() + len);
        self.unsent.extend_from_slice(header.as_slice());
        let start = self.unsent.len();
        extend(&mut self.unsent, payload, 0, len);
        if let Some(mask) = &mut mask {
            mask.apply(&mut self.unsent[start..]);
        }
    }

    /// Writes a frame with the first `len` bytes of `payload` without copying what the socket takes
    /// at once. Nothing else may be begun.
    fn poll_write_through(
        &mut self,
        cx: &mut Context<'_>,
        payload: &[IoSlice<'_>],
        mut len: usize,
    ) -> Poll<io::Result<usize>> {
        // Cut to what fits into one call.
        let mut slices = [IoSlice::new(&[]); N_SLICES];
        let payload = &payload[..payload.len().min(N_SLICES - 1)];
        len = len.min(payload.iter().map(|slice| slice.len()).sum());
        let (_, header) = self.header(Opcode::Binary, len);
        slices[0] = IoSlice::new(header.as_slice());
        let mut n_left = len;
        for (slice, part) in slices[1..].iter_mut().zip(payload) {
            let part = &part[..part.len().min(n_left)];
            n_left -= part.len();
            *slice = IoSlice::new(part);
        }
        let slices = &slices[..=payload.len()];
        let n = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, slices))?;
        if n == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        // The frame has begun: the peer is owed all of it.
        extend(&mut self.unsent, slices, n, header.as_slice().len() + len);
        Poll::Ready(Ok(len))
    }

    fn header(&self, opcode: Opcode, len: usize) -> (Option<Mask>, EncodedHeader) {
        let mask = self.side.new_mask();
        let header = Header {
            opcode,
            payload_len: len as u64,
            mask,
        };
        (mask, header.encode())
    }

    fn push_close(&mut self, status: [u8; 2]) {
        if !self.is_close_sent {
            self.push_frame(Opcode::Close, &[IoSlice::new(&status)], status.len());
            self.is_close_sent = true;
        }
    }

    /// Panics when more is held than there is reason for.
    pub(super) fn check_bounds(&self) {
        let control_len = Header::MAX_LEN + MAX_CONTROL_LEN;
        assert!(self.unsent.len() <= Header::MAX_LEN + MAX_DATA_LEN + 2 * control_len);
        let pong = self.pong.as_ref();
        assert!(pong.is_none_or(|payload| payload.len() <= MAX_CONTROL_LEN));
    }

    /// Ends the connection, as far as it takes that without waiting.
    fn say_close(&mut self, status: [u8; 2]) {
        self.push_close(status);
        let _ = self.poll_send(&mut Context::from_waker(Waker::noop()));
    }
}

/// Appends the bytes from `start` to `end` of what `slices` hold together.
fn extend(out: &mut BytesMut, slices: &[IoSlice<'_>], start: usize, end: usize) {
    let mut at = 0;
    for slice in slices {
        let range = start.clamp(at, at + slice.len()) - at..end.clamp(at, at + slice.len()) - at;
        out.extend_from_slice(&slice[range]);
        at += slice.len();
    }
}

impl<IO: Io> AsyncRead for WebsocketStream<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        for _ in 0..FILLS_MAX {
            let decoded = match this.decode(out) {
                Ok(decoded) => decoded,
                Err(error) => {
                    this.say_close(PROTOCOL_ERROR);
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
            };
            this.poll_send_from_reader(cx);
            if decoded.is_some() {
                return Poll::Ready(Ok(()));
            }
            if ready!(this.inbound.poll_fill(&mut this.io, cx))? == 0 {
                // Without a close frame, as when a program has been killed: the end all the same.
                let input = this.inbound.bytes_mut();
                return Poll::Ready(if this.decoder.is_between_frames(input) {
                    Ok(())
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                });
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<IO: Io> AsyncWrite for WebsocketStream<IO> {
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
        if this.is_close_sent {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let len = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        if len == 0 {
            return Poll::Ready(Ok(0));
        }
        let len = len.min(MAX_DATA_LEN);
        ready!(this.poll_send_from_writer(cx))?;
        match this.side {
            Side::Server => {
                let written = this.poll_write_through(cx, bufs, len);
                this.note_writer(written.is_pending(), cx);
                written
            }
            // Masking is copying.
            Side::Client => {
                this.push_frame(Opcode::Binary, bufs, len);
                if let Poll::Ready(Err(e)) = this.poll_send(cx) {
                    return Poll::Ready(Err(e));
                }
                Poll::Ready(Ok(len))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send_from_writer(cx))?;
        let flushed = Pin::new(&mut this.io).poll_flush(cx);
        this.note_writer(flushed.is_pending(), cx);
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.push_close(NORMAL_CLOSURE);
        ready!(self.as_mut().poll_flush(cx))?;
        if !self.decoder.is_closed() {
            // What is between the two peers may take the end of one half for the end of both.
            return Poll::Ready(Ok(()));
        }
        let this = self.get_mut();
        let shut = Pin::new(&mut this.io).poll_shutdown(cx);
        this.note_writer(shut.is_pending(), cx);
        shut
    }
}

impl<IO: Io> Drop for WebsocketStream<IO> {
    /// Answers the peer's close, unless that has been done. Without one this is no good order, and
    /// the peer is to see as much.
    fn drop(&mut self) {
        if self.decoder.is_closed() {
            self.say_close(NORMAL_CLOSURE);
        }
    }
}

/// Wakes two at once.
struct Both(Waker, Waker);

impl Wake for Both {
    fn wake(self: Arc<Self>) {
        self.0.wake_by_ref();
        self.1.wake_by_ref();
    }
}

/// 1000 and 1002 (RFC 6455 section 7.4.1).
const NORMAL_CLOSURE: [u8; 2] = [0x03, 0xe8];
const PROTOCOL_ERROR: [u8; 2] = [0x03, 0xea];

/// The longest payload of a frame of ours: what is copied of a frame that the socket does not take
/// at once. As much as TLS holds in the same place.
const MAX_DATA_LEN: usize = 64 * 1024;

/// The most that is read at once: several of the frames that Go sends.
const READ_LEN_MAX: usize = 64 * 1024;

/// Slices in one write, one of them for the header.
const N_SLICES: usize = 64;

/// Reads without any data, that is with control and empty frames only, before other tasks get
/// their turn.
const FILLS_MAX: usize = 16;

#[cfg(test)]
mod tests;
