//! The held sessions of one server.

use std::collections::HashMap;
use std::sync::Arc;

use frp_core::proto::hold::Budget;
use frp_core::proto::hold::key::SessionId;
use parking_lot::Mutex;

use super::Held;

/// The held sessions of one server, by the ids that name them on the wire.
#[derive(Debug)]
pub(crate) struct HeldSessions {
    by_id: Mutex<HashMap<SessionId, Arc<Held>>>,
    /// What all of their streams may keep together.
    pub(super) budget: Budget,
}

impl Default for HeldSessions {
    fn default() -> Self {
        Self {
            by_id: Mutex::default(),
            budget: Budget::new(MAX_BYTES),
        }
    }
}

impl HeldSessions {
    /// From here on carriers can join it.
    pub(super) fn insert(&self, held: &Arc<Held>) {
        self.by_id
            .lock()
            .insert(*held.session.id(), Arc::clone(held));
    }

    /// Forgets a session that is over.
    pub(crate) fn remove(&self, held: &Held) {
        self.by_id.lock().remove(held.session.id());
    }

    /// The session with that id.
    pub(super) fn get(&self, id: &SessionId) -> Option<Arc<Held>> {
        self.by_id.lock().get(id).cloned()
    }

    /// All of them.
    pub(crate) fn list(&self) -> Vec<Arc<Held>> {
        self.by_id.lock().values().cloned().collect()
    }
}

/// What the streams of all clients may keep together for repetition and for slow readers. Six
/// times what 500 Mbit/s have on the way at 200 ms would be 75 MB, and clients that are away keep
/// theirs. At the bound each stream sends on with its floor of 16 KiB.
pub(crate) const MAX_BYTES: u64 = 512 * 1024 * 1024;
