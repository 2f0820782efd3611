//! What the user of a held stream does with it.

use std::io;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use frp_proto::hold::frame::ResetCode;
use transports::Class;

use super::{Inner, LINGER_TIMEOUT, Wakes};

impl Inner {
    pub(in crate::hold) fn poll_read(
        &mut self,
        cx: &Context<'_>,
        max: usize,
        now: Instant,
        wakes: &mut Wakes,
    ) -> Poll<io::Result<Bytes>> {
        if let Some(code) = self.failure {
            return Poll::Ready(Err(failure(code)));
        }
        if max == 0 {
            return Poll::Ready(Ok(Bytes::new()));
        }
        if let Some(bytes) = self.held.read(max, now) {
            // There may be a window to be granted.
            self.send(now, wakes);
            return Poll::Ready(Ok(bytes));
        }
        if self.held.is_read_to_end() {
            self.send(now, wakes);
            return Poll::Ready(Ok(Bytes::new()));
        }
        note(&mut self.reader, cx);
        Poll::Pending
    }

    /// Takes a prefix of `bytes`.
    pub(in crate::hold) fn poll_write(
        &mut self,
        cx: &Context<'_>,
        bytes: &mut Bytes,
        now: Instant,
        wakes: &mut Wakes,
    ) -> Poll<io::Result<usize>> {
        self.check_sending()?;
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let n = self.held.write(bytes);
        if n == 0 {
            note(&mut self.writer, cx);
            return Poll::Pending;
        }
        self.send(now, wakes);
        Poll::Ready(Ok(n))
    }

    pub(in crate::hold) fn check_sending(&self) -> io::Result<()> {
        match self.failure {
            Some(code) => Err(failure(code)),
            None if self.held.is_finished() => Err(io::ErrorKind::BrokenPipe.into()),
            None => Ok(()),
        }
    }

    pub(in crate::hold) fn check(&self) -> io::Result<()> {
        self.failure.map_or(Ok(()), |code| Err(failure(code)))
    }

    pub(in crate::hold) fn finish(&mut self, now: Instant, wakes: &mut Wakes) {
        self.held.finish();
        self.send(now, wakes);
    }

    pub(in crate::hold) fn set_class(&mut self, class: Class) {
        self.class = Some(class);
        self.tell_class();
    }

    pub(in crate::hold) fn reset(&mut self, code: ResetCode, now: Instant, wakes: &mut Wakes) {
        self.fail(code, wakes);
        self.held.reset(code);
        self.send(now, wakes);
    }

    /// Nobody reads or writes any more: what was written is sent, what comes is dropped.
    pub(in crate::hold) fn drop_user(&mut self, now: Instant, wakes: &mut Wakes) {
        self.is_dropped = true;
        self.reader = None;
        self.writer = None;
        self.held.finish();
        self.linger_until = Some(now + LINGER_TIMEOUT);
        self.discard(now);
        self.send(now, wakes);
        self.wake_driver(wakes);
    }
}

fn failure(code: ResetCode) -> io::Error {
    let (kind, text) = match code {
        ResetCode::SESSION_OVER => (io::ErrorKind::ConnectionAborted, "the session is over"),
        ResetCode::TOO_MANY => (
            io::ErrorKind::ConnectionRefused,
            "the session has as many streams as it may",
        ),
        ResetCode::FORGOTTEN => (
            io::ErrorKind::ConnectionReset,
            "the peer has forgotten the held stream",
        ),
        _ => (io::ErrorKind::ConnectionReset, "the held stream was reset"),
    };
    io::Error::new(kind, text)
}

fn note(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(noted) => noted.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}
