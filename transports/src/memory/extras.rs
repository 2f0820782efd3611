//! What carriers in memory have when it is asked for: keys as of TLS, and datagrams.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

/// What a transport's carriers have.
#[derive(Clone, Debug, Default)]
pub(super) struct Extras {
    pub(super) has_keys: bool,
    pub(super) has_datagrams: bool,
    /// Whether datagrams get lost at the moment.
    pub(super) loses_datagrams: Arc<AtomicBool>,
}

/// What only the two ends of a link know.
#[derive(Debug)]
pub(super) struct Keys([u8; 32]);

impl Keys {
    pub(super) fn new() -> Self {
        Self(rand::random())
    }

    /// Different bytes for every label and context: lengths go first, so that no two run together.
    pub(super) fn export(&self, out: &mut [u8], label: &[u8], context: &[u8]) {
        for (block, piece) in (0_u64..).zip(out.chunks_mut(32)) {
            let mut hash = Sha256::new_with_prefix(self.0);
            for part in [&block.to_be_bytes()[..], label, context] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
            piece.copy_from_slice(&hash.finalize()[..piece.len()]);
        }
    }
}

/// Datagrams to one end of a link.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    waiting: Mutex<VecDeque<Bytes>>,
    changed: Notify,
}

/// The longest datagram: about what fits into a packet.
pub(super) const MAX_DATAGRAM_LEN: usize = 1200;

/// Datagrams that wait to be taken. Beyond it the oldest are dropped, as on the real transports.
const MAX_WAITING: usize = 512;

impl Datagrams {
    pub(super) fn push(&self, datagram: Bytes, extras: &Extras) {
        if extras.loses_datagrams.load(Ordering::Relaxed) {
            return;
        }
        let mut waiting = self.waiting.lock();
        if waiting.len() == MAX_WAITING {
            waiting.pop_front();
        }
        waiting.push_back(datagram);
        drop(waiting);
        self.changed.notify_one();
    }

    /// Waits for the next. Cancel safe; for one task at a time.
    pub(super) async fn next(&self) -> Bytes {
        loop {
            if let Some(datagram) = self.waiting.lock().pop_front() {
                return datagram;
            }
            self.changed.notified().await;
        }
    }
}
