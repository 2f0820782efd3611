//! Ways to a server.

use std::net::SocketAddr;

use frp_core::transports::TransportKind;

/// One way to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) kind: TransportKind,
    /// What is dialled: the address, or the name where that is the same.
    pub(super) host: String,
    pub(super) port: u16,
    /// `None` where a proxy knows.
    pub(super) address: Option<SocketAddr>,
}

impl Target {
    /// Whether `kcp` is a way over KCP to the very port of this one.
    pub(super) fn is_kcp_port(&self, kcp: &Self) -> bool {
        kcp.kind == TransportKind::Kcp && (&kcp.host, kcp.port) == (&self.host, self.port)
    }
}
