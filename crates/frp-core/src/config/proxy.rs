//! Checked proxies and visitors.

use std::collections::BTreeMap;

use super::{Bandwidth, Secret};

/// A local service to publish (an entry of `proxies`). Reload compares these to find what changed.
#[derive(Clone, Debug, PartialEq)]
pub struct ProxyConfig {
    /// Its name, without the user's prefix.
    pub name: String,
    /// Shown by the server.
    pub annotations: BTreeMap<String, String>,
    /// For the server's plugins.
    pub metadatas: BTreeMap<String, String>,
    /// What is done to its connections.
    pub transport: ProxyTransport,
    /// The service's host.
    pub local_ip: String,
    /// The service's port.
    pub local_port: u16,
    /// What kind of proxy it is, with what only this kind has.
    pub kind: ProxyKind,
}

impl ProxyConfig {
    /// A proxy with frp's defaults.
    pub fn new(name: impl Into<String>, kind: ProxyKind) -> Self {
        Self {
            name: name.into(),
            annotations: BTreeMap::new(),
            metadatas: BTreeMap::new(),
            transport: ProxyTransport::default(),
            local_ip: "127.0.0.1".to_owned(),
            local_port: 0,
            kind,
        }
    }
}

/// What is done to a proxy's connections (`transport` of a proxy).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProxyTransport {
    /// Whether they are encrypted with the token.
    pub use_encryption: bool,
    /// Whether they are compressed.
    pub use_compression: bool,
    /// How fast they may be, all of them together and in both directions. `None` is no limit.
    pub bandwidth_limit: Option<Bandwidth>,
    /// Which end holds them to it.
    pub bandwidth_limit_mode: LimitMode,
    /// Whether the local service is told the user's address first.
    pub proxy_protocol_version: Option<ProxyProtocol>,
}

/// Which end holds a proxy to its bandwidth (`transport.bandwidthLimitMode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LimitMode {
    /// frpc.
    #[default]
    Client,
    /// frps.
    Server,
}

impl LimitMode {
    /// frp's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// The form in which a local service is told the user's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// The text form.
    V1,
    /// The binary form.
    V2,
}

/// The kinds of proxies, with what only they have.
#[derive(Clone, Debug, PartialEq)]
pub enum ProxyKind {
    /// A TCP port of the server.
    Tcp {
        /// Which one; 0 lets the server choose. Not checked here: the server answers.
        remote_port: i64,
    },
    /// A UDP port of the server.
    Udp {
        /// Which one; 0 lets the server choose. Not checked here: the server answers.
        remote_port: i64,
    },
    /// No port: reached through a visitor that knows the key.
    Stcp {
        /// The key.
        secret_key: Secret,
        /// The users whose visitors may come. Empty: the same user; `*`: everyone.
        allow_users: Vec<String>,
    },
}

impl ProxyKind {
    /// frp's name of the kind.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Tcp { .. } => "tcp",
            Self::Udp { .. } => "udp",
            Self::Stcp { .. } => "stcp",
        }
    }
}

/// A local port that leads to somebody else's proxy (an entry of `visitors`).
#[derive(Clone, Debug, PartialEq)]
pub struct VisitorConfig {
    /// Its name, without the user's prefix.
    pub name: String,
    /// What is done to its connections. The proxy must have the same.
    pub transport: VisitorTransport,
    /// The key that the proxy asks for.
    pub secret_key: Secret,
    /// The user of the proxy; empty: the own one.
    pub server_user: String,
    /// The name of the proxy.
    pub server_name: String,
    /// The local address to listen on.
    pub bind_addr: String,
    /// The local port to listen on, 1 to 65535. Negative: none.
    pub bind_port: i32,
    /// What kind of visitor it is.
    pub kind: VisitorKind,
}

impl VisitorConfig {
    /// A visitor of the proxy `server_name`, with frp's defaults.
    pub fn new(
        name: impl Into<String>,
        server_name: impl Into<String>,
        bind_port: i32,
        kind: VisitorKind,
    ) -> Self {
        Self {
            name: name.into(),
            transport: VisitorTransport::default(),
            secret_key: Secret::default(),
            server_user: String::new(),
            server_name: server_name.into(),
            bind_addr: "127.0.0.1".to_owned(),
            bind_port,
            kind,
        }
    }
}

/// What is done to a visitor's connections (`transport` of a visitor).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VisitorTransport {
    /// Whether they are encrypted with the secret key.
    pub use_encryption: bool,
    /// Whether they are compressed.
    pub use_compression: bool,
}

/// The kinds of visitors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VisitorKind {
    /// Reaches an `stcp` proxy.
    Stcp,
}

impl VisitorKind {
    /// frp's name of the kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stcp => "stcp",
        }
    }
}
