//! A carrier as its session's streams see it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use frp_proto::hold::{CarrierId, CopyPlan};
use lossy::redundancy::Redundancy;
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use transports::{Carrier, DatagramError};

use crate::hold::clock::now;
use crate::hold::watch::UNKNOWN_LOSS;

/// The longest payload of a copy: fits into a datagram on every path that QUIC works on (1,200
/// bytes of UDP payload, less its header and tag). A longer one would be refused by some carriers.
pub(in crate::hold) const MAX_COPY_LEN: usize = 1_100;

/// One carrier of a session. What changes while it is used is read by its streams as they go.
pub(in crate::hold) struct HeldCarrier {
    pub(in crate::hold) id: CarrierId,
    pub(in crate::hold) carrier: Arc<dyn Carrier>,
    /// The shortest round trip of late in microseconds; 0 while nobody has said.
    rtt_micros: AtomicU64,
    /// Of copies: whether the carrier has datagrams, as far as is known, what the path loses, and
    /// how fast it is.
    has_datagrams: AtomicBool,
    loss_millionths: AtomicU64,
    send_rate: AtomicU64,
    redundancy: Mutex<Redundancy>,
}

/// Shorter than this a copy could leave in one packet with what it is a copy of: the clock of
/// timers ticks in milliseconds.
const MIN_SPACING: Duration = Duration::from_millis(2);

/// What a copy takes on the wire beside its bytes: the headers of the datagram, of QUIC, of UDP and
/// of IP.
const COPY_OVERHEAD: u64 = 80;

const MILLION: f64 = 1e6;

impl HeldCarrier {
    pub(super) fn new(id: CarrierId, carrier: Arc<dyn Carrier>) -> Arc<Self> {
        let rtt = carrier.path_stats().rtt.unwrap_or_default();
        let held = Self {
            id,
            carrier,
            rtt_micros: AtomicU64::new(0),
            has_datagrams: AtomicBool::new(true),
            loss_millionths: AtomicU64::new(0),
            send_rate: AtomicU64::new(0),
            redundancy: Mutex::new(Redundancy::new(now())),
        };
        held.set_rtt(rtt);
        held.set_loss(UNKNOWN_LOSS, None);
        Arc::new(held)
    }

    // Single values that are read by their own: relaxed is enough.

    pub(super) fn set_rtt(&self, rtt: Duration) {
        let micros = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
        self.rtt_micros.store(micros, Ordering::Relaxed);
    }

    /// The round trip, once it is known.
    pub(in crate::hold) fn rtt(&self) -> Option<Duration> {
        let micros = self.rtt_micros.load(Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share, which is at least 0"
    )]
    pub(super) fn set_loss(&self, loss: f64, send_rate: Option<u64>) {
        let millionths = (loss.clamp(0.0, 1.0) * MILLION) as u64;
        self.loss_millionths.store(millionths, Ordering::Relaxed);
        if let Some(rate) = send_rate {
            self.send_rate.store(rate, Ordering::Relaxed);
        }
    }

    /// Which copies of so many bytes are to be made. `None`: there are none.
    #[expect(clippy::cast_precision_loss, reason = "a million at most")]
    pub(in crate::hold) fn plan_copies(&self, n_bytes: u64, now: Instant) -> Option<CopyPlan> {
        if n_bytes > 0 && self.carrier.wants_copies() {
            // Once and at once: it goes again as often as the carrier finds that the path asks for.
            // Without credit it goes as the stream's data only.
            let rate = self.send_rate.load(Ordering::Relaxed);
            let may_go = (self.redundancy.lock()).take(now, n_bytes + COPY_OVERHEAD, rate);
            return may_go.then_some(CopyPlan {
                n_copies: 1,
                spacing: Duration::ZERO,
            });
        }
        let millionths = self.loss_millionths.load(Ordering::Relaxed);
        if millionths == 0 || n_bytes == 0 || !self.has_datagrams.load(Ordering::Relaxed) {
            return None;
        }
        let copies = self.redundancy.lock().copies(
            now,
            n_bytes + COPY_OVERHEAD,
            millionths as f64 / MILLION,
            self.send_rate.load(Ordering::Relaxed),
            self.rtt().unwrap_or_default(),
        );
        (copies.n_extra > 0).then(|| CopyPlan {
            n_copies: copies.n_extra,
            spacing: copies.spacing.max(MIN_SPACING),
        })
    }

    /// Sends a copy. What does not get through is no loss. Says whether it is on its way.
    pub(in crate::hold) fn send_copy(&self, datagram: Bytes) -> bool {
        let sent = self.carrier.send_copy(datagram);
        if matches!(sent, Err(DatagramError::Unsupported)) {
            self.has_datagrams.store(false, Ordering::Relaxed);
        }
        sent.inspect_err(|error| tracing::trace!("no copy: {error}"))
            .is_ok()
    }
}

impl fmt::Debug for HeldCarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldCarrier")
            .field("id", &self.id)
            .field("carrier", &self.carrier)
            .finish_non_exhaustive()
    }
}

/// A carrier with the task that waits for its end.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) held: Arc<HeldCarrier>,
    pub(super) watcher: AbortHandle,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}
