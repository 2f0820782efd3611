//! A carrier that a client has opened, and what has been established about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use frp_core::hold::CarrierId;
use frp_core::transports::Carrier;
use parking_lot::Mutex;

use crate::held::Held;

/// One carrier of a client's.
#[derive(Debug)]
pub(crate) struct Link {
    /// Names it in this process.
    pub(crate) id: CarrierId,
    /// The carrier.
    pub(crate) carrier: Arc<dyn Carrier>,
    is_admitted: AtomicBool,
    n_sessions: AtomicUsize,
    n_refused_joins: AtomicUsize,
    held: Mutex<Option<Arc<Held>>>,
}

/// Where a conn comes from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// The carrier that it came over, or begins on.
    pub(crate) link: Arc<Link>,
    /// Whose held stream it is, if it is one.
    pub(crate) held: Option<Arc<Held>>,
}

impl Link {
    /// A carrier of which nothing is known.
    pub(crate) fn new(carrier: Arc<dyn Carrier>) -> Arc<Self> {
        static LAST_ID: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            id: CarrierId(LAST_ID.fetch_add(1, Ordering::Relaxed) + 1),
            carrier,
            is_admitted: AtomicBool::new(false),
            n_sessions: AtomicUsize::new(0),
            n_refused_joins: AtomicUsize::new(0),
            held: Mutex::default(),
        })
    }

    /// The peer has proven itself: the bounds for strangers no longer hold.
    pub(crate) fn admit(&self) {
        if !self.is_admitted.swap(true, Ordering::AcqRel) {
            self.carrier.admit();
        }
    }

    /// Whether the peer has proven itself.
    pub(crate) fn is_admitted(&self) -> bool {
        self.is_admitted.load(Ordering::Acquire)
    }

    /// A session begins on this carrier.
    pub(crate) fn join(&self) {
        self.n_sessions.fetch_add(1, Ordering::AcqRel);
    }

    /// A session on this carrier has ended. After the last one the carrier takes no new streams,
    /// and closes when the streams that users are on have ended.
    pub(crate) fn leave(&self) {
        if self.n_sessions.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.carrier.drain();
        }
    }

    /// Held streams that come over this carrier belong to `held`, once the carrier has joined it.
    /// False when they belong to another one already.
    pub(crate) fn belong_to(&self, held: &Arc<Held>) -> bool {
        let mut present = self.held.lock();
        match &*present {
            Some(present) => Arc::ptr_eq(present, held),
            None => {
                *present = Some(Arc::clone(held));
                true
            }
        }
    }

    /// Takes [`belong_to`](Self::belong_to) back.
    pub(crate) fn part_from(&self, held: &Arc<Held>) {
        let mut present = self.held.lock();
        if present
            .as_ref()
            .is_some_and(|present| Arc::ptr_eq(present, held))
        {
            *present = None;
        }
    }

    /// A join over this carrier was refused. Returns how many were.
    pub(crate) fn count_refused_join(&self) -> usize {
        self.n_refused_joins.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whose held streams come over this carrier. It may be that it has yet to join.
    pub(crate) fn held(&self) -> Option<Arc<Held>> {
        self.held.lock().clone()
    }
}
