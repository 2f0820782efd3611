//! Between a session and whoever uses its bytes.
//!
//! The session belongs to the endpoint's task, its bytes are used in another. What goes between the
//! two is here, behind a lock that each side takes once for many datagrams: bytes to be sent, bytes
//! that have arrived, and words about the end. Both directions are bounded. A writer waits when the
//! session takes no more, and what is not read stays in the session's window, which shuts.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kcp_proto::End;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::datagrams::Datagrams;
use crate::info::{Exporter, Path};
use crate::mux::Role;
use crate::{DatagramError, PathStats};

/// The user's end of a session. Dropping it leaves the session, which sends what was written.
pub(super) struct KcpIo {
    shared: Arc<Shared>,
}

impl KcpIo {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Returns what makes the end of the session abrupt, wherever the session is by then.
    pub(super) fn abort_switch(&self) -> Box<dyn Fn() + Send + Sync> {
        let shared = Arc::clone(&self.shared);
        Box::new(move || shared.with(|state| state.ending = Some(End::Reset)))
    }

    /// Returns what tells of the path.
    pub(super) fn path(&self) -> Arc<dyn Path> {
        Arc::clone(&self.shared) as Arc<dyn Path>
    }
}

/// What the endpoint and the user share of a session.
pub(super) struct Shared {
    /// The session's place at its endpoint.
    id: usize,
    calls: Arc<Calls>,
    /// The peer takes datagrams.
    has_datagrams: AtomicBool,
    state: Mutex<State>,
}

/// What lies between the two.
#[derive(Default)]
pub(super) struct State {
    /// Written and not yet taken by the session.
    pub(super) outbound: BytesMut,
    /// What has arrived and has not been read, and how many bytes that is.
    pub(super) inbound: VecDeque<Bytes>,
    pub(super) n_inbound: usize,
    /// Whether the session has more for the reader.
    pub(super) has_more: bool,
    /// How the peer has ended.
    pub(super) peer_end: Option<End>,
    /// How the user wants to end.
    pub(super) ending: Option<End>,
    /// After the end everything has been acknowledged.
    pub(super) is_settled: bool,
    /// The user is gone.
    pub(super) is_left: bool,
    /// Why the session is no more.
    pub(super) broken: Option<Break>,
    /// The peer has logged in, so that the session need not be small.
    pub(super) is_admitted: bool,
    /// The peer is of our own kind.
    pub(super) is_holdfast: bool,
    /// The peer's life is looked after from above.
    pub(super) is_watched: bool,
    pub(super) figures: Figures,
    /// Those beside the bytes, once the peer is known to be of our own kind.
    pub(super) datagrams: Option<Box<Datagrams>>,
    /// The endpoint knows that there is something to do.
    is_called: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Why a session is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// The peer's host says so.
    Refused,
    /// Nothing was heard for too long.
    Silent,
    /// The endpoint's task has ended.
    Gone,
}

impl Break {
    fn error(self) -> io::Error {
        match self {
            Self::Refused => io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "the peer's host says that nobody listens there",
            ),
            Self::Silent => io::Error::new(
                io::ErrorKind::TimedOut,
                "nothing has been heard of the peer for too long",
            ),
            Self::Gone => io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the task of the socket has ended",
            ),
        }
    }
}

/// What the path has been like.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    pub(super) rtt: Option<Duration>,
    pub(super) n_sent: u64,
    pub(super) n_lost: u64,
    pub(super) acked_bytes: u64,
    pub(super) in_flight: u64,
    /// `None` where nothing but the peer's window bounds it.
    pub(super) window: Option<u64>,
    pub(super) n_redundant_sent: u64,
    pub(super) n_redundant_used: u64,
    pub(super) n_refused: u64,
}

impl Shared {
    pub(super) fn new(id: usize, calls: Arc<Calls>) -> Arc<Self> {
        Arc::new(Self {
            id,
            calls,
            has_datagrams: AtomicBool::new(false),
            state: Mutex::default(),
        })
    }

    /// Runs `op` for the endpoint, and wakes whoever has something to do afterwards.
    pub(super) fn serve<T>(&self, op: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        state.is_called = false;
        let result = op(&mut state);
        let reader = state.is_readable().then(|| state.reader.take()).flatten();
        let writer = state.is_writable().then(|| state.writer.take()).flatten();
        let listener = (state.datagrams.as_mut()).and_then(|datagrams| datagrams.woken());
        drop(state);
        let woken = reader.into_iter().chain(writer).chain(listener);
        woken.for_each(Waker::wake);
        result
    }

    /// The peer takes datagrams.
    pub(super) fn allow_datagrams(&self) {
        // A value by its own: relaxed is enough.
        self.has_datagrams.store(true, Ordering::Relaxed);
    }

    /// Runs `op` for the user, and calls the endpoint.
    pub(super) fn with<T>(&self, op: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let result = op(&mut state);
        let is_new = !std::mem::replace(&mut state.is_called, true);
        drop(state);
        if is_new {
            self.calls.call(self.id);
        }
        result
    }

    /// The peer has logged in.
    pub(super) fn admit(&self) {
        self.with(|state| state.is_admitted = true);
    }
}

impl State {
    fn is_readable(&self) -> bool {
        self.n_inbound > 0 || self.peer_end.is_some() || self.broken.is_some()
    }

    /// Whether a writer, or who waits for the end, should look again.
    fn is_writable(&self) -> bool {
        self.is_settled
            || self.broken.is_some()
            || (self.ending.is_none() && self.outbound.len() <= MAX_OUTBOUND / 2)
    }

    /// Puts what has arrived where the reader finds it.
    pub(super) fn deliver(&mut self, data: Bytes) {
        self.n_inbound += data.len();
        self.inbound.push_back(data);
    }

    /// Whether the reader is to be given more.
    pub(super) fn wants_inbound(&self) -> bool {
        self.n_inbound < MAX_INBOUND
    }
}

impl Path for Shared {
    fn fill(&self, stats: &mut PathStats) {
        let figures = self.state.lock().figures;
        stats.rtt = figures.rtt.or(stats.rtt);
        stats.packets_sent = Some(figures.n_sent);
        stats.packets_lost = Some(figures.n_lost);
        stats.acked_bytes = Some(figures.acked_bytes);
        stats.in_flight = Some(figures.in_flight);
        stats.window = figures.window;
        stats.redundant_sent = Some(figures.n_redundant_sent);
        stats.redundant_used = Some(figures.n_redundant_used);
        stats.n_refused = figures.n_refused;
    }

    fn handle_holdfast_peer(&self) {
        self.with(|state| state.is_holdfast = true);
    }

    fn handle_watched(&self) {
        self.with(|state| state.is_watched = true);
    }

    fn begin_datagrams(&self, exporter: &dyn Exporter, role: Role) {
        // The TLS session asks this one to write while it is locked, so its lock comes first.
        let datagrams = Datagrams::new(exporter, role).ok().map(Box::new);
        self.with(|state| {
            if state.datagrams.is_none() {
                state.datagrams = datagrams;
            }
        });
    }

    fn send_datagram(&self, data: &[u8], is_awaited: bool) -> Result<(), DatagramError> {
        if !self.wants_copies() {
            return Err(DatagramError::Unsupported);
        }
        self.with(|state| match &mut state.datagrams {
            Some(datagrams) => datagrams.send(data, is_awaited),
            None => Err(DatagramError::Unsupported),
        })
    }

    fn poll_recv_datagram(&self, cx: &mut Context<'_>) -> Poll<Result<Bytes, DatagramError>> {
        match &mut self.state.lock().datagrams {
            Some(datagrams) => datagrams.poll_receive(cx).map(Ok),
            None => Poll::Ready(Err(DatagramError::Unsupported)),
        }
    }

    /// One byte stream carries all streams, and each waits for what any of them has lost.
    fn wants_copies(&self) -> bool {
        self.has_datagrams.load(Ordering::Relaxed)
    }
}

impl AsyncRead for KcpIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let shared = &self.get_mut().shared;
        let mut state = shared.state.lock();
        if state.n_inbound == 0 {
            if state.peer_end == Some(End::Finished) {
                return Poll::Ready(Ok(()));
            }
            if state.peer_end == Some(End::Reset) {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if let Some(broken) = state.broken {
                return Poll::Ready(Err(broken.error()));
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        while buf.remaining() > 0
            && let Some(front) = state.inbound.front_mut()
        {
            let n = front.len().min(buf.remaining());
            buf.put_slice(&front[..n]);
            front.advance(n);
            if front.is_empty() {
                state.inbound.pop_front();
            }
            state.n_inbound -= n;
        }
        let is_wanted = state.has_more && state.n_inbound <= MAX_INBOUND / 2;
        drop(state);
        if is_wanted {
            shared.with(|_| ());
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for KcpIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let shared = &self.get_mut().shared;
        {
            let mut state = shared.state.lock();
            if let Some(broken) = state.broken {
                return Poll::Ready(Err(broken.error()));
            }
            if state.peer_end == Some(End::Reset) {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if state.ending.is_some() {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            if state.outbound.len() >= MAX_OUTBOUND {
                state.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(shared.with(|state| {
            let room = MAX_OUTBOUND - state.outbound.len().min(MAX_OUTBOUND);
            let n_wanted: usize = bufs.iter().map(|buf| buf.len()).sum();
            let mut n_left = room.min(n_wanted);
            let n = n_left;
            state.outbound.reserve(n);
            for buf in bufs {
                let len = buf.len().min(n_left);
                state.outbound.extend_from_slice(&buf[..len]);
                n_left -= len;
            }
            n
        })))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written is the endpoint's already.
        Poll::Ready(Ok(()))
    }

    /// Ready when the peer has acknowledged everything.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shared = &self.get_mut().shared;
        let is_new = {
            let mut state = shared.state.lock();
            if state.is_settled {
                return Poll::Ready(Ok(()));
            }
            if let Some(broken) = state.broken {
                return Poll::Ready(Err(broken.error()));
            }
            state.writer = Some(cx.waker().clone());
            state.ending.is_none()
        };
        if is_new {
            shared.with(|state| state.ending = Some(End::Finished));
        }
        Poll::Pending
    }
}

impl Drop for KcpIo {
    fn drop(&mut self) {
        self.shared.with(|state| state.is_left = true);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for KcpIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KcpIo")
            .field("id", &self.shared.id)
            .finish_non_exhaustive()
    }
}

/// Which sessions have something to do for their endpoint. Each is here once at most.
#[derive(Debug, Default)]
pub(super) struct Calls {
    waiting: Mutex<(Vec<usize>, Option<Waker>)>,
}

impl Calls {
    fn call(&self, id: usize) {
        let mut waiting = self.waiting.lock();
        waiting.0.push(id);
        let waker = waiting.1.take();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes the endpoint for something else.
    pub(super) fn wake(&self) {
        let waker = self.waiting.lock().1.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Moves those that have called to `ids`. Without any, the endpoint is woken by the next.
    pub(super) fn take(&self, ids: &mut Vec<usize>, cx: &Context<'_>) {
        let mut waiting = self.waiting.lock();
        if waiting.0.is_empty() {
            waiting.1 = Some(cx.waker().clone());
        } else {
            ids.append(&mut waiting.0);
        }
    }
}

/// Bytes that have been written and wait for the session, which has its own queue behind. Then the
/// writer waits.
const MAX_OUTBOUND: usize = 64 * 1024;

/// Bytes that wait for the reader, give or take a segment. Beyond it they stay in the session, whose
/// window shuts.
const MAX_INBOUND: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ExportError;

    /// A TLS session of which a thread may wait to write here while it is asked for keys.
    struct Watching(Arc<Shared>);

    impl Exporter for Watching {
        fn export(&self, out: &mut [u8], _: &[u8], _: &[u8]) -> Result<(), ExportError> {
            assert!(self.0.state.try_lock().is_some(), "locked beneath TLS");
            out.fill(7);
            Ok(())
        }
    }

    #[test]
    fn keys_for_datagrams_are_asked_for_while_nothing_is_locked() {
        let shared = Shared::new(0, Arc::default());

        shared.begin_datagrams(&Watching(Arc::clone(&shared)), Role::Client);

        assert!(shared.state.lock().datagrams.is_some());
    }
}
