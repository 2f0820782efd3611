//! How well a client does, counted where it happens and read by whoever looks.

use std::fmt::Display;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

/// Counters that nothing else depends on: relaxed is enough.
#[derive(Debug, Default)]
pub struct Health {
    n_sessions: AtomicU32,
    login_failures: AtomicU32,
    login_error: Mutex<String>,
    work_conn_failures: AtomicU32,
}

impl Health {
    /// A session has begun.
    pub fn logged_in(&self) {
        self.n_sessions.fetch_add(1, Ordering::Relaxed);
        self.login_failures.store(0, Ordering::Relaxed);
        self.work_conn_failures.store(0, Ordering::Relaxed);
    }

    /// A login has failed, and there is no session.
    pub fn login_failed(&self, error: &dyn Display) {
        self.login_failures.fetch_add(1, Ordering::Relaxed);
        *self.login_error.lock() = error.to_string();
    }

    /// A stream for a user could be opened.
    pub fn work_conn_opened(&self) {
        self.work_conn_failures.store(0, Ordering::Relaxed);
    }

    /// It could not.
    pub fn work_conn_failed(&self) {
        self.work_conn_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Sessions that have begun.
    pub fn n_sessions(&self) -> u32 {
        self.n_sessions.load(Ordering::Relaxed)
    }

    /// Logins that failed in a row, and what the last one said.
    pub fn login_failures(&self) -> (u32, String) {
        let n_failures = self.login_failures.load(Ordering::Relaxed);
        (n_failures, self.login_error.lock().clone())
    }

    /// Streams that could not be opened, in a row.
    pub fn work_conn_failures(&self) -> u32 {
        self.work_conn_failures.load(Ordering::Relaxed)
    }
}
