//! The clients of this process.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::client::Client;

/// The clients that run, for the signals that end them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clients(Arc<Mutex<Vec<Arc<Client>>>>);

impl Clients {
    /// One more.
    pub(crate) fn add(&self, client: Arc<Client>) {
        self.0.lock().push(client);
    }

    /// It has ended.
    pub(crate) fn remove(&self, client: &Arc<Client>) {
        self.0.lock().retain(|known| !Arc::ptr_eq(known, client));
    }

    /// Those of the moment.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&[Arc<Client>]) -> T) -> T {
        look(&self.0.lock())
    }

    /// All of them: none is left.
    pub(crate) fn take(&self) -> Vec<Arc<Client>> {
        std::mem::take(&mut *self.0.lock())
    }
}
