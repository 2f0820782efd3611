//! Whether a client has a session, and since when.

use std::fmt::Display;

use frp_core::terminal::now_ms;
use parking_lot::Mutex;

use crate::links::EventStatus;

/// Told by the client as it goes, read by whoever wants to show it.
#[derive(Debug)]
pub(crate) struct Standing {
    /// When the client was made, in milliseconds since 1970.
    started_ms: u64,
    now: Mutex<Now>,
}

#[derive(Clone, Debug)]
struct Now {
    is_up: bool,
    since_ms: u64,
    is_holdfast: Option<bool>,
    last_error: Option<EventStatus>,
}

impl Default for Standing {
    fn default() -> Self {
        let started_ms = now_ms();
        Self {
            started_ms,
            now: Mutex::new(Now {
                is_up: false,
                since_ms: started_ms,
                is_holdfast: None,
                last_error: None,
            }),
        }
    }
}

impl Standing {
    /// A session has begun.
    pub(crate) fn begin(&self, is_holdfast: bool) {
        let mut now = self.now.lock();
        now.is_holdfast = Some(is_holdfast);
        now.last_error = None;
        now.turn(true);
    }

    /// The session is over.
    pub(crate) fn end(&self) {
        self.now.lock().turn(false);
    }

    /// A login has failed.
    pub(crate) fn failed(&self, error: &dyn Display) {
        self.now.lock().last_error = Some(EventStatus {
            at_ms: now_ms(),
            kind: "login".to_owned(),
            text: error.to_string(),
        });
    }

    /// When the client was made.
    pub(crate) fn started_ms(&self) -> u64 {
        self.started_ms
    }

    /// Whether there is a session, and since when that is so.
    pub(crate) fn session(&self) -> (bool, u64) {
        let now = self.now.lock();
        (now.is_up, now.since_ms)
    }

    /// Whether the server was a Holdfast when it answered last.
    pub(crate) fn is_holdfast(&self) -> Option<bool> {
        self.now.lock().is_holdfast
    }

    /// Why the last login failed.
    pub(crate) fn last_error(&self) -> Option<EventStatus> {
        self.now.lock().last_error.clone()
    }
}

impl Now {
    fn turn(&mut self, is_up: bool) {
        if self.is_up != is_up {
            self.is_up = is_up;
            self.since_ms = now_ms();
        }
    }
}
