//! A bounded queue to another task that never waits: at the bound, the oldest goes.

use std::collections::VecDeque;

use tokio::sync::mpsc;

/// The sending end. What the other has not taken waits here, but for a few.
#[derive(Debug)]
pub(super) struct DropOldest<T> {
    waiting: VecDeque<T>,
    max: usize,
    sender: mpsc::Sender<T>,
}

/// What is handed on before it is taken. Small, since there it cannot be dropped any more.
const HANDED_ON: usize = 8;

impl<T> DropOldest<T> {
    pub(super) fn new(max: usize) -> (Self, mpsc::Receiver<T>) {
        let (sender, receiver) = mpsc::channel(HANDED_ON);
        let queue = Self {
            waiting: VecDeque::new(),
            max,
            sender,
        };
        (queue, receiver)
    }

    /// Adds one. Says whether the oldest was dropped for it.
    pub(super) fn push(&mut self, item: T) -> bool {
        let is_full = self.waiting.len() >= self.max;
        if is_full {
            self.waiting.pop_front();
        }
        self.waiting.push_back(item);
        self.hand_on();
        is_full
    }

    /// Hands on as many as there is room for, and then waits, for good when there are none. Cancel
    /// safe.
    pub(super) async fn run(&mut self) {
        while !self.waiting.is_empty() {
            match self.sender.reserve().await {
                Ok(permit) => {
                    if let Some(item) = self.waiting.pop_front() {
                        permit.send(item);
                    }
                }
                // Nobody will take them.
                Err(_) => self.waiting.clear(),
            }
        }
        std::future::pending::<()>().await;
    }

    /// Waits until all have been handed on, or nobody is there to take them.
    pub(super) async fn finish(mut self) {
        while let Some(item) = self.waiting.pop_front() {
            if self.sender.send(item).await.is_err() {
                return;
            }
        }
    }

    fn hand_on(&mut self) {
        while !self.waiting.is_empty() {
            match self.sender.try_reserve() {
                Ok(permit) => {
                    if let Some(item) = self.waiting.pop_front() {
                        permit.send(item);
                    }
                }
                Err(mpsc::error::TrySendError::Full(())) => return,
                Err(mpsc::error::TrySendError::Closed(())) => self.waiting.clear(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_are_kept_in_order() {
        let (mut queue, mut taken) = DropOldest::new(3);
        let n_dropped = (0..20).filter(|n| queue.push(*n)).count();
        assert_eq!(n_dropped, 20 - HANDED_ON - 3);
        let finishing = tokio::spawn(queue.finish());
        let mut seen = Vec::new();
        while let Some(n) = taken.recv().await {
            seen.push(n);
        }
        assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6, 7, 17, 18, 19]);
        assert!(finishing.await.is_ok());
    }

    #[tokio::test]
    async fn nothing_is_kept_for_a_receiver_that_is_gone() {
        let (mut queue, taken) = DropOldest::new(3);
        drop(taken);
        assert!((0..20).all(|n| !queue.push(n)));
        queue.finish().await;
    }
}
