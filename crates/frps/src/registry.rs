//! The sessions by run id, and the change from an old session to a new one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use frp_core::proto::ids::Short;
use parking_lot::Mutex;

use crate::displacement::{Duel, HeldOff, Stamp, is_stale};
use crate::session::{EndCause, Session};

/// The sessions of one server. For each run id there is one, or none.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    state: Mutex<State>,
    last_id: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    by_run_id: HashMap<String, Entry>,
    is_closed: bool,
}

#[derive(Debug)]
struct Entry {
    session: Arc<Session>,
    /// Goes over from a session to the one that displaces it.
    duel: Duel,
}

impl Registry {
    /// A number for the next session.
    pub(crate) fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Decides whether a login with `run_id` may take the place of the session that has it, if
    /// there is one. Asks that session for a sign of life where it matters.
    ///
    /// `instance` is what a Holdfast says of its process: the same process cannot duel itself.
    pub(crate) async fn may_displace(
        &self,
        run_id: &str,
        stamp: Stamp<'_>,
        instance: Option<&[u8; 16]>,
    ) -> Result<(), HeldOff> {
        let Some(present) = self.get(run_id) else {
            return Ok(());
        };
        let was_alive = present.was_alive_lately();
        if is_stale(stamp, present.stamp()) && (was_alive || present.proves_alive().await) {
            return Err(HeldOff::Stale);
        }
        let same_process = instance.is_some()
            && present.login.holdfast.get().map(|hello| &hello.instance) == instance;
        if same_process || !was_alive {
            return Ok(());
        }
        let is_on = {
            let mut state = self.state.lock();
            let Some(entry) = state.by_run_id.get_mut(run_id) else {
                return Ok(());
            };
            let now = Instant::now();
            let is_on = entry.duel.is_on(now);
            entry.duel.note_attempt(now);
            is_on
        };
        if is_on && present.proves_alive().await {
            Err(HeldOff::Duel)
        } else {
            Ok(())
        }
    }

    /// Puts a pending session in its place. The one that was there is told to end, and returned
    /// for the caller to wait until it has finished.
    pub(crate) fn insert(&self, session: &Arc<Session>) -> Result<Option<Arc<Session>>, Closed> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(Closed);
        }
        let before = state.by_run_id.remove(&session.run_id);
        let duel = before
            .as_ref()
            .map(|entry| entry.duel.clone())
            .unwrap_or_default();
        let entry = Entry {
            session: Arc::clone(session),
            duel,
        };
        state.by_run_id.insert(session.run_id.clone(), entry);
        drop(state);
        Ok(before.map(|entry| {
            let run_id = Short(&session.run_id).to_string();
            entry.session.end(EndCause::Replaced {
                run_id,
                id: session.id,
            });
            entry.session
        }))
    }

    /// Makes a pending session running, unless it was displaced meanwhile.
    pub(crate) fn start(&self, session: &Arc<Session>) -> bool {
        let state = self.state.lock();
        let is_current = state.is_current(session);
        if is_current {
            session.set_running();
        }
        is_current
    }

    /// Whether the session still has its run id.
    pub(crate) fn is_current(&self, session: &Arc<Session>) -> bool {
        self.state.lock().is_current(session)
    }

    /// Forgets a session that has ended.
    pub(crate) fn remove(&self, session: &Arc<Session>) {
        let mut state = self.state.lock();
        if state.is_current(session) {
            state.by_run_id.remove(&session.run_id);
        }
    }

    /// The session with that run id, once its login is answered.
    pub(crate) fn running(&self, run_id: &str) -> Option<Arc<Session>> {
        self.get(run_id).filter(|session| session.is_running())
    }

    /// The sessions that are running.
    pub(crate) fn list_running(&self) -> Vec<Arc<Session>> {
        let state = self.state.lock();
        let sessions = state.by_run_id.values().map(|entry| &entry.session);
        sessions
            .filter(|session| session.is_running())
            .cloned()
            .collect()
    }

    /// How many sessions are running.
    pub(crate) fn n_running(&self) -> usize {
        self.state
            .lock()
            .by_run_id
            .values()
            .filter(|entry| entry.session.is_running())
            .count()
    }

    /// Ends every session and takes no more. Returns those that there were.
    pub(crate) fn close(&self) -> Vec<Arc<Session>> {
        let mut state = self.state.lock();
        state.is_closed = true;
        let sessions: Vec<_> = state
            .by_run_id
            .values()
            .map(|entry| Arc::clone(&entry.session))
            .collect();
        drop(state);
        for session in &sessions {
            session.end(EndCause::Shutdown);
        }
        sessions
    }

    fn get(&self, run_id: &str) -> Option<Arc<Session>> {
        self.state
            .lock()
            .by_run_id
            .get(run_id)
            .map(|entry| Arc::clone(&entry.session))
    }
}

impl State {
    fn is_current(&self, session: &Arc<Session>) -> bool {
        self.by_run_id
            .get(&session.run_id)
            .is_some_and(|entry| Arc::ptr_eq(&entry.session, session))
    }
}

/// The server stops. The text is frp's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("control manager is closed")]
pub(crate) struct Closed;
