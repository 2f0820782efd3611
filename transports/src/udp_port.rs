//! One UDP port for QUIC and KCP.
//!
//! Both listeners are what they are on ports of their own, on one socket. QUIC reads it, into its
//! own buffers and as many datagrams at once as the system gives; what is KCP's goes through a
//! bounded [`Queue`] to KCP's endpoint. Both send for themselves, in batches.
//!
//! Which datagram is whose, its fifth byte says, and [`sort`] says why that is certain.

mod queue;
pub(crate) mod sort;

use std::net::SocketAddr;
use std::sync::Arc;

pub(crate) use queue::Queue;

use crate::kcp::{self, KcpListenConfig};
use crate::quic::{self, QuicListenConfig};
use crate::udp::UdpIo;
use crate::{BindError, Listener, TransportKind, udp};

/// What listens on one port.
#[derive(Debug)]
pub struct Listeners {
    /// For clients over QUIC.
    pub quic: Box<dyn Listener>,
    /// For clients over KCP.
    pub kcp: Box<dyn Listener>,
}

/// Binds `addr` for QUIC and for KCP.
///
/// Packets are sent with "don't fragment", as QUIC asks for, KCP's 1,386 bytes with headers too.
pub fn bind(
    addr: SocketAddr,
    quic: QuicListenConfig,
    kcp: KcpListenConfig,
) -> Result<Listeners, BindError> {
    let failed = |source| BindError {
        transport: TransportKind::Quic,
        addr,
        source,
    };
    let io = udp::listen(addr).and_then(UdpIo::new).map_err(failed)?;
    let local_addr = io.socket.local_addr().map_err(failed)?;
    let io = Arc::new(io);
    let queue = Arc::new(Queue::default());
    // KCP's first: its part in the queue is given up again if QUIC's fails.
    let kcp = kcp::listen_beside_quic(Arc::clone(&io), Arc::clone(&queue), local_addr, kcp);
    let quic = quic::listen_beside_kcp(io, queue, local_addr, quic)?;
    Ok(Listeners { quic, kcp })
}
