//! Checked configuration of what two Holdfasts do beyond frp: streams that are held, and the
//! choice among transports.

use std::fmt;
use std::time::Duration;

use frp_proto::path::ProberConfig;
use frp_proto::policy;
use transports::TransportKind;

/// How the server is reached (`transport.protocol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// By whichever transport is best at the moment. Ours.
    Auto,
    /// By this one, and by `transport.auto.fallback` only while it cannot be.
    Pinned(TransportKind),
}

impl Protocol {
    /// The transport that was asked for, if one was.
    pub fn pinned(self) -> Option<TransportKind> {
        match self {
            Self::Auto => None,
            Self::Pinned(kind) => Some(kind),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Pinned(kind) => kind.fmt(f),
        }
    }
}

/// Streams that outlive their carrier (`transport.hold`), on both sides. Ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldConfig {
    /// Whether streams are held, where the peer is a Holdfast and the carrier has TLS and
    /// multiplexing.
    pub enable: bool,
    /// How long streams are kept without a carrier. The server's counts.
    pub grace: Duration,
}

impl Default for HoldConfig {
    fn default() -> Self {
        Self {
            enable: true,
            grace: Duration::from_secs(60),
        }
    }
}

/// The choice among transports, of frpc (`transport.auto`). Ours.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientAuto {
    /// With a pinned transport: what to use while it cannot be reached. Never itself.
    pub fallback: Vec<TransportKind>,
    /// Where the server is, each transport at most once. Empty: what it said last, or else
    /// `serverPort` for each.
    pub endpoints: Vec<AutoEndpoint>,
    /// Whether a server that has been a Holdfast, and no longer shows it, is refused.
    pub require_peer: bool,
    /// When to probe, and what the echoes mean.
    pub prober: ProberConfig,
    /// When to change the carrier.
    pub policy: policy::Config,
}

/// One way to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AutoEndpoint {
    /// How.
    pub transport: TransportKind,
    /// At which port of `serverAddr`.
    pub port: u16,
}

/// The choice among transports, of frps (`transport.auto`). Ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerAuto {
    /// Whether QUIC and KCP are served on the UDP side of `bindPort`.
    pub enable: bool,
}
