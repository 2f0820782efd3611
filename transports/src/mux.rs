//! yamux: any number of streams over one byte stream, compatible with frp's.
//!
//! A frame header of 12 bytes says which stream the frame belongs to. Each stream has a window in
//! each direction, so that one that is not read holds up no other. `session` decides everything:
//! it is told bytes and times and answers with frames. `driver` is the one task that reads and
//! writes; `stream` is what the application holds; `shared` lies between the three.
//!
//! The header comes in `frame`, what is known of a stream in `stream_state`, the growing receive
//! window in `window`, pings in `health`, and what is being written in `batch`.

mod batch;
mod chunks;
mod driver;
mod frame;
mod health;
mod seen_ids;
mod session;
mod shared;
mod stream;
mod stream_state;
mod turn;
mod window;

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::info::{CarrierInfo, Exporter, Io, Path};
use crate::{
    BoxFuture, BoxStream, Carrier, CarrierError, DatagramError, ExportError, PathStats,
    TransportKind,
};

use driver::Driver;
use session::Session;
pub(crate) use session::fuzz;
use shared::{Shared, now};
use stream::MuxStream;

/// Which end of the byte stream this is: it decides whose stream ids are odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Opened the byte stream; its streams have odd ids.
    Client,
    /// Accepted the byte stream; its streams have even ids.
    Server,
}

/// How a multiplexed carrier behaves.
#[derive(Clone, Debug)]
pub struct MuxConfig {
    /// How often the peer is pinged (frp's `transport.tcpMuxKeepaliveInterval`). At least a second.
    pub keepalive_interval: Duration,
    /// How long after a ping the peer may be silent before the carrier is given up.
    pub keepalive_timeout: Duration,
    /// The largest receive window that a stream grows to.
    pub max_window: u32,
    /// The most unread bytes that all streams of the carrier may hold together. The stream that
    /// brings more is reset; the others live.
    pub max_unread: usize,
}

impl Default for MuxConfig {
    fn default() -> Self {
        Self {
            keepalive_interval: DEFAULT_KEEPALIVE_INTERVAL,
            keepalive_timeout: DEFAULT_KEEPALIVE_TIMEOUT,
            max_window: DEFAULT_MAX_WINDOW,
            max_unread: DEFAULT_MAX_UNREAD,
        }
    }
}

/// frp's.
const DEFAULT_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// yamux's connection write timeout, which frp leaves alone.
const DEFAULT_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// frp's.
const DEFAULT_MAX_WINDOW: u32 = 6 * 1024 * 1024;

/// Two thousand streams with a full initial window that nobody reads.
const DEFAULT_MAX_UNREAD: usize = 512 * 1024 * 1024;

/// A carrier with any number of streams over one byte stream.
pub struct MuxCarrier {
    shared: Arc<Shared>,
    role: Role,
    kind: TransportKind,
    local_addr: Option<SocketAddr>,
    peer_addr: SocketAddr,
    exporter: Option<Arc<dyn Exporter>>,
    path: Option<Arc<dyn Path>>,
}

impl MuxCarrier {
    /// Starts a carrier over `io`. Must be called in a tokio runtime: the carrier's driver is a
    /// task of it.
    pub fn start<I: Io>(
        io: I,
        role: Role,
        config: &MuxConfig,
        info: CarrierInfo,
    ) -> Arc<dyn Carrier> {
        let session = Session::new(role, config, info.admission.is_some(), now());
        let shared = Arc::new(Shared::new(session, info.admission));
        tokio::spawn(Driver::new(Arc::clone(&shared), io, info.abort));
        Arc::new(Self {
            shared,
            role,
            kind: info.kind,
            local_addr: info.local_addr,
            peer_addr: info.peer_addr,
            exporter: info.exporter,
            path: info.path,
        })
    }

    fn send(&self, datagram: &[u8], is_awaited: bool) -> Result<(), DatagramError> {
        let path = self.path.as_ref().ok_or(DatagramError::Unsupported)?;
        if let Some(reason) = self.shared.ended.get() {
            return Err(reason.clone().into());
        }
        path.send_datagram(datagram, is_awaited)
    }

    fn stream(&self, id: u32) -> BoxStream {
        Box::new(MuxStream::new(Arc::clone(&self.shared), id))
    }
}

impl Carrier for MuxCarrier {
    fn kind(&self) -> TransportKind {
        self.kind
    }

    fn is_multiplexed(&self) -> bool {
        true
    }

    fn open_stream(&self) -> BoxFuture<'_, Result<BoxStream, CarrierError>> {
        Box::pin(async { Ok(self.stream(self.shared.open().await?)) })
    }

    fn accept_stream(&self) -> BoxFuture<'_, Result<Option<BoxStream>, CarrierError>> {
        Box::pin(async {
            match self.shared.accept().await {
                Ok(id) => Ok(Some(self.stream(id))),
                Err(CarrierError::ClosedByPeer) => Ok(None),
                Err(reason) => Err(reason),
            }
        })
    }

    fn send_datagram(&self, data: Bytes) -> Result<(), DatagramError> {
        self.send(&data, false)
    }

    fn send_copy(&self, data: Bytes) -> Result<(), DatagramError> {
        self.send(&data, true)
    }

    fn wants_copies(&self) -> bool {
        self.path.as_ref().is_some_and(|path| path.wants_copies())
    }

    fn recv_datagram(&self) -> BoxFuture<'_, Result<Bytes, DatagramError>> {
        Box::pin(async {
            let path = self.path.as_ref().ok_or(DatagramError::Unsupported)?;
            tokio::select! {
                received = poll_fn(|cx| path.poll_recv_datagram(cx)) => received,
                reason = self.shared.ended.wait() => Err(reason.into()),
            }
        })
    }

    fn path_stats(&self) -> PathStats {
        let figures = self.shared.with(|session| session.figures());
        let mut stats = PathStats {
            rtt: figures.rtt,
            bytes_sent: figures.bytes_sent,
            bytes_received: figures.bytes_received,
            n_streams: figures.n_streams,
            ..PathStats::default()
        };
        if let Some(path) = &self.path {
            path.fill(&mut stats);
        }
        stats
    }

    fn export_keying_material(
        &self,
        out: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportError> {
        let exporter = self.exporter.as_ref().ok_or(ExportError)?;
        exporter.export(out, label, context)
    }

    fn admit(&self) {
        self.shared.admit();
    }

    fn drain(&self) {
        self.shared.with(Session::drain);
    }

    fn close(&self) {
        self.shared.with(Session::close);
        self.shared.wake_driver();
    }

    fn handle_holdfast_peer(&self) {
        if let Some(path) = &self.path {
            path.handle_holdfast_peer();
            if let Some(exporter) = &self.exporter {
                path.begin_datagrams(&**exporter, self.role);
            }
        }
    }

    fn handle_watched(&self) {
        self.shared.with(|session| session.stop_asking(now()));
        if let Some(path) = &self.path {
            path.handle_watched();
        }
    }

    fn closed(&self) -> BoxFuture<'_, CarrierError> {
        Box::pin(self.shared.ended.wait())
    }

    fn gone(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.shared.gone.wait().await;
        })
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr
    }

    fn peer_addr(&self) -> SocketAddr {
        self.peer_addr
    }
}

impl Drop for MuxCarrier {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for MuxCarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MuxCarrier")
            .field("kind", &self.kind)
            .field("peer_addr", &self.peer_addr)
            .field("ended", &self.shared.ended.get())
            .finish_non_exhaustive()
    }
}
