//! What users do with a session's streams: for the pace of probes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// Shared by a session and its streams, the control stream excepted.
#[derive(Debug, Default)]
pub(in crate::hold) struct Usage {
    n_users: watch::Sender<usize>,
    bytes: AtomicU64,
}

impl Usage {
    /// How many streams have a user; changes can be waited for.
    pub(super) fn subscribe(&self) -> watch::Receiver<usize> {
        self.n_users.subscribe()
    }

    pub(super) fn n_users(&self) -> usize {
        *self.n_users.borrow()
    }

    /// Payload that has passed in streams with a user. Only its changes mean something: relaxed is
    /// enough.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Payload has passed beside the streams.
    pub(super) fn note(&self, n_bytes: usize) {
        self.bytes.fetch_add(n_bytes as u64, Ordering::Relaxed);
    }
}

/// What is noted of one stream. It has a user from when payload has passed in both directions: on
/// one that waits in a pool only its first message has.
#[derive(Debug)]
pub(in crate::hold) struct Used {
    usage: Arc<Usage>,
    has_read: bool,
    has_written: bool,
}

impl Used {
    pub(super) fn new(usage: &Arc<Usage>) -> Self {
        Self {
            usage: Arc::clone(usage),
            has_read: false,
            has_written: false,
        }
    }

    pub(in crate::hold) fn note_read(&mut self, n_bytes: usize) {
        if n_bytes > 0 {
            let had_user = self.has_user();
            self.has_read = true;
            self.note(had_user, n_bytes);
        }
    }

    pub(in crate::hold) fn note_written(&mut self, n_bytes: usize) {
        let had_user = self.has_user();
        self.has_written = true;
        self.note(had_user, n_bytes);
    }

    fn has_user(&self) -> bool {
        self.has_read && self.has_written
    }

    fn note(&self, had_user: bool, n_bytes: usize) {
        if !self.has_user() {
            return;
        }
        self.usage.note(n_bytes);
        if !had_user {
            self.usage.n_users.send_modify(|n| *n += 1);
        }
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        if self.has_user() {
            self.usage.n_users.send_modify(|n| *n = n.saturating_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_has_a_user_when_payload_has_passed_both_ways() {
        let usage = Arc::new(Usage::default());
        let changes = usage.subscribe();
        let mut pooled = Used::new(&usage);
        pooled.note_written(40);
        pooled.note_read(0);
        assert_eq!((usage.n_users(), usage.bytes()), (0, 0));
        assert!(matches!(changes.has_changed(), Ok(false)));

        pooled.note_read(5);
        assert_eq!((usage.n_users(), usage.bytes()), (1, 5));
        assert!(matches!(changes.has_changed(), Ok(true)));
        pooled.note_written(7);
        drop(pooled);
        assert_eq!((usage.n_users(), usage.bytes()), (0, 12));
    }
}
