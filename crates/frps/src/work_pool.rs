//! Work streams that the client has opened ahead, and the users that wait for one.
//!
//! The client opens a work stream for each `ReqWorkConn`. [`WorkPool::put`] takes it in,
//! [`WorkPool::take`] hands it to the user that has waited longest. How many `ReqWorkConn` are
//! still to be sent is a number here and not a queue of messages: the control's writer sends them
//! when the client reads, and asking never waits for the client.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

/// The pool of one session. `T` is an idle work stream.
#[derive(Debug)]
pub(crate) struct WorkPool<T> {
    idle: Mutex<VecDeque<T>>,
    /// One permit per idle stream; its queue is the queue of waiting users.
    available: Semaphore,
    capacity: usize,
    n_waiting: AtomicUsize,
    n_requests: AtomicUsize,
    requested: Notify,
}

impl<T> WorkPool<T> {
    /// A pool for a client that keeps `pool_count` streams open ahead.
    pub(crate) fn new(pool_count: usize) -> Self {
        Self {
            idle: Mutex::default(),
            available: Semaphore::new(0),
            capacity: pool_count + SPARE_CAPACITY,
            n_waiting: AtomicUsize::new(0),
            n_requests: AtomicUsize::new(0),
            requested: Notify::new(),
        }
    }

    /// Takes in a stream that the client has opened.
    pub(crate) fn put(&self, stream: T) -> Result<(), PutError<T>> {
        let mut idle = self.idle.lock();
        if self.available.is_closed() {
            return Err(PutError::Closed(stream));
        }
        if idle.len() >= self.capacity {
            return Err(PutError::Full(stream));
        }
        idle.push_back(stream);
        self.available.add_permits(1);
        Ok(())
    }

    /// Hands out the oldest idle stream, or asks the client for one and waits up to `timeout`.
    ///
    /// Asks for a replacement in either case, as frp does: two requests for a user who had to wait.
    pub(crate) async fn take(&self, timeout: Duration) -> Result<T, TakeError> {
        let stream = match self.try_take()? {
            Some(stream) => stream,
            None => {
                let _place = self.queue_up()?;
                self.request(1);
                let permit = tokio::time::timeout(timeout, self.available.acquire())
                    .await
                    .map_err(|_| TakeError::Timeout)?
                    .map_err(|_| TakeError::Closed)?;
                permit.forget();
                self.idle.lock().pop_front().ok_or(TakeError::Closed)?
            }
        };
        self.request(1);
        Ok(stream)
    }

    /// Ends the pool: waiting users are turned away and idle streams dropped.
    pub(crate) fn close(&self) {
        let idle = {
            let mut idle = self.idle.lock();
            self.available.close();
            std::mem::take(&mut *idle)
        };
        drop(idle);
    }

    /// Asks the client for `n` more streams.
    pub(crate) fn request(&self, n: usize) {
        // Bounded by the users that can wait: two for each, and the pool's own.
        let max = 2 * MAX_WAITING_USERS + self.capacity;
        let add = |now: usize| Some(now.saturating_add(n).min(max));
        let _ = self
            .n_requests
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        self.requested.notify_one();
    }

    /// Waits until there are requests to send, and takes all of them. Cancel safe.
    pub(crate) async fn take_requests(&self) -> usize {
        loop {
            let n = self.n_requests.swap(0, Ordering::Relaxed);
            if n > 0 {
                return n;
            }
            self.requested.notified().await;
        }
    }

    fn try_take(&self) -> Result<Option<T>, TakeError> {
        match self.available.try_acquire() {
            Ok(permit) => {
                permit.forget();
                Ok(self.idle.lock().pop_front())
            }
            Err(tokio::sync::TryAcquireError::NoPermits) => Ok(None),
            Err(tokio::sync::TryAcquireError::Closed) => Err(TakeError::Closed),
        }
    }

    /// Takes a place among the users that wait.
    pub(crate) fn queue_up(&self) -> Result<Place<'_>, TakeError> {
        let n_before = self.n_waiting.fetch_add(1, Ordering::Relaxed);
        let place = Place(&self.n_waiting);
        if n_before >= MAX_WAITING_USERS {
            Err(TakeError::TooManyWaiting)
        } else {
            Ok(place)
        }
    }
}

/// A user's place among those that wait.
#[derive(Debug)]
pub(crate) struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a work stream was not taken in. Gives it back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PutError<T> {
    /// The client opened more than it was asked for. The text is frp's.
    #[error("work connection pool is full, discarding")]
    Full(T),
    /// The session has ended.
    #[error("the session has ended")]
    Closed(T),
}

/// Why a user gets no work stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TakeError {
    /// The client opened none in time. The text is frp's.
    #[error("timeout trying to get work connection")]
    Timeout,
    /// The session has ended. The text is frp's.
    #[error("control is already closed")]
    Closed,
    /// The client has lost every connection to the server, and none came back in time.
    #[error("the client is away, and has not come back in time")]
    Away,
    /// More users wait already than a session may have.
    #[error("{MAX_WAITING_USERS} users wait for a work connection already")]
    TooManyWaiting,
}

/// Streams taken in beyond `pool_count`, as in frp: replies to requests that crossed.
const SPARE_CAPACITY: usize = 10;

/// Users of one session that may wait for a work stream, or for a client that is away, at a time.
/// Each holds a socket, so the
/// number bounds what an unresponsive client can cost.
pub(crate) const MAX_WAITING_USERS: usize = 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn an_idle_stream_is_handed_out_and_asked_for_again() {
        let pool = WorkPool::new(1);
        pool.put('a').unwrap();
        assert_eq!(pool.take(LONG).await.unwrap(), 'a');
        assert_eq!(pool.take_requests().await, 1);
    }

    #[tokio::test]
    async fn a_user_who_waits_asks_twice() {
        let pool = Arc::new(WorkPool::new(1));
        let user = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.take(LONG).await }
        });
        assert_eq!(pool.take_requests().await, 1);
        pool.put('a').unwrap();
        assert_eq!(user.await.unwrap().unwrap(), 'a');
        assert_eq!(pool.take_requests().await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_waits_only_so_long() {
        let pool = WorkPool::<char>::new(1);
        assert_eq!(pool.take(LONG).await, Err(TakeError::Timeout));
        assert_eq!(pool.n_waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn streams_beyond_the_capacity_are_given_back() {
        let pool = WorkPool::new(2);
        for i in 0..12 {
            pool.put(i).unwrap();
        }
        assert!(matches!(pool.put(12), Err(PutError::Full(12))));
    }

    #[tokio::test]
    async fn users_beyond_the_bound_are_turned_away_at_once() {
        let pool = Arc::new(WorkPool::<char>::new(1));
        let users: Vec<_> = (0..MAX_WAITING_USERS)
            .map(|_| {
                let pool = Arc::clone(&pool);
                tokio::spawn(async move { pool.take(LONG).await })
            })
            .collect();
        while pool.n_waiting.load(Ordering::Relaxed) < MAX_WAITING_USERS {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.take(LONG).await, Err(TakeError::TooManyWaiting));
        pool.close();
        for user in users {
            assert_eq!(user.await.unwrap(), Err(TakeError::Closed));
        }
    }

    #[tokio::test]
    async fn a_closed_pool_gives_and_takes_nothing() {
        let pool = WorkPool::new(1);
        pool.put('a').unwrap();
        pool.close();
        assert!(matches!(pool.put('b'), Err(PutError::Closed('b'))));
        assert_eq!(pool.take(LONG).await, Err(TakeError::Closed));
    }

    #[tokio::test]
    async fn requests_to_be_sent_are_bounded() {
        let pool = WorkPool::<char>::new(1);
        for _ in 0..100_000 {
            pool.request(1);
        }
        assert_eq!(pool.take_requests().await, 2 * MAX_WAITING_USERS + 11);
    }
}
