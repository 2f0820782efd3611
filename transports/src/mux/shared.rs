//! The session behind its lock, shared by the driver, the carrier and the streams.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::CarrierError;
use crate::ended::Ended;
use crate::info::Admission;

use super::session::{Effects, Session};

/// What the driver, the carrier and its streams share.
pub(super) struct Shared {
    session: Mutex<Session>,
    pub(super) ended: Ended,
    /// The task of the carrier has ended, and with it all sending.
    pub(super) gone: Ended,
    /// One permit or waiter for each stream to accept.
    acceptable: Notify,
    /// Told when an `open` or an `accept` that waits may find things changed.
    look_again: Notify,
    driver: Mutex<Option<Waker>>,
    /// The driver will look at the session before it sleeps: nobody has to wake it.
    is_driver_awake: AtomicBool,
    admission: Mutex<Option<Box<dyn Admission>>>,
}

impl Shared {
    pub(super) fn new(session: Session, admission: Option<Box<dyn Admission>>) -> Self {
        Self {
            session: Mutex::new(session),
            ended: Ended::default(),
            gone: Ended::default(),
            acceptable: Notify::new(),
            look_again: Notify::new(),
            driver: Mutex::new(None),
            is_driver_awake: AtomicBool::new(true),
            admission: Mutex::new(admission),
        }
    }

    /// Does something with the session, and then what follows from it for others.
    pub(super) fn with<T>(&self, op: impl FnOnce(&mut Session) -> T) -> T {
        let (result, effects) = {
            let mut session = self.session.lock();
            let result = op(&mut session);
            (result, session.take_effects())
        };
        if effects.transmit && !self.is_driver_awake.swap(true, Ordering::AcqRel) {
            self.wake_driver();
        }
        self.apply(effects);
        result
    }

    /// The same for the driver, which needs no waking.
    pub(super) fn with_driver<T>(&self, op: impl FnOnce(&mut Session) -> T) -> T {
        // Before the look at the session: what is wanted after it wakes the driver.
        self.is_driver_awake.store(false, Ordering::Release);
        let (result, effects) = {
            let mut session = self.session.lock();
            let result = op(&mut session);
            (result, session.take_effects())
        };
        self.apply(effects);
        result
    }

    /// The driver waits for the byte stream to take what it has, and can do nothing before.
    pub(super) fn set_driver_busy(&self) {
        self.is_driver_awake.store(true, Ordering::Release);
    }

    pub(super) fn set_driver(&self, waker: &Waker) {
        let mut driver = self.driver.lock();
        match driver.as_mut() {
            Some(noted) => noted.clone_from(waker),
            None => *driver = Some(waker.clone()),
        }
    }

    /// Wakes the driver even when it is busy.
    pub(super) fn wake_driver(&self) {
        if let Some(waker) = self.driver.lock().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Opens a stream, when there is a place for it.
    pub(super) async fn open(&self) -> Result<u32, CarrierError> {
        loop {
            let mut look_again = std::pin::pin!(self.look_again.notified());
            look_again.as_mut().enable();
            if let Some(id) = self.with(|session| session.open(now()))? {
                return Ok(id);
            }
            look_again.await;
        }
    }

    /// Accepts a stream. Cancel safe: a stream is taken in the poll that returns it.
    pub(super) async fn accept(&self) -> Result<u32, CarrierError> {
        loop {
            let mut look_again = std::pin::pin!(self.look_again.notified());
            look_again.as_mut().enable();
            if let Some(id) = self.with(Session::accept)? {
                return Ok(id);
            }
            tokio::select! {
                () = self.acceptable.notified() => {}
                () = look_again => {}
            }
        }
    }

    /// The peer has proven itself.
    pub(super) fn admit(&self) {
        self.with(Session::admit);
        if let Some(admission) = self.admission.lock().as_ref() {
            admission.admit();
        }
    }

    fn apply(&self, effects: Effects) {
        effects.wakes.into_iter().for_each(Waker::wake);
        for _ in 0..effects.n_accepted {
            self.acceptable.notify_one();
        }
        if let Some(reason) = effects.ended {
            let admission = self.admission.lock().take();
            drop(admission);
            self.ended.set(reason);
            self.look_again.notify_waiters();
        } else if effects.look_again {
            self.look_again.notify_waiters();
        }
    }
}

/// The runtime's time, which tests can stop.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
