//! A bounded queue for what is worth less the older it gets: at the bound, the oldest goes.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Filled by any number of tasks, and emptied by one.
#[derive(Debug)]
pub struct FreshQueue<T> {
    waiting: Mutex<VecDeque<T>>,
    filled: Notify,
    max: usize,
}

impl<T> FreshQueue<T> {
    /// An empty queue of at most `max` items.
    pub fn new(max: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            filled: Notify::new(),
            max,
        }
    }

    /// Adds one. Says whether the oldest was dropped for it.
    #[must_use]
    pub fn push(&self, item: T) -> bool {
        let mut waiting = self.waiting.lock();
        let is_full = waiting.len() >= self.max;
        if is_full {
            waiting.pop_front();
        }
        waiting.push_back(item);
        drop(waiting);
        self.filled.notify_one();
        is_full
    }

    /// Takes the oldest, if there is one.
    pub fn try_pop(&self) -> Option<T> {
        self.waiting.lock().pop_front()
    }

    /// Waits for the oldest. Cancel safe.
    pub async fn pop(&self) -> T {
        loop {
            if let Some(item) = self.try_pop() {
                return item;
            }
            self.filled.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_are_kept_in_order() {
        let queue = FreshQueue::new(3);
        let n_dropped = (0..10).filter(|n| queue.push(*n)).count();
        assert_eq!(n_dropped, 7);
        for n in 7..10 {
            assert_eq!(queue.pop().await, n);
        }
        assert_eq!(queue.try_pop(), None);
    }

    #[tokio::test]
    async fn whoever_waits_is_woken() {
        let queue = FreshQueue::new(3);
        let (taken, _) = tokio::join!(queue.pop(), async { queue.push(1) });
        assert_eq!(taken, 1);
    }
}
