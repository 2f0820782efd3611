//! What a session counts, over all of its streams.

use std::sync::atomic::{AtomicU64, Ordering};

/// Shared by a session and its streams. Sums that nothing else depends on: relaxed is enough.
#[derive(Debug, Default)]
pub(in crate::hold) struct Counters {
    n_refused: AtomicU64,
    n_moved: AtomicU64,
    /// Bytes that streams which are over have sent again.
    replayed: AtomicU64,
    n_copies_sent: AtomicU64,
    n_copies_used: AtomicU64,
}

impl Counters {
    /// Something of the peer's was refused that no peer sends, for one of a few causes. What comes
    /// of switches that overtake each other is not counted.
    pub(in crate::hold) fn refuse(&self, cause: &'static str) {
        self.n_refused.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("holdfast_rejected_total", "cause" => cause).increment(1);
    }

    pub(in crate::hold) fn count_move(&self) {
        self.n_moved.fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::hold) fn count_replayed(&self, n_bytes: u64) {
        self.replayed.fetch_add(n_bytes, Ordering::Relaxed);
    }

    /// A copy of interactive data has been sent.
    pub(in crate::hold) fn count_copy_sent(&self) {
        self.n_copies_sent.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("holdfast_copies_sent_total").increment(1);
    }

    /// A copy has brought what was not there yet.
    pub(in crate::hold) fn count_copy_used(&self) {
        self.n_copies_used.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("holdfast_copies_used_total").increment(1);
    }

    pub(super) fn n_copies_sent(&self) -> u64 {
        self.n_copies_sent.load(Ordering::Relaxed)
    }

    pub(super) fn n_copies_used(&self) -> u64 {
        self.n_copies_used.load(Ordering::Relaxed)
    }

    pub(super) fn n_refused(&self) -> u64 {
        self.n_refused.load(Ordering::Relaxed)
    }

    pub(super) fn n_moved(&self) -> u64 {
        self.n_moved.load(Ordering::Relaxed)
    }

    pub(super) fn replayed(&self) -> u64 {
        self.replayed.load(Ordering::Relaxed)
    }
}
