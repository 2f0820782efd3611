//! A carrier over one connection of s2n-quic.

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use s2n_quic::Connection;
use s2n_quic::connection::StreamAcceptor;
use s2n_quic::provider::datagram::default::{DatagramError as Refused, Receiver, Sender};
use tokio::sync::mpsc;

use super::shared::{CLOSE_TIMEOUT, REFUSED, RESET, Shared};
use super::stream::{S2nStream, refuse};
use crate::info::Admission;
use crate::quic::shared::canonical;
use crate::{
    BoxFuture, BoxStream, Carrier, CarrierError, DatagramError, ExportError, PathStats,
    TransportKind,
};

/// A carrier over one connection of s2n-quic.
pub(super) struct S2nCarrier {
    shared: Arc<Shared>,
    incoming: tokio::sync::Mutex<mpsc::Receiver<S2nStream>>,
    local_addr: Option<SocketAddr>,
    /// The connection has none any more once it is closed.
    first_peer_addr: SocketAddr,
}

impl S2nCarrier {
    /// Makes a carrier of a connection; `admission` is there for a stranger. `guard` is kept until
    /// the connection is over.
    pub(super) fn start(
        connection: Connection,
        peer: SocketAddr,
        idle_timeout: Duration,
        admission: Option<Box<dyn Admission>>,
        guard: impl Send + 'static,
    ) -> Arc<dyn Carrier> {
        let local_addr = connection.local_addr().ok().map(canonical);
        let is_stranger = admission.is_some();
        let (handle, acceptor) = connection.split();
        let shared = Arc::new(Shared::new(handle, idle_timeout, admission));
        let (ready, incoming) = mpsc::channel(MAX_READY);
        tokio::spawn(take_streams(Arc::clone(&shared), acceptor, ready, guard));
        if is_stranger {
            tokio::spawn(watch_stranger(Arc::clone(&shared)));
        }
        Arc::new(Self {
            shared,
            incoming: tokio::sync::Mutex::new(incoming),
            local_addr,
            first_peer_addr: peer,
        })
    }

    async fn open(&self) -> Result<BoxStream, CarrierError> {
        let shared = &self.shared;
        if let Some(refusal) = shared.refusal() {
            return Err(refusal);
        }
        let mut handle = shared.handle.clone();
        let opened = tokio::select! {
            opened = handle.open_bidirectional_stream() => opened,
            reason = shared.ended.wait() => return Err(reason),
        };
        let stream = opened.map_err(|error| shared.ended_by(&error))?;
        if !shared.begin_stream() {
            return Err(CarrierError::NoStream("the carrier is being left"));
        }
        Ok(Box::new(S2nStream::new(Arc::clone(shared), stream)))
    }

    async fn accept(&self) -> Result<Option<BoxStream>, CarrierError> {
        let mut incoming = self.incoming.lock().await;
        let reason = tokio::select! {
            // Streams that came before the end are handed out before it.
            biased;
            stream = incoming.recv() => match stream {
                Some(stream) => return Ok(Some(Box::new(stream))),
                None => self.shared.ended.wait().await,
            },
            reason = self.shared.ended.wait() => reason,
        };
        match reason {
            CarrierError::ClosedByPeer => Ok(None),
            reason => Err(reason),
        }
    }
}

/// Takes the streams that the peer opens, until the connection is over. Those that are waiting to
/// be accepted are bounded; the peer cannot open more than it may have.
async fn take_streams(
    shared: Arc<Shared>,
    mut acceptor: StreamAcceptor,
    ready: mpsc::Sender<S2nStream>,
    guard: impl Send + 'static,
) {
    let mut n_taken = 0;
    let error = loop {
        match acceptor.accept_bidirectional_stream().await {
            Ok(Some(stream)) => {
                n_taken += 1;
                if n_taken > STRANGER_STREAMS && !shared.is_admitted() {
                    refuse(stream, RESET);
                    continue;
                }
                if !shared.begin_stream() {
                    refuse(stream, REFUSED);
                    continue;
                }
                let stream = S2nStream::new(Arc::clone(&shared), stream);
                tokio::select! {
                    // Who does not take streams any more has closed the carrier.
                    _ = ready.send(stream) => {}
                    _ = shared.ended.wait() => {}
                }
            }
            // Over in good order: only now the reason can be had.
            Ok(None) => {
                let mut handle = shared.handle.clone();
                match handle.open_bidirectional_stream().await {
                    Err(error) => break error,
                    Ok(_) => continue,
                }
            }
            Err(error) => break error,
        }
    };
    if shared.is_closing() {
        // s2n-quic says nothing about when the last packet has left, which the endpoint's task
        // sends in its next turn.
        tokio::time::sleep(LAST_PACKET).await;
    }
    shared.note_gone(&error);
    drop(guard);
}

/// Closes the connection of a stranger that sends more than it may before it is admitted.
async fn watch_stranger(shared: Arc<Shared>) {
    tokio::select! {
        () = shared.observed.too_much() => {
            if !shared.is_admitted() {
                metrics::counter!("holdfast_rejected_total", "cause" => "too much before login")
                    .increment(1);
                let reason = "the peer sends too much before it has logged in";
                shared.abandon(CarrierError::Protocol(reason.into()));
            }
        }
        _ = shared.ended.wait() => {}
    }
}

impl Carrier for S2nCarrier {
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
        let max_len = self.shared.observed.max_datagram_len();
        if data.len() > max_len.ok_or(DatagramError::Unsupported)? {
            return Err(DatagramError::TooLong);
        }
        let handle = &self.shared.handle;
        let sent = handle.datagram_mut(|sender: &mut Sender| sender.send_datagram_forced(data));
        match sent {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(Refused::ConnectionError { error, .. })) => {
                Err(self.shared.ended_by(&error).into())
            }
            Ok(Err(_)) => Err(DatagramError::TooLong),
            Err(_) => Err(DatagramError::Unsupported),
        }
    }

    /// s2n-quic does not say how many wait.
    fn unsent_datagrams(&self) -> Option<usize> {
        self.shared.observed.max_datagram_len().map(|_| 0)
    }

    fn recv_datagram(&self) -> BoxFuture<'_, Result<Bytes, DatagramError>> {
        Box::pin(async {
            let handle = &self.shared.handle;
            let received = poll_fn(|cx| {
                let polled =
                    handle.datagram_mut(|receiver: &mut Receiver| receiver.poll_recv_datagram(cx));
                let Ok(polled) = polled else {
                    return Poll::Ready(Err(DatagramError::Unsupported));
                };
                Poll::Ready(match ready!(polled) {
                    Ok(data) => Ok(data),
                    Err(Refused::ConnectionError { error, .. }) => {
                        Err(self.shared.ended_by(&error).into())
                    }
                    Err(_) => Err(DatagramError::Unsupported),
                })
            });
            tokio::select! {
                biased;
                reason = self.shared.ended.wait() => Err(reason.into()),
                received = received => received,
            }
        })
    }

    fn path_stats(&self) -> PathStats {
        let observed = &self.shared.observed;
        PathStats {
            is_bbr: false,
            adapts_to_loss: false,
            rtt: observed.rtt(),
            bytes_sent: self.shared.bytes_sent(),
            bytes_received: self.shared.bytes_received(),
            n_streams: self.shared.n_streams(),
            packets_sent: Some(observed.packets_sent()),
            packets_lost: Some(observed.packets_lost()),
            ..PathStats::default()
        }
    }

    /// s2n-quic keeps its TLS session to itself.
    fn export_keying_material(
        &self,
        _out: &mut [u8],
        _label: &[u8],
        _context: &[u8],
    ) -> Result<(), ExportError> {
        Err(ExportError)
    }

    fn admit(&self) {
        self.shared.admit();
    }

    fn drain(&self) {
        self.shared.drain();
    }

    fn close(&self) {
        self.shared.close(CLOSE_TIMEOUT);
    }

    fn closed(&self) -> BoxFuture<'_, CarrierError> {
        Box::pin(async {
            let reason = self.shared.ended.wait().await;
            // A carrier that was closed on this side still sends what was written before.
            self.shared.gone.wait().await;
            reason
        })
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr
    }

    fn peer_addr(&self) -> SocketAddr {
        self.shared.peer_addr().unwrap_or(self.first_peer_addr)
    }
}

impl Drop for S2nCarrier {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for S2nCarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S2nCarrier")
            .field("peer_addr", &self.peer_addr())
            .field("ended", &self.shared.ended.get())
            .finish_non_exhaustive()
    }
}

/// Streams that a stranger may open in all: the control stream, and some to spare.
const STRANGER_STREAMS: usize = 4;

/// Streams that have been taken and not been accepted. The others wait in s2n-quic.
const MAX_READY: usize = 16;

/// How long the last packet of a connection may take to leave.
const LAST_PACKET: Duration = Duration::from_millis(20);
