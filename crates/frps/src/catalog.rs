//! The proxies that are there, by name: a name belongs to one proxy of the whole server.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};

use frp_core::proto::msg::NewProxy;
use parking_lot::Mutex;

use crate::session::Session;
use crate::text::printable;

/// The names in use.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    by_name: Mutex<BTreeMap<String, Arc<ProxyInfo>>>,
}

impl Catalog {
    /// Takes the name of `info` until the listing is dropped.
    pub(crate) fn claim(self: &Arc<Self>, info: ProxyInfo) -> Result<ProxyListing, NameTaken> {
        let mut by_name = self.by_name.lock();
        if by_name.contains_key(&info.spec.proxy_name) {
            return Err(NameTaken(printable(&info.spec.proxy_name)));
        }
        let info = Arc::new(info);
        by_name.insert(info.spec.proxy_name.clone(), Arc::clone(&info));
        Ok(ProxyListing {
            catalog: Arc::clone(self),
            info,
        })
    }

    /// The proxy of that name, once it is open.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<ProxyInfo>> {
        self.by_name
            .lock()
            .get(name)
            .filter(|info| info.is_open())
            .cloned()
    }

    /// The session that has the name, also while the proxy is not open yet.
    pub(crate) fn owner(&self, name: &str) -> Option<Arc<Session>> {
        self.by_name.lock().get(name)?.owner.upgrade()
    }
}

/// What the server knows of a proxy.
#[derive(Debug)]
pub(crate) struct ProxyInfo {
    /// Its type.
    pub(crate) kind: &'static str,
    /// What the client asked for, without the secrets.
    pub(crate) spec: NewProxy,
    /// The port it has, for types with one; set when it opens.
    opened: OnceLock<Option<u16>>,
    owner: Weak<Session>,
}

impl ProxyInfo {
    pub(crate) fn new(message: &NewProxy, kind: &'static str, owner: &Arc<Session>) -> Self {
        let mut spec = message.clone();
        spec.sk.clear();
        spec.http_pwd.clear();
        Self {
            kind,
            spec,
            opened: OnceLock::new(),
            owner: Arc::downgrade(owner),
        }
    }

    /// The port users connect to, for types with one.
    pub(crate) fn port(&self) -> Option<u16> {
        self.opened.get().copied().flatten()
    }

    fn is_open(&self) -> bool {
        self.opened.get().is_some()
    }
}

/// A name in use. Dropping it gives the name back.
#[derive(Debug)]
pub(crate) struct ProxyListing {
    catalog: Arc<Catalog>,
    info: Arc<ProxyInfo>,
}

impl ProxyListing {
    /// The proxy is open: from here on it is listed.
    pub(crate) fn publish(&self, port: Option<u16>) {
        // A proxy opens once; a second call could only repeat the first.
        let _ = self.info.opened.set(port);
    }
}

impl Drop for ProxyListing {
    fn drop(&mut self) {
        self.catalog
            .by_name
            .lock()
            .remove(&self.info.spec.proxy_name);
    }
}

/// Another proxy of this server has the name. The text is frp's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("proxy [{0}] already exists")]
pub(crate) struct NameTaken(String);
