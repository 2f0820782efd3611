//! What a carrier, its streams and its tasks share.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use s2n_quic::application;
use s2n_quic::connection::{Error, Handle};
use s2n_quic::stream::SendStream;
use tokio::sync::Notify;

use super::observer::Observed;
use crate::CarrierError;
use crate::ended::Ended;
use crate::info::Admission;
use crate::quic::shared::canonical;

/// The state of one connection.
pub(super) struct Shared {
    pub(super) handle: Handle,
    pub(super) ended: Ended,
    pub(super) observed: Arc<Observed>,
    /// The connection itself is over, and not only closed on this side.
    pub(super) gone: Ended,
    idle_timeout: Duration,
    is_admitted: AtomicBool,
    admission: Mutex<Option<Box<dyn Admission>>>,
    n_streams: AtomicUsize,
    is_draining: AtomicBool,
    peer_drains: AtomicBool,
    /// This side has closed the carrier; what was written is still being sent.
    is_closing: AtomicBool,
    sending: Mutex<Sending>,
    /// Wakes who waits for a sending half to be delivered.
    delivered: Notify,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
}

/// The sending halves from which something may be under way. s2n-quic forgets what was written when
/// a connection is closed, so they are asked before.
#[derive(Default)]
struct Sending {
    open: HashMap<u64, Arc<Mutex<SendStream>>>,
    /// Ended, and not yet acknowledged to the last byte.
    n_ending: usize,
}

impl Shared {
    /// `admission` is there for a stranger.
    pub(super) fn new(
        handle: Handle,
        idle_timeout: Duration,
        admission: Option<Box<dyn Admission>>,
    ) -> Self {
        let observed = handle.query_event_context(|observed: &Arc<Observed>| Arc::clone(observed));
        Self {
            handle,
            ended: Ended::default(),
            // Without it, nothing is known of the path.
            observed: observed.unwrap_or_default(),
            gone: Ended::default(),
            idle_timeout,
            is_admitted: AtomicBool::new(admission.is_none()),
            admission: Mutex::new(admission),
            n_streams: AtomicUsize::new(0),
            is_draining: AtomicBool::new(false),
            peer_drains: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            sending: Mutex::default(),
            delivered: Notify::new(),
            bytes_sent: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
        }
    }

    /// Notes the end of the connection.
    pub(super) fn note_gone(&self, error: &Error) {
        let reason = self.ended_by(error);
        self.gone.set(reason);
        self.sending.lock().open.clear();
        self.delivered.notify_waiters();
        self.admission.lock().take();
    }

    /// Lifts the bounds for strangers.
    pub(super) fn admit(&self) {
        if self.is_admitted.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(admission) = &*self.admission.lock() {
            admission.admit();
        }
    }

    pub(super) fn is_admitted(&self) -> bool {
        self.is_admitted.load(Ordering::Acquire)
    }

    /// Counts a stream. False when the carrier takes no new ones.
    pub(super) fn begin_stream(&self) -> bool {
        // Counted before the look, as `drain` looks at the count after its mark is set.
        self.n_streams.fetch_add(1, Ordering::SeqCst);
        if self.is_draining() {
            self.n_streams.fetch_sub(1, Ordering::SeqCst);
            return false;
        }
        true
    }

    /// Keeps a sending half in sight until [`Self::end_sending`].
    pub(super) fn begin_sending(&self, send: SendStream) -> Arc<Mutex<SendStream>> {
        let id = send.id();
        let send = Arc::new(Mutex::new(send));
        self.sending.lock().open.insert(id, Arc::clone(&send));
        send
    }

    /// The stream's owner is gone: ends its sending half after what was written.
    pub(super) fn end_sending(self: &Arc<Self>, id: u64) {
        if self.is_closing() {
            // The carrier broke the stream off. An end in good order would be a lie, so it stays
            // open until the connection is closed.
            return;
        }
        let mut sending = self.sending.lock();
        let Some(send) = sending.open.remove(&id) else {
            return;
        };
        if send.lock().finish().is_err() {
            return;
        }
        // Outside a runtime nobody could wait for it; s2n-quic sends it all the same.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        sending.n_ending += 1;
        let shared = Arc::clone(self);
        runtime.spawn(async move {
            // An error means that there is nothing left to deliver.
            let _ = poll_fn(|cx| send.lock().poll_close(cx)).await;
            shared.sending.lock().n_ending -= 1;
            shared.delivered.notify_waiters();
        });
    }

    pub(super) fn end_stream(self: &Arc<Self>) {
        if self.n_streams.fetch_sub(1, Ordering::SeqCst) == 1 && self.is_draining() {
            self.close(LINGER_TIMEOUT);
        }
    }

    pub(super) fn drain(self: &Arc<Self>) {
        self.is_draining.store(true, Ordering::SeqCst);
        if self.n_streams.load(Ordering::SeqCst) == 0 {
            self.close(LINGER_TIMEOUT);
        }
    }

    /// Ends the carrier. What was written is sent for as long as `within`.
    pub(super) fn close(self: &Arc<Self>, within: Duration) {
        if !self.ended.set(CarrierError::ClosedHere) {
            return;
        }
        self.is_closing.store(true, Ordering::Release);
        // Outside a runtime there is nothing that could wait.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return self.close_now();
        };
        let shared = Arc::clone(self);
        runtime.spawn(async move {
            let _ = tokio::time::timeout(within, shared.deliver()).await;
            shared.close_now();
        });
    }

    /// Gives the connection up, since there is no use in sending.
    pub(super) fn abandon(&self, reason: CarrierError) {
        self.ended.set(reason);
        self.close_now();
    }

    /// Waits until the peer has everything that was written.
    async fn deliver(&self) {
        let open: Vec<_> = self.sending.lock().open.values().cloned().collect();
        for send in open {
            // One that has failed has nothing more to deliver.
            let _ = poll_fn(|cx| send.lock().poll_flush(cx)).await;
        }
        loop {
            let mut delivered = std::pin::pin!(self.delivered.notified());
            delivered.as_mut().enable();
            if self.sending.lock().n_ending == 0 {
                return;
            }
            delivered.await;
        }
    }

    fn close_now(&self) {
        // The end of a session over QUIC in frp.
        self.handle.close(NO_ERROR.into());
    }

    pub(super) fn note_peer_drains(&self) {
        self.peer_drains.store(true, Ordering::Relaxed);
    }

    /// Why no stream can be opened at the moment, if so.
    pub(super) fn refusal(&self) -> Option<CarrierError> {
        if let Some(reason) = self.ended.get() {
            return Some(reason.clone());
        }
        if self.is_draining() {
            return Some(CarrierError::NoStream("the carrier is being left"));
        }
        if self.peer_drains.load(Ordering::Relaxed) {
            return Some(CarrierError::NoStream("the peer is leaving the carrier"));
        }
        None
    }

    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::SeqCst)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    pub(super) fn n_streams(&self) -> usize {
        self.n_streams.load(Ordering::Relaxed)
    }

    pub(super) fn bytes_sent(&self) -> u64 {
        self.bytes_sent.load(Ordering::Relaxed)
    }

    pub(super) fn bytes_received(&self) -> u64 {
        self.bytes_received.load(Ordering::Relaxed)
    }

    pub(super) fn note_sent(&self, n: usize) {
        self.bytes_sent.fetch_add(n as u64, Ordering::Relaxed);
    }

    pub(super) fn note_received(&self, n: usize) {
        self.bytes_received.fetch_add(n as u64, Ordering::Relaxed);
    }

    pub(super) fn peer_addr(&self) -> Option<SocketAddr> {
        self.handle.remote_addr().ok().map(canonical)
    }

    /// The end of the carrier as an error of one of its streams.
    pub(super) fn as_io_error(&self) -> io::Error {
        let reason = self.ended.get().cloned();
        let reason = reason.unwrap_or(CarrierError::ClosedHere);
        io::Error::new(io::ErrorKind::ConnectionAborted, reason)
    }

    /// Notes the end of the connection and returns the reason for the carrier's.
    pub(super) fn ended_by(&self, error: &Error) -> CarrierError {
        let reason = self.reason(error);
        self.ended.set(reason.clone());
        self.ended.get().cloned().unwrap_or(reason)
    }

    fn reason(&self, error: &Error) -> CarrierError {
        match error {
            Error::Closed { initiator, .. } if initiator.is_remote() => CarrierError::ClosedByPeer,
            Error::Closed { .. } => CarrierError::ClosedHere,
            Error::Application {
                error, initiator, ..
            } => match (initiator.is_remote(), code_of(*error)) {
                (false, _) => CarrierError::ClosedHere,
                (true, 0) => CarrierError::ClosedByPeer,
                (true, code) => CarrierError::Lost(format!("closed by peer: error {code}")),
            },
            Error::IdleTimerExpired { .. } => CarrierError::Silent(self.idle_timeout),
            Error::Transport { initiator, .. } if !initiator.is_remote() => {
                CarrierError::Protocol(error.to_string())
            }
            error => CarrierError::Lost(error.to_string()),
        }
    }
}

pub(super) fn code_of(error: application::Error) -> u64 {
    error.into()
}

/// How long a closed carrier goes on sending: the contract's second.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a carrier that has been left goes on sending what its streams have written: as long as
/// with quinn.
const LINGER_TIMEOUT: Duration = Duration::from_secs(300);

/// What a stream or a connection is closed with in good order, as by Go.
pub(super) const NO_ERROR: u8 = 0;

/// What a reset stream is ended with.
pub(super) const RESET: u8 = 1;

/// What a stream is turned down with by a carrier that takes no new ones.
pub(super) const REFUSED: u8 = 2;
