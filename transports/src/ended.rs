//! The end of a carrier: set once, waited for by anyone.

use std::sync::OnceLock;

use tokio::sync::Notify;

use crate::CarrierError;

/// Holds why a carrier ended, once it has. The first reason given stays.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    reason: OnceLock<CarrierError>,
    set: Notify,
}

impl Ended {
    /// Gives the reason. Says whether it was the first one.
    pub(crate) fn set(&self, reason: CarrierError) -> bool {
        let first = self.reason.set(reason).is_ok();
        if first {
            self.set.notify_waiters();
        }
        first
    }

    /// The reason, if the carrier has ended.
    pub(crate) fn get(&self) -> Option<&CarrierError> {
        self.reason.get()
    }

    /// Waits for the end. Cancel safe.
    pub(crate) async fn wait(&self) -> CarrierError {
        loop {
            let mut set = std::pin::pin!(self.set.notified());
            // Enlisted before the look, so that an end in between is not missed.
            set.as_mut().enable();
            if let Some(reason) = self.get() {
                return reason.clone();
            }
            set.await;
        }
    }
}
