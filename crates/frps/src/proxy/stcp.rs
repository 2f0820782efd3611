//! `stcp`: no port, only visitors who know the secret key.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use frp_core::config::Secret;
use frp_core::proto::auth::verify;
use frp_core::proto::msg::{NewProxy, NewVisitorConn};
use frp_core::relay::HalfClose;
use frp_core::task;
use frp_core::transports::BoxStream;
use frp_core::work::{WorkOptions, wrap};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info};

use super::{Kind, ProxyError, Publication, Started, UserAddrs};
use crate::server::Server;
use crate::session::Session;
use crate::text::printable;

pub(super) fn start(
    server: &Arc<Server>,
    session: &Arc<Session>,
    message: &NewProxy,
    stop: &CancellationToken,
) -> Result<Started, ProxyError> {
    let mut allow_users = message.allow_users.clone();
    if allow_users.is_empty() {
        allow_users.push(session.login.user.clone());
    }
    let place = server.visitors.reserve(&message.proxy_name)?;
    let publication = Publication::new(server, session, message, Kind::Stcp);
    let stats = Arc::clone(&publication.stats);
    let span = publication.span.clone();
    place.open(VisitedProxy {
        publication,
        secret_key: Secret::new(message.sk.clone()),
        allow_users,
    });
    span.in_scope(|| info!("stcp proxy custom listen success"));
    // The place is given up when the proxy is told to stop.
    let stop = stop.clone();
    let holding = async move {
        stop.cancelled().await;
        drop(place);
    };
    let task = task::spawn("stcp proxy", holding.instrument(span));
    Ok(Started {
        port: None,
        task: Some(task),
        stats,
    })
}

/// The proxies that visitors can reach, by name.
#[derive(Debug, Default)]
pub(crate) struct Visitors {
    /// `None` while the proxy is being set up.
    by_name: Mutex<HashMap<String, Option<Arc<VisitedProxy>>>>,
}

impl Visitors {
    fn reserve(self: &Arc<Self>, name: &str) -> Result<VisitorPlace, ProxyError> {
        match self.by_name.lock().entry(name.to_owned()) {
            Entry::Occupied(_) => Err(ProxyError::ListenerRepeated(printable(name))),
            Entry::Vacant(entry) => {
                entry.insert(None);
                Ok(VisitorPlace {
                    visitors: Arc::clone(self),
                    name: name.to_owned(),
                })
            }
        }
    }

    /// Lets a visitor of `user` in, or says why not.
    pub(crate) fn admit(
        &self,
        message: &NewVisitorConn,
        user: &str,
    ) -> Result<Admission, VisitorRefused> {
        let name = &message.proxy_name;
        let proxy = self.by_name.lock().get(name).cloned().flatten();
        let Some(proxy) = proxy else {
            return Err(VisitorRefused::NoProxy(printable(name)));
        };
        if !verify(
            &message.sign_key,
            proxy.secret_key.expose().as_bytes(),
            message.timestamp,
        ) {
            return Err(VisitorRefused::WrongKey(printable(name)));
        }
        if !proxy
            .allow_users
            .iter()
            .any(|allowed| allowed == "*" || allowed == user)
        {
            return Err(VisitorRefused::NotAllowed(printable(name), printable(user)));
        }
        let options = WorkOptions::new(
            message.use_encryption,
            message.use_compression,
            proxy.secret_key.expose().as_bytes(),
        );
        Ok(Admission { proxy, options })
    }
}

/// A proxy's place among those that can be visited. Dropping it ends the visits to come.
#[derive(Debug)]
struct VisitorPlace {
    visitors: Arc<Visitors>,
    name: String,
}

impl VisitorPlace {
    fn open(&self, proxy: VisitedProxy) {
        self.visitors
            .by_name
            .lock()
            .insert(self.name.clone(), Some(Arc::new(proxy)));
    }
}

impl Drop for VisitorPlace {
    fn drop(&mut self) {
        self.visitors.by_name.lock().remove(&self.name);
    }
}

#[derive(Debug)]
struct VisitedProxy {
    publication: Arc<Publication>,
    secret_key: Secret,
    allow_users: Vec<String>,
}

/// A visitor who may come in.
#[derive(Debug)]
pub(crate) struct Admission {
    proxy: Arc<VisitedProxy>,
    /// The layers of the visitor's own leg.
    options: WorkOptions,
}

impl Admission {
    /// Carries the visitor's connection, whose opening messages have been exchanged.
    pub(crate) async fn serve(self, conn: BoxStream, addrs: UserAddrs, peer: HalfClose) {
        let publication = &self.proxy.publication;
        let conn = wrap(conn, &self.options);
        publication
            .serve_user(conn, addrs, peer)
            .instrument(publication.span.clone())
            .await;
    }
}

/// Why a visitor is turned away. The texts are frp's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VisitorRefused {
    #[error("custom listener for [{0}] doesn't exist")]
    NoProxy(String),
    #[error("visitor connection of [{0}] auth failed")]
    WrongKey(String),
    #[error("visitor connection of [{0}] user [{1}] not allowed")]
    NotAllowed(String, String),
}
