//! A carrier as its session's streams see it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use frp_proto::hold::CarrierId;
use tokio::task::AbortHandle;
use transports::Carrier;

/// The longest payload of a copy: fits into a datagram on every path that QUIC works on (1,200
/// bytes of UDP payload, less its header and tag). A longer one would be refused by some carriers.
pub(in crate::hold) const MAX_COPY_LEN: usize = 1_100;

/// One carrier of a session. What changes while it is used is read by its streams as they go.
pub(in crate::hold) struct HeldCarrier {
    pub(in crate::hold) id: CarrierId,
    pub(in crate::hold) carrier: Arc<dyn Carrier>,
    /// The shortest round trip of late in microseconds; 0 while nobody has said.
    rtt_micros: AtomicU64,
    sends_copies: AtomicBool,
}

impl HeldCarrier {
    pub(super) fn new(id: CarrierId, carrier: Arc<dyn Carrier>) -> Arc<Self> {
        let rtt = carrier.path_stats().rtt.unwrap_or_default();
        let held = Self {
            id,
            carrier,
            rtt_micros: AtomicU64::new(0),
            sends_copies: AtomicBool::new(false),
        };
        held.set_rtt(rtt);
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

    pub(super) fn set_copies(&self, is_on: bool) {
        self.sends_copies.store(is_on, Ordering::Relaxed);
    }

    /// Whether interactive data goes a second time as datagrams.
    pub(in crate::hold) fn sends_copies(&self) -> bool {
        self.sends_copies.load(Ordering::Relaxed)
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
