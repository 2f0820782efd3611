//! Bytes that many streams may keep together: per session, and per process above it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A bound shared by many streams. Clones share it; a [child](Self::child) counts in its parent.
///
/// At the bound a stream keeps what its floor allows ([`FLOOR`]) and no more, so that every stream
/// goes on, if slowly, and none has to be woken when another gives something back.
///
/// What was promised to peers that have long sent nothing is kept in mind apart, up to the same bound
/// once more, and is in nobody's way: were all of them to send at once, twice the bound would be
/// kept. Beyond it promises stay among what is taken.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: u64,
    used: AtomicU64,
    /// Promised, and not used for long.
    idle: AtomicU64,
    parent: Option<Budget>,
}

/// What every direction of a stream may keep whatever the budget says: one full DATA frame.
pub const FLOOR: u64 = 16 * 1024;

/// As long as no more than this part of a budget is used, it counts as roomy.
const ROOMY_PART: u64 = 4;

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self::with_parent(limit, None)
    }

    /// A budget of `limit` bytes that are taken from this one as well.
    pub fn child(&self, limit: u64) -> Self {
        Self::with_parent(limit, Some(self.clone()))
    }

    /// How many bytes are taken at the moment.
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// The bound.
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// Whether most of it is left, so that a stream may have room that it has not shown to need.
    fn is_roomy(&self) -> bool {
        let parent = self.0.parent.as_ref();
        self.used() <= self.limit() / ROOMY_PART && parent.is_none_or(Self::is_roomy)
    }

    /// Takes `n` bytes, or nothing.
    pub(super) fn take(&self, n: u64) -> bool {
        let Inner {
            limit,
            used,
            parent,
            ..
        } = &*self.0;
        let add = |used: u64| used.checked_add(n).filter(|sum| sum <= limit);
        // Only a sum is kept here and nothing is read by its order, so relaxed is enough.
        if used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
            .is_err()
        {
            return false;
        }
        if parent.as_ref().is_some_and(|parent| !parent.take(n)) {
            used.fetch_sub(n, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// Gives back `n` bytes that were taken.
    pub(super) fn give_back(&self, n: u64) {
        self.0.used.fetch_sub(n, Ordering::Relaxed);
        if let Some(parent) = &self.0.parent {
            parent.give_back(n);
        }
    }

    /// Moves `n` taken bytes to those that are promised only, or leaves them.
    fn put_aside(&self, n: u64) -> bool {
        let Inner {
            limit,
            idle,
            parent,
            ..
        } = &*self.0;
        let add = |idle: u64| idle.checked_add(n).filter(|sum| sum <= limit);
        if idle
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
            .is_err()
        {
            return false;
        }
        if parent.as_ref().is_some_and(|parent| !parent.put_aside(n)) {
            idle.fetch_sub(n, Ordering::Relaxed);
            return false;
        }
        self.0.used.fetch_sub(n, Ordering::Relaxed);
        true
    }

    /// Counts them as taken again, even beyond the bound: the peer was told that it may send them.
    fn take_back(&self, n: u64) {
        self.0.used.fetch_add(n, Ordering::Relaxed);
        self.0.idle.fetch_sub(n, Ordering::Relaxed);
        if let Some(parent) = &self.0.parent {
            parent.take_back(n);
        }
    }

    fn with_parent(limit: u64, parent: Option<Self>) -> Self {
        let used = AtomicU64::new(0);
        Self(Arc::new(Inner {
            limit,
            used,
            idle: AtomicU64::new(0),
            parent,
        }))
    }
}

/// What one direction of a stream has taken. Gives it back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Budget,
    /// No direction of a stream has more than some windows.
    taken: u32,
    /// It is among what is promised only.
    is_idle: bool,
}

impl Share {
    pub(super) fn new(budget: Budget) -> Self {
        Self {
            budget,
            taken: 0,
            is_idle: false,
        }
    }

    /// Whether most of the budget is left.
    pub(super) fn is_roomy(&self) -> bool {
        self.budget.is_roomy()
    }

    /// Makes the share as large as `n_bytes` beyond the floor ask for. False, and nothing has
    /// changed, when the budget does not have as much.
    pub(super) fn resize(&mut self, n_bytes: u64) -> bool {
        self.wake();
        let Ok(wanted) = u32::try_from(n_bytes.saturating_sub(FLOOR)) else {
            return false;
        };
        if wanted > self.taken && !self.budget.take((wanted - self.taken).into()) {
            return false;
        }
        if wanted < self.taken {
            self.budget.give_back((self.taken - wanted).into());
        }
        self.taken = wanted;
        true
    }

    /// Whether there is anything that others could use.
    pub(super) fn is_busy(&self) -> bool {
        self.taken > 0 && !self.is_idle
    }

    /// Nothing has come for long: what is taken is in nobody's way from here on.
    pub(super) fn rest(&mut self) {
        self.is_idle = self.is_idle || self.budget.put_aside(self.taken.into());
    }

    /// What is taken may be used.
    pub(super) fn wake(&mut self) {
        if std::mem::take(&mut self.is_idle) {
            self.budget.take_back(self.taken.into());
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.wake();
        self.budget.give_back(self.taken.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_bounded_by_its_own_budget_and_by_that_of_the_process() {
        let process = Budget::new(100);
        let (one, two) = (process.child(80), process.child(80));
        assert!(one.take(80) && !one.take(1), "its own bound");
        assert!(!two.take(21) && two.take(20), "that of the process");
        assert_eq!((one.used(), two.used(), process.used()), (80, 20, 100));
        one.give_back(80);
        assert!(two.take(60));
    }

    #[test]
    fn a_share_counts_from_its_floor_and_ends_with_its_owner() {
        let budget = Budget::new(FLOOR);
        let mut share = Share::new(budget.clone());
        assert!(share.resize(FLOOR));
        assert_eq!(budget.used(), 0);
        assert!(share.resize(2 * FLOOR));
        assert!(!share.resize(2 * FLOOR + 1));
        assert_eq!(budget.used(), FLOOR);
        drop(share);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_idle_streams_were_promised_is_in_nobodys_way_up_to_the_bound_once_more() {
        let process = Budget::new(10 * FLOOR);
        let budget = process.child(4 * FLOOR);
        let share_of = |n: u64| {
            let mut share = Share::new(budget.clone());
            assert!(share.resize((n + 1) * FLOOR));
            share
        };
        let mut first = share_of(4);
        assert!(!budget.is_roomy());
        first.rest();
        first.rest();
        assert!(budget.is_roomy() && !first.is_busy());
        assert_eq!((budget.used(), process.used()), (0, 0));

        let mut second = share_of(1);
        second.rest();
        assert!(second.is_busy(), "so much is promised already");
        first.wake();
        assert_eq!((budget.used(), process.used()), (5 * FLOOR, 5 * FLOOR));
        assert!(!Share::new(budget.clone()).resize(2 * FLOOR));
        drop(first);
        second.rest();
        drop(second);
        assert_eq!((budget.used(), process.used()), (0, 0));
        assert_eq!(budget.0.idle.load(Ordering::Relaxed), 0);
    }
}
