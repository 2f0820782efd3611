//! What a carrier has to be told about the byte stream under it.
//!
//! Whoever connects or accepts the byte stream knows its addresses, its TLS session and its place
//! among the half-open connections. The carrier that is put on top keeps these and answers with
//! them; it learns nothing else about what it runs over.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::mux::Role;
use crate::{DatagramError, ExportError, PathStats, TransportKind};

/// The byte stream under a carrier.
pub trait Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static {}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static> Io for T {}

/// Exports keying material of the TLS session under a carrier (RFC 5705, RFC 8446 section 7.5).
pub trait Exporter: Send + Sync {
    /// Fills `out`. See [`crate::Carrier::export_keying_material`].
    fn export(&self, out: &mut [u8], label: &[u8], context: &[u8]) -> Result<(), ExportError>;
}

/// A stranger's place among the half-open connections. The carrier holds it for as long as it
/// lives: after [`Admission::admit`] it stands for a customer, whose further connections are not
/// counted, and dropping it at the end gives back whichever it is.
pub trait Admission: Send + Sync {
    /// The peer has proven itself. Calling it again does nothing.
    fn admit(&self);
}

/// The path under a carrier, where the byte stream knows of it.
pub trait Path: Send + Sync {
    /// Puts what is known into `stats`.
    fn fill(&self, stats: &mut PathStats);

    /// See [`crate::Carrier::handle_holdfast_peer`].
    fn handle_holdfast_peer(&self) {}

    /// See [`crate::Carrier::handle_watched`].
    fn handle_watched(&self) {}

    /// The peer is of our own kind, and the byte stream has TLS on it: there may be datagrams beside
    /// it from here on, with keys of that TLS session.
    fn begin_datagrams(&self, _exporter: &dyn Exporter, _role: Role) {}

    /// See [`crate::Carrier::send_datagram`] and, for one that somebody waits for,
    /// [`crate::Carrier::send_copy`].
    fn send_datagram(&self, _data: &[u8], _is_awaited: bool) -> Result<(), DatagramError> {
        Err(DatagramError::Unsupported)
    }

    /// See [`crate::Carrier::recv_datagram`].
    fn poll_recv_datagram(&self, _cx: &mut Context<'_>) -> Poll<Result<Bytes, DatagramError>> {
        Poll::Ready(Err(DatagramError::Unsupported))
    }

    /// See [`crate::Carrier::wants_copies`].
    fn wants_copies(&self) -> bool {
        false
    }
}

/// What is known of a byte stream when a carrier is put on top of it.
pub struct CarrierInfo {
    /// The transport that the carrier says it belongs to.
    pub kind: TransportKind,
    /// This end's address, where there is one.
    pub local_addr: Option<SocketAddr>,
    /// The peer's address: that of the proxy in between, if there is one.
    pub peer_addr: SocketAddr,
    /// The keys of the TLS session, if there is one.
    pub exporter: Option<Arc<dyn Exporter>>,
    /// Present on carriers of strangers: the carrier keeps to the bounds for strangers until it is
    /// admitted, and holds this until it is closed. `None`: no such bounds (a dialled carrier).
    pub admission: Option<Box<dyn Admission>>,
    /// The path, if the byte stream knows more of it than its bytes.
    pub path: Option<Arc<dyn Path>>,
    /// Makes the end of the byte stream abrupt, where that can be had (`SO_LINGER` 0 on TCP), so
    /// that the peer sees an error and not an end. Called once, just before the stream is dropped.
    pub abort: Option<Box<dyn Fn() + Send + Sync>>,
}

impl CarrierInfo {
    /// The least there is to say: no TLS, no admission.
    pub fn new(kind: TransportKind, peer_addr: SocketAddr) -> Self {
        Self {
            kind,
            local_addr: None,
            peer_addr,
            exporter: None,
            admission: None,
            path: None,
            abort: None,
        }
    }
}

impl fmt::Debug for CarrierInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CarrierInfo")
            .field("kind", &self.kind)
            .field("local_addr", &self.local_addr)
            .field("peer_addr", &self.peer_addr)
            .field("tls", &self.exporter.is_some())
            .field("stranger", &self.admission.is_some())
            .finish_non_exhaustive()
    }
}
