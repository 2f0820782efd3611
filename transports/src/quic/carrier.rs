//! A carrier over one QUIC connection.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use quinn::{Connection, ConnectionStats, Endpoint, SendDatagramError, VarInt};

use super::delivery::Delivery;
use super::settings::{MAX_UNSENT_DATAGRAMS, Windows};
use super::shared::{CLOSE_TIMEOUT, Shared, canonical};
use super::socket::{Refusals, UdpSocket};
use super::stream::{QuicStream, refuse};
use crate::info::Admission;
use crate::{
    BoxFuture, BoxStream, Carrier, CarrierError, DatagramError, ExportError, PathStats,
    RebindError, TransportKind,
};

/// A carrier over one QUIC connection.
pub(super) struct QuicCarrier {
    shared: Arc<Shared>,
    /// The endpoint of a dialled connection is its own, so that moving it moves nothing else.
    endpoint: Option<OwnEndpoint>,
    /// The address that was bound, for an accepted connection.
    bound: SocketAddr,
}

/// The socket of a dialled connection, and of the attempts beside it that were given up.
#[derive(Clone)]
pub(super) struct OwnEndpoint {
    pub(super) endpoint: Endpoint,
    pub(super) refusals: Arc<Refusals>,
    pub(super) local_ip: Option<IpAddr>,
}

/// What a carrier has to know about its connection.
pub(super) struct Start {
    pub(super) connection: Connection,
    pub(super) delivery: Arc<Delivery>,
    pub(super) windows: Windows,
    pub(super) keepalive_interval: std::time::Duration,
    pub(super) idle_timeout: std::time::Duration,
    pub(super) max_streams: VarInt,
    pub(super) bound: SocketAddr,
}

impl QuicCarrier {
    /// Makes a carrier of a connection that this side has dialled.
    pub(super) fn dialled(start: Start, own: OwnEndpoint) -> Arc<dyn Carrier> {
        let refusals = Arc::clone(&own.refusals);
        let carrier = Self::new(start, Some(own), None);
        tokio::spawn(heed_refusals(Arc::clone(&carrier.shared), refusals));
        Arc::new(carrier)
    }

    /// Makes a carrier of a connection that a stranger has opened.
    pub(super) fn accepted(start: Start, admission: Box<dyn Admission>) -> Arc<dyn Carrier> {
        Arc::new(Self::new(start, None, Some(admission)))
    }

    fn new(
        start: Start,
        endpoint: Option<OwnEndpoint>,
        admission: Option<Box<dyn Admission>>,
    ) -> Self {
        let shared = Arc::new(Shared::new(
            start.connection,
            start.delivery,
            start.windows,
            start.idle_timeout,
            start.max_streams,
            admission,
        ));
        tokio::spawn(Arc::clone(&shared).keep_alive(start.keepalive_interval));
        tokio::spawn(Arc::clone(&shared).watch());
        tokio::spawn(Arc::clone(&shared).nudge_at_start());
        Self {
            shared,
            endpoint,
            bound: start.bound,
        }
    }

    async fn open(&self) -> Result<BoxStream, CarrierError> {
        let shared = &self.shared;
        if let Some(refusal) = shared.refusal() {
            return Err(refusal);
        }
        let opened = tokio::select! {
            opened = shared.connection.open_bi() => opened,
            reason = shared.ended.wait() => return Err(reason),
        };
        let (send, recv) = opened.map_err(|e| shared.ended_by(e))?;
        if !shared.begin_stream() {
            return Err(CarrierError::NoStream("the carrier is being left"));
        }
        Ok(Box::new(QuicStream::opened(Arc::clone(shared), send, recv)))
    }

    async fn accept(&self) -> Result<Option<BoxStream>, CarrierError> {
        let shared = &self.shared;
        loop {
            let accepted = tokio::select! {
                accepted = shared.connection.accept_bi() => accepted.map_err(|e| shared.ended_by(e)),
                reason = shared.ended.wait() => Err(reason),
            };
            let (send, recv) = match accepted {
                Ok(halves) => halves,
                Err(CarrierError::ClosedByPeer) => return Ok(None),
                Err(reason) => return Err(reason),
            };
            if shared.begin_stream() {
                let stream = QuicStream::accepted(Arc::clone(shared), send, recv);
                return Ok(Some(Box::new(stream)));
            }
            refuse(send, recv);
        }
    }
}

impl Carrier for QuicCarrier {
    fn kind(&self) -> TransportKind {
        TransportKind::Quic
    }

    fn is_multiplexed(&self) -> bool {
        true
    }

    fn open_stream(&self) -> BoxFuture<'_, Result<BoxStream, CarrierError>> {
        Box::pin(self.open())
    }

    fn accept_stream(&self) -> BoxFuture<'_, Result<Option<BoxStream>, CarrierError>> {
        Box::pin(self.accept())
    }

    fn send_datagram(&self, data: Bytes) -> Result<(), DatagramError> {
        if let Some(reason) = self.shared.ended.get() {
            return Err(reason.clone().into());
        }
        self.shared.handle_datagram();
        let sent = self.shared.connection.send_datagram(data);
        sent.map_err(|error| match error {
            SendDatagramError::UnsupportedByPeer | SendDatagramError::Disabled => {
                DatagramError::Unsupported
            }
            SendDatagramError::TooLarge => DatagramError::TooLong,
            SendDatagramError::ConnectionLost(error) => self.shared.ended_by(error).into(),
        })
    }

    fn recv_datagram(&self) -> BoxFuture<'_, Result<Bytes, DatagramError>> {
        Box::pin(async {
            tokio::select! {
                received = self.shared.connection.read_datagram() => {
                    received.map_err(|error| self.shared.ended_by(error).into())
                }
                reason = self.shared.ended.wait() => Err(reason.into()),
            }
        })
    }

    fn unsent_datagrams(&self) -> Option<usize> {
        let connection = &self.shared.connection;
        // The peer, too, has to take them.
        connection.max_datagram_size()?;
        Some(MAX_UNSENT_DATAGRAMS.saturating_sub(connection.datagram_send_buffer_space()))
    }

    fn path_stats(&self) -> PathStats {
        let stats = self.shared.connection.stats();
        let path = &stats.path;
        PathStats {
            rtt: Some(path.rtt),
            bytes_sent: self.shared.bytes_sent(),
            bytes_received: self.shared.bytes_received(),
            n_streams: self.shared.n_streams(),
            packets_sent: Some(path.sent_packets),
            packets_lost: Some(path.lost_packets),
            packets_acked: Some(self.shared.acked_packets()),
            send_rate: Some(send_rate(path)),
            acked_bytes: Some(self.shared.acked_bytes()),
            in_flight: Some(self.shared.in_flight()),
            window: Some(path.cwnd),
            redundant_sent: None,
            redundant_used: None,
            n_heard: n_heard(&stats),
            n_refused: (self.endpoint.as_ref()).map_or(0, |own| own.refusals.n()),
            mtu: Some(
                path.current_mtu
                    .saturating_add(ip_overhead(self.peer_addr())),
            ),
            is_bbr: false,
            adapts_to_loss: false,
        }
    }

    fn export_keying_material(
        &self,
        out: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportError> {
        let connection = &self.shared.connection;
        connection
            .export_keying_material(out, label, context)
            .map_err(|_| ExportError)
    }

    fn admit(&self) {
        self.shared.admit();
    }

    fn drain(&self) {
        self.shared.drain();
        // Somebody has to turn down what the peer goes on opening until it knows.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let connection = self.shared.connection.clone();
            runtime.spawn(async move {
                while let Ok((send, recv)) = connection.accept_bi().await {
                    refuse(send, recv);
                }
            });
        }
    }

    fn close(&self) {
        self.shared.close(CLOSE_TIMEOUT);
    }

    fn handle_watched(&self) {
        self.shared.stop_asking();
    }

    fn closed(&self) -> BoxFuture<'_, CarrierError> {
        Box::pin(async {
            let reason = self.shared.ended.wait().await;
            // A carrier that was closed on this side still sends what was written before.
            self.shared.connection.closed().await;
            reason
        })
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        match &self.endpoint {
            Some(own) => own.endpoint.local_addr().ok(),
            None => {
                let ip = self.shared.connection.local_ip().unwrap_or(self.bound.ip());
                Some(canonical(SocketAddr::new(ip, self.bound.port())))
            }
        }
    }

    fn peer_addr(&self) -> SocketAddr {
        self.shared.peer_addr()
    }

    fn rebind(&self) -> BoxFuture<'_, Result<(), RebindError>> {
        Box::pin(async {
            let own = self.endpoint.as_ref().ok_or(RebindError::Unsupported)?;
            let peer = self.shared.connection.remote_address();
            let socket = UdpSocket::connect(peer, own.local_ip, Arc::clone(&own.refusals))?;
            own.endpoint.rebind_abstract(socket)?;
            Ok(())
        })
    }
}

impl Drop for QuicCarrier {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for QuicCarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicCarrier")
            .field("peer_addr", &self.peer_addr())
            .field("ended", &self.shared.ended.get())
            .finish_non_exhaustive()
    }
}

/// Gives the carrier up when the peer's host refuses packets twice without a word from the peer in
/// between: whoever listened there is gone. Anyone could forge a single refusal.
async fn heed_refusals(shared: Arc<Shared>, refusals: Arc<Refusals>) {
    let mut n_refusals = 0;
    let mut n_heard_before = None;
    loop {
        tokio::select! {
            n = refusals.wait(n_refusals) => n_refusals = n,
            _ = shared.connection.closed() => return,
        }
        let n_heard = Some(n_heard(&shared.connection.stats()));
        if n_heard == n_heard_before {
            let reason = "the peer's host says that nobody listens there any more";
            return shared.abandon(CarrierError::Lost(reason.into()));
        }
        n_heard_before = n_heard;
    }
}

/// A congestion window in each round trip.
fn send_rate(path: &quinn::PathStats) -> u64 {
    let micros = path.rtt.as_micros().max(1);
    u64::try_from(u128::from(path.cwnd) * 1_000_000 / micros).unwrap_or(u64::MAX)
}

/// Frames received, in packets whose sender was proven.
pub(super) fn n_heard(stats: &ConnectionStats) -> u64 {
    let frames = &stats.frame_rx;
    frames.acks + frames.stream + frames.ping + frames.datagram + frames.max_data
}
/// Bytes of a packet before the payload of UDP.
fn ip_overhead(peer: SocketAddr) -> u16 {
    const UDP: u16 = 8;
    match peer.ip().to_canonical() {
        IpAddr::V4(_) => 20 + UDP,
        IpAddr::V6(_) => 40 + UDP,
    }
}
