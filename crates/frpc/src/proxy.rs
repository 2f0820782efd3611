//! The proxies of one session: which there are, where each stands, and who serves its users.
//!
//! [`ProxySet`] decides and keeps no socket: it is told the configuration, the time and frps's
//! answers, and returns the messages to send. A work conn asks it for the proxy that frps names
//! ([`ProxySet::find_running`]) and is served by `proxy::tcp` or `proxy::udp`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use frp_core::config::{LimitMode, ProxyConfig, ProxyKind, ProxyProtocol, Secret};
use frp_core::limit::RateLimiter;
use frp_core::proto::msg::{CloseProxy, Message, NewProxy, NewProxyResp};
use frp_core::proto::names;
use frp_core::relay::Carried;
use frp_core::work::{Limit, WorkOptions};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::proxy_header::HeaderVersion;

pub mod state;
pub mod tcp;
pub mod udp;

use state::{Phase, ProxyState, StartError};

/// The proxies of one session, by their raw names.
#[derive(Debug)]
pub struct ProxySet {
    user: String,
    token: Secret,
    proxies: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    proxy: Arc<Proxy>,
    state: ProxyState,
}

/// What came of a change of configuration.
#[derive(Debug, Default)]
pub struct Changes {
    /// The names taken away, those with a changed configuration among them.
    pub removed: Vec<String>,
    /// The names that are new or have come back changed.
    pub added: Vec<String>,
    /// What frps is to be told, in this order.
    pub messages: Vec<Message>,
}

impl ProxySet {
    /// No proxies yet. `token` is the key of those with encryption.
    pub fn new(user: impl Into<String>, token: Secret) -> Self {
        Self {
            user: user.into(),
            token,
            proxies: BTreeMap::new(),
        }
    }

    /// Makes the set that of `configs`. What is equal stays as it is, with its connections.
    pub fn update(&mut self, now: Instant, configs: &[ProxyConfig]) -> Changes {
        let mut changes = Changes::default();
        let wanted: BTreeMap<&str, &ProxyConfig> = configs
            .iter()
            .map(|config| (config.name.as_str(), config))
            .collect();
        self.proxies.retain(|name, entry| {
            let stays = wanted
                .get(name.as_str())
                .is_some_and(|c| **c == entry.proxy.config);
            if !stays {
                entry.proxy.close();
                changes.removed.push(name.clone());
                changes.messages.push(close_message(&self.user, name));
            }
            stays
        });
        for (name, config) in wanted {
            if !self.proxies.contains_key(name) {
                let proxy = Arc::new(Proxy::new(config.clone(), &self.token));
                let entry = Entry {
                    proxy,
                    state: ProxyState::new(now),
                };
                self.proxies.insert(name.to_owned(), entry);
                changes.added.push(name.to_owned());
            }
        }
        changes.messages.extend(self.poll(now));
        changes
    }

    /// The NewProxy messages that are due: at first, again without an answer, again after an error.
    #[must_use]
    pub fn poll(&mut self, now: Instant) -> Vec<Message> {
        let user = &self.user;
        self.proxies
            .values_mut()
            .filter_map(|entry| {
                entry
                    .state
                    .poll(now)
                    .then(|| Message::from(new_proxy_message(user, &entry.proxy.config)))
            })
            .collect()
    }

    /// frps has answered a NewProxy: the raw name, and what came of it. `None` when the name is
    /// nobody's here.
    pub fn handle_answer(
        &mut self,
        now: Instant,
        answer: &NewProxyResp,
    ) -> Option<(String, Result<(), StartError>)> {
        let name = names::strip_user(&self.user, &answer.proxy_name);
        let entry = self.proxies.get_mut(name)?;
        let outcome = entry
            .state
            .handle_answer(now, &answer.remote_addr, &answer.error);
        Some((name.to_owned(), outcome))
    }

    /// Takes all proxies away: what frps is to be told.
    #[must_use]
    pub fn close(&mut self) -> Vec<Message> {
        let user = &self.user;
        std::mem::take(&mut self.proxies)
            .into_iter()
            .map(|(name, entry)| {
                entry.proxy.close();
                close_message(user, &name)
            })
            .collect()
    }

    /// The proxy with this name on the wire, if users may be served for it.
    pub fn find_running(&self, wire_name: &str) -> Option<Arc<Proxy>> {
        let entry = self.proxies.get(names::strip_user(&self.user, wire_name))?;
        (entry.state.phase() == Phase::Running).then(|| entry.proxy.clone())
    }

    /// Every proxy and where it stands, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&ProxyConfig, &ProxyState)> {
        self.proxies
            .values()
            .map(|entry| (&entry.proxy.config, &entry.state))
    }

    /// Every proxy with its numbers, in the order of their names.
    pub(crate) fn numbers(&self) -> Vec<ProxyNumbers> {
        let proxies = self.proxies.values();
        proxies
            .map(|entry| {
                let is_up = entry.state.phase() == Phase::Running;
                entry.proxy.numbers(is_up)
            })
            .collect()
    }

    /// The same with what serves their users.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&Arc<Proxy>, &ProxyState)> {
        let entries = self.proxies.values();
        entries.map(|entry| (&entry.proxy, &entry.state))
    }

    /// Asks frps once more for what it has refused: what is due now.
    #[must_use]
    pub(crate) fn retry(&mut self, now: Instant) -> Vec<Message> {
        for entry in self.proxies.values_mut() {
            entry.state.retry();
        }
        self.poll(now)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.proxies.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.proxies.is_empty()
    }
}

/// What the work conns of one proxy share.
#[derive(Debug)]
pub struct Proxy {
    /// Its configuration.
    pub config: ProxyConfig,
    /// The layers of its work conns, with the one limiter of all of them.
    pub options: WorkOptions,
    /// Users of connections, and their bytes: from the local service first.
    pub(crate) users: Users,
    /// Ends when the proxy is taken away.
    closed: CancellationToken,
    /// Ends the work conn that carries the datagrams of a `udp` proxy at the moment.
    carrying: Mutex<CancellationToken>,
}

impl Proxy {
    /// Prepares to serve the users of `config`.
    pub fn new(config: ProxyConfig, token: &Secret) -> Self {
        let transport = &config.transport;
        let mut options = WorkOptions::new(
            transport.use_encryption,
            transport.use_compression,
            token.expose().as_bytes(),
        );
        if transport.bandwidth_limit_mode == LimitMode::Client {
            options.limit = transport
                .bandwidth_limit
                .as_ref()
                .map(|limit| Limit::Wire(Arc::new(RateLimiter::new(limit.bytes_per_second))));
        }
        let closed = CancellationToken::new();
        let carrying = Mutex::new(closed.child_token());
        Self {
            config,
            options,
            users: Users::default(),
            closed,
            carrying,
        }
    }

    fn numbers(&self, is_up: bool) -> ProxyNumbers {
        let Users {
            n_open,
            n_carried,
            n_failed,
            n_failed_in_row: _,
            carried,
        } = &self.users;
        let get = |sum: &AtomicU64| sum.load(Ordering::Relaxed);
        ProxyNumbers {
            name: self.config.name.clone(),
            kind: self.config.kind.as_str(),
            is_up,
            n_open: get(n_open),
            n_carried: get(n_carried),
            n_failed: get(n_failed),
            carried: carried.get(),
        }
    }

    /// A new work conn carries the datagrams from here on: the one before it ends, and this one
    /// when the returned token says so.
    fn take_over(&self) -> CancellationToken {
        let token = self.closed.child_token();
        std::mem::replace(&mut *self.carrying.lock(), token.clone()).cancel();
        token
    }

    /// Takes the proxy away. Streams already joined run to their own end, as in frp.
    fn close(&self) {
        self.closed.cancel();
    }

    /// The header that tells the local service its user, if it wants one.
    pub fn header_version(&self) -> Option<HeaderVersion> {
        self.config
            .transport
            .proxy_protocol_version
            .map(|version| match version {
                ProxyProtocol::V1 => HeaderVersion::V1,
                ProxyProtocol::V2 => HeaderVersion::V2,
            })
    }
}

/// What has been counted of a proxy's connections. Sums that nothing else depends on: relaxed is
/// enough.
#[derive(Debug, Default)]
pub(crate) struct Users {
    n_open: AtomicU64,
    n_carried: AtomicU64,
    n_failed: AtomicU64,
    /// Those since the last one that was taken.
    n_failed_in_row: AtomicU64,
    /// Bytes as they pass: from the local service first.
    pub(crate) carried: Carried,
}

/// An open connection of a proxy.
#[derive(Debug)]
pub(crate) struct OpenUser<'a>(&'a Users);

impl Users {
    /// Counts a connection until the guard is dropped.
    pub(crate) fn open(&self) -> OpenUser<'_> {
        self.n_open.fetch_add(1, Ordering::Relaxed);
        self.n_carried.fetch_add(1, Ordering::Relaxed);
        self.n_failed_in_row.store(0, Ordering::Relaxed);
        OpenUser(self)
    }

    /// How many were taken, and how many were not.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let get = |sum: &AtomicU64| sum.load(Ordering::Relaxed);
        (get(&self.n_carried), get(&self.n_failed))
    }

    /// How many in a row the local service has not taken.
    pub(crate) fn n_failed_in_row(&self) -> u64 {
        self.n_failed_in_row.load(Ordering::Relaxed)
    }

    /// The local service has answered.
    pub(crate) fn forgive(&self) {
        self.n_failed_in_row.store(0, Ordering::Relaxed);
    }

    /// Counts a user that the local service did not take.
    pub(crate) fn fail(&self) {
        self.n_failed.fetch_add(1, Ordering::Relaxed);
        self.n_failed_in_row.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for OpenUser<'_> {
    fn drop(&mut self) {
        self.0.n_open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One proxy at one moment, for the metrics and the status.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProxyNumbers {
    /// Without the user's prefix.
    pub(crate) name: String,
    /// Its type.
    pub(crate) kind: &'static str,
    /// Whether frps hands over its users.
    pub(crate) is_up: bool,
    /// Connections at the moment.
    pub(crate) n_open: u64,
    /// Connections since the session began.
    pub(crate) n_carried: u64,
    /// Users that the local service did not take.
    pub(crate) n_failed: u64,
    /// Bytes from the local service, and to it.
    pub(crate) carried: (u64, u64),
}

/// `localIP:localPort`, with brackets around an IPv6 address; empty without a port.
pub fn local_addr_text(config: &ProxyConfig) -> String {
    match (config.local_port, config.local_ip.parse::<IpAddr>()) {
        (0, _) => String::new(),
        (port, Ok(IpAddr::V6(ip))) => format!("[{ip}]:{port}"),
        (port, _) => format!("{}:{port}", config.local_ip),
    }
}

/// What frps is told to open `config`.
fn new_proxy_message(user: &str, config: &ProxyConfig) -> NewProxy {
    let transport = &config.transport;
    let mut message = NewProxy {
        proxy_name: names::wire_name(user, &config.name),
        proxy_type: config.kind.as_str().to_owned(),
        use_encryption: transport.use_encryption,
        use_compression: transport.use_compression,
        metas: config.metadatas.clone(),
        annotations: config.annotations.clone(),
        ..NewProxy::default()
    };
    if let Some(limit) = &transport.bandwidth_limit {
        message.bandwidth_limit.clone_from(&limit.text);
    }
    // frp leaves out its default.
    if transport.bandwidth_limit_mode != LimitMode::Client {
        message.bandwidth_limit_mode = transport.bandwidth_limit_mode.as_str().to_owned();
    }
    match &config.kind {
        ProxyKind::Tcp { remote_port } | ProxyKind::Udp { remote_port } => {
            message.remote_port = *remote_port;
        }
        ProxyKind::Stcp {
            secret_key,
            allow_users,
        } => {
            message.sk = secret_key.expose().to_owned();
            message.allow_users.clone_from(allow_users);
        }
    }
    message
}

fn close_message(user: &str, name: &str) -> Message {
    CloseProxy {
        proxy_name: names::wire_name(user, name),
    }
    .into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;
    use std::time::Duration;

    fn tcp(name: &str, remote_port: i64) -> ProxyConfig {
        ProxyConfig::new(name, ProxyKind::Tcp { remote_port })
    }

    fn told(messages: &[Message]) -> Vec<String> {
        messages
            .iter()
            .map(|message| match message {
                Message::NewProxy(m) => format!("open {}", m.proxy_name),
                Message::CloseProxy(m) => format!("close {}", m.proxy_name),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn agree(set: &mut ProxySet, now: Instant, wire_name: &str) {
        let answer = NewProxyResp {
            proxy_name: wire_name.to_owned(),
            remote_addr: ":1".to_owned(),
            ..NewProxyResp::default()
        };
        set.handle_answer(now, &answer).unwrap().1.unwrap();
    }

    #[test]
    fn every_proxy_is_opened_in_the_order_of_the_names_with_the_users_prefix() {
        let now = Instant::now();
        let mut set = ProxySet::new("me", Secret::default());
        let changes = set.update(now, &[tcp("b", 2), tcp("a", 1)]);
        assert_eq!(changes.added, ["a", "b"]);
        assert_eq!(told(&changes.messages), ["open me.a", "open me.b"]);
        assert_eq!(set.poll(now + Duration::from_secs(3)).len(), 0);
    }

    #[test]
    fn a_reload_touches_only_what_has_changed() {
        let now = Instant::now();
        let mut set = ProxySet::new("", Secret::default());
        set.update(now, &[tcp("changed", 1), tcp("gone", 2), tcp("same", 3)]);
        agree(&mut set, now, "same");
        let same = set.find_running("same").unwrap();

        let changes = set.update(now, &[tcp("changed", 9), tcp("new", 4), tcp("same", 3)]);

        assert_eq!(changes.removed, ["changed", "gone"]);
        assert_eq!(changes.added, ["changed", "new"]);
        assert_eq!(
            told(&changes.messages),
            ["close changed", "close gone", "open changed", "open new"]
        );
        assert!(
            Arc::ptr_eq(&same, &set.find_running("same").unwrap()),
            "still the same proxy"
        );
        assert!(!same.closed.is_cancelled());
    }

    #[test]
    fn users_are_served_only_while_the_proxy_runs() {
        let now = Instant::now();
        let mut set = ProxySet::new("me", Secret::default());
        set.update(now, &[tcp("ssh", 1)]);
        assert!(
            set.find_running("me.ssh").is_none(),
            "frps has not agreed yet"
        );
        agree(&mut set, now, "me.ssh");
        let proxy = set.find_running("me.ssh").unwrap();
        assert!(set.find_running("me.other").is_none());

        assert_eq!(told(&set.close()), ["close me.ssh"]);
        assert!(set.find_running("me.ssh").is_none());
        assert!(proxy.closed.is_cancelled());
    }

    #[test]
    fn an_answer_for_an_unknown_name_changes_nothing() {
        let now = Instant::now();
        let mut set = ProxySet::new("", Secret::default());
        set.update(now, &[tcp("ssh", 1)]);
        let answer = NewProxyResp {
            proxy_name: "other".to_owned(),
            ..NewProxyResp::default()
        };
        assert!(set.handle_answer(now, &answer).is_none());
        assert_eq!(set.iter().next().unwrap().1.phase(), Phase::WaitStart);
    }

    #[test]
    fn a_new_work_conn_for_datagrams_ends_the_one_before_it() {
        let proxy = Proxy::new(tcp("dns", 53), &Secret::default());
        let first = proxy.take_over();
        let second = proxy.take_over();
        assert!(first.is_cancelled() && !second.is_cancelled());
        proxy.close();
        assert!(second.is_cancelled());
    }

    #[test]
    fn the_message_says_what_frp_says() {
        let mut config = ProxyConfig::new(
            "p",
            ProxyKind::Stcp {
                secret_key: "k".into(),
                allow_users: vec!["*".to_owned()],
            },
        );
        config.transport.bandwidth_limit_mode = LimitMode::Server;
        config.transport.use_compression = true;
        let message = new_proxy_message("", &config);
        assert_eq!(
            (message.proxy_name.as_str(), message.proxy_type.as_str()),
            ("p", "stcp")
        );
        assert_eq!((message.sk.as_str(), message.allow_users.len()), ("k", 1));
        assert_eq!(message.bandwidth_limit_mode, "server");
        assert!(message.use_compression && !message.use_encryption);

        assert_eq!(new_proxy_message("", &tcp("p", 0)).bandwidth_limit_mode, "");
    }

    #[test]
    fn a_local_address_without_a_port_is_empty() {
        let mut config = tcp("p", 0);
        assert_eq!(local_addr_text(&config), "");
        config.local_port = 22;
        assert_eq!(local_addr_text(&config), "127.0.0.1:22");
        config.local_ip = "::1".to_owned();
        assert_eq!(local_addr_text(&config), "[::1]:22");
    }
}
