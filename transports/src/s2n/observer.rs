//! What s2n-quic tells about a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use s2n_quic::provider::event::{ConnectionInfo, ConnectionMeta, Subscriber, events};
use tokio::sync::Notify;

/// What is known about one connection.
#[derive(Debug)]
pub(super) struct Observed {
    rtt_us: AtomicU64,
    packets_sent: AtomicU64,
    packets_lost: AtomicU64,
    /// The longest UDP payload that the path takes.
    mtu: AtomicU16,
    peer_takes_datagrams: AtomicBool,
    /// Bytes of packets from the peer.
    received: AtomicU64,
    /// Wakes who watches a stranger that sends too much.
    too_much: Notify,
}

impl Default for Observed {
    fn default() -> Self {
        Self {
            rtt_us: AtomicU64::new(0),
            packets_sent: AtomicU64::new(0),
            packets_lost: AtomicU64::new(0),
            mtu: AtomicU16::new(MIN_MTU),
            peer_takes_datagrams: AtomicBool::new(false),
            received: AtomicU64::new(0),
            too_much: Notify::new(),
        }
    }
}

impl Observed {
    pub(super) fn rtt(&self) -> Option<Duration> {
        let rtt = self.rtt_us.load(Ordering::Relaxed);
        (rtt > 0).then(|| Duration::from_micros(rtt))
    }

    pub(super) fn packets_sent(&self) -> u64 {
        self.packets_sent.load(Ordering::Relaxed)
    }

    pub(super) fn packets_lost(&self) -> u64 {
        self.packets_lost.load(Ordering::Relaxed)
    }

    /// The longest datagram that fits, or `None` when the peer takes none at all.
    pub(super) fn max_datagram_len(&self) -> Option<usize> {
        let mtu = usize::from(self.mtu.load(Ordering::Relaxed));
        let is_taken = self.peer_takes_datagrams.load(Ordering::Relaxed);
        is_taken.then_some(mtu - PACKET_OVERHEAD)
    }

    /// Waits until the peer has sent more than a stranger may.
    pub(super) async fn too_much(&self) {
        loop {
            let mut too_much = std::pin::pin!(self.too_much.notified());
            too_much.as_mut().enable();
            if self.received.load(Ordering::Relaxed) > MAX_FROM_STRANGER {
                return;
            }
            too_much.await;
        }
    }
}

/// Makes an [`Observed`] of each connection, and keeps it up to date.
#[derive(Debug)]
pub(super) struct Observer;

impl Subscriber for Observer {
    type ConnectionContext = Arc<Observed>;

    fn create_connection_context(
        &mut self,
        _meta: &ConnectionMeta,
        _info: &ConnectionInfo,
    ) -> Self::ConnectionContext {
        Arc::default()
    }

    fn on_packet_sent(
        &mut self,
        observed: &mut Self::ConnectionContext,
        _meta: &ConnectionMeta,
        _event: &events::PacketSent,
    ) {
        observed.packets_sent.fetch_add(1, Ordering::Relaxed);
    }

    fn on_packet_lost(
        &mut self,
        observed: &mut Self::ConnectionContext,
        _meta: &ConnectionMeta,
        event: &events::PacketLost<'_>,
    ) {
        if !event.is_mtu_probe {
            observed.packets_lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn on_recovery_metrics(
        &mut self,
        observed: &mut Self::ConnectionContext,
        _meta: &ConnectionMeta,
        event: &events::RecoveryMetrics<'_>,
    ) {
        let rtt = u64::try_from(event.smoothed_rtt.as_micros()).unwrap_or(u64::MAX);
        observed.rtt_us.store(rtt, Ordering::Relaxed);
    }

    fn on_mtu_updated(
        &mut self,
        observed: &mut Self::ConnectionContext,
        _meta: &ConnectionMeta,
        event: &events::MtuUpdated,
    ) {
        let mtu = event.mtu.max(MIN_MTU);
        observed.mtu.store(mtu, Ordering::Relaxed);
    }

    fn on_transport_parameters_received(
        &mut self,
        observed: &mut Self::ConnectionContext,
        _meta: &ConnectionMeta,
        event: &events::TransportParametersReceived<'_>,
    ) {
        let is_taken = event.transport_parameters.max_datagram_frame_size > 0;
        observed
            .peer_takes_datagrams
            .store(is_taken, Ordering::Relaxed);
    }

    fn on_packet_received(
        &mut self,
        observed: &mut Self::ConnectionContext,
        _meta: &ConnectionMeta,
        event: &events::PacketReceived,
    ) {
        let len = event.packet_len as u64;
        let before = observed.received.fetch_add(len, Ordering::Relaxed);
        if before <= MAX_FROM_STRANGER && before + len > MAX_FROM_STRANGER {
            observed.too_much.notify_waiters();
        }
    }
}

/// What every QUIC path takes (RFC 9000 section 14).
const MIN_MTU: u16 = 1200;

/// What is around a datagram in its packet at most: first byte, connection id of 20 bytes, packet
/// number of 4, frame type, length of 2, tag of 16.
const PACKET_OVERHEAD: usize = 1 + 20 + 4 + 1 + 2 + 16;

/// What a peer may send before it has proven itself: as much as quinn lets it have here unread.
/// s2n-quic's windows cannot be raised later, so it is counted, and who exceeds it is closed.
pub(super) const MAX_FROM_STRANGER: u64 = 1024 * 1024;
