//! Proxies that want what another session has: a name or a port.
//!
//! That session may be what is left of the same client, which was killed, or has lost its state
//! directory, and cannot prove who it is. So the session that is in the way is asked for a sign of
//! life. If it gives none in a second or so, it ends, and the proxy starts; else the proxy fails as
//! in frp. The control stream of the one who asks goes on meanwhile.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use frp_core::proto::msg::NewProxy;
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::proxy::{self, ProxyError};
use crate::server::Server;
use crate::session::{EndCause, Session};

/// The proxies of one session that wait.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    messages: Vec<(u64, NewProxy)>,
    weight: usize,
    questions: JoinSet<u64>,
    /// Sessions that are being asked, each by one question.
    asked: HashSet<u64>,
}

impl Waiting {
    /// Has a proxy wait that could not start for `error`. False when there is nothing to wait for.
    pub(crate) fn wait_for_holder(
        &mut self,
        server: &Server,
        session: &Arc<Session>,
        message: &NewProxy,
        error: &ProxyError,
    ) -> bool {
        let weight = proxy::weight(message, session);
        if self.messages.len() >= MAX_WAITING || self.weight + weight > MAX_WAITING_WEIGHT {
            return false;
        }
        let Some(holder) = holder(server, message, error) else {
            return false;
        };
        let is_own = holder.id == session.id;
        // Other users' clients are never in doubt. A plain frpc is only when it was silent: the
        // question would have it open a work stream too many.
        if is_own
            || holder.login.user != session.login.user
            || (holder.held().is_none() && holder.was_alive_lately())
        {
            return false;
        }
        self.forget(&message.proxy_name, session);
        if self.asked.insert(holder.id) {
            let span = holder.span.clone();
            self.questions.spawn(ask(holder.clone()).instrument(span));
        }
        self.weight += weight;
        self.messages.push((holder.id, message.clone()));
        true
    }

    /// Waits until some of them can be tried again, and returns those. Cancel safe.
    pub(crate) async fn next(&mut self, session: &Session) -> Vec<NewProxy> {
        let Some(answered) = self.questions.join_next().await else {
            return std::future::pending().await;
        };
        // A question that has panicked leaves its proxies to the client's own next attempt.
        let Ok(holder) = answered else {
            self.asked.clear();
            return Vec::new();
        };
        self.asked.remove(&holder);
        let (ready, others) = std::mem::take(&mut self.messages)
            .into_iter()
            .partition(|(id, _)| *id == holder);
        self.messages = others;
        let ready: Vec<NewProxy> = ready.into_iter().map(|(_, message)| message).collect();
        for message in &ready {
            self.weight -= proxy::weight(message, session);
        }
        ready
    }

    /// The proxy of that name is not wanted any more.
    pub(crate) fn forget(&mut self, name: &str, session: &Session) {
        let place = self.messages.iter().position(|(_, m)| m.proxy_name == name);
        if let Some(idx) = place {
            let (_, message) = self.messages.swap_remove(idx);
            self.weight -= proxy::weight(&message, session);
        }
    }
}

/// Whose name or port it is that `message` asks for.
fn holder(server: &Server, message: &NewProxy, error: &ProxyError) -> Option<Arc<Session>> {
    let ports = match error {
        ProxyError::NameTaken(_) => return server.catalog.owner(&message.proxy_name),
        ProxyError::Port(source) if source.is_taken() => &server.tcp_ports,
        ProxyError::UdpPort { source, .. } if source.is_taken() => &server.udp_ports,
        _ => return None,
    };
    let port = u16::try_from(message.remote_port).ok()?;
    server.catalog.owner(&ports.name_at(port)?)
}

/// Asks the session for a sign of life, and ends it if it gives none. Returns its number.
async fn ask(holder: Arc<Session>) -> u64 {
    if !holder.proves_alive().await {
        holder.end(EndCause::Silent);
        // What takes longer is in the way still, and the proxy fails.
        let _ = tokio::time::timeout(END_PATIENCE, holder.finished()).await;
    }
    holder.id
}

/// Proxies of one session that wait at a time; beyond it they fail at once, as in frp. Most clients
/// have a few dozen.
const MAX_WAITING: usize = 1024;

/// What they may weigh together, as a tenth of what a client's proxies may.
const MAX_WAITING_WEIGHT: usize = proxy::MAX_WEIGHT_PER_CLIENT / 10;

/// For a session's last word to its client, and its proxies' end.
const END_PATIENCE: Duration = Duration::from_secs(2);
