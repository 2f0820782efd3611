//! QUIC: frp's second transport over UDP.
//!
//! One QUIC connection is one carrier, and each of our streams is one of its bidirectional streams,
//! without yamux and without anything before the first bytes of a stream. Towards frp only the
//! client opens streams; between our own ends both may.
//!
//! A dialled connection has an [endpoint](quinn::Endpoint) and a socket of its own, so that
//! [`Carrier::rebind`] moves nothing else. A server's connections share one socket; handshakes run
//! beside the accepting, each in its [half-open place](crate::half_open).
//!
//! Differences between the contract and QUIC, and what becomes of them:
//!
//! - QUIC cannot close a connection after what was written has arrived. `delivery` finds out when
//!   it has.
//! - QUIC has no word for "no more streams, please". A stream that comes too late is reset with a
//!   code of its own, from which our own ends learn it.
//! - A peer that closes a stream stops reading (`STOP_SENDING` 0) at the same time. What it wrote
//!   before is still read, see `stream`.

mod backend;
mod capped;
mod carrier;
mod congestion;
mod delivery;
mod dial;
mod first_packet;
mod listen;
mod settings;
pub(crate) mod shared;
mod socket;
mod stream;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::ConnectionError;

use crate::half_open::HalfOpenLimits;
use crate::tls::{ClientTls, ServerTls};
use crate::udp::UdpIo;
use crate::udp_port::Queue;
use crate::{
    BindError, BoxFuture, Carrier, DialError, Endpoint, Listener, Transport, TransportKind,
};

pub use backend::QuicBackend;
#[cfg(feature = "s2n")]
pub(crate) use capped::window_at;
pub use congestion::{Congestion, QuicCongestion};
pub use quinn::congestion::{Controller, ControllerFactory};
#[cfg(feature = "s2n")]
pub(crate) use settings::INITIAL_RTT;
pub use settings::Windows;

/// How to reach a server over QUIC.
#[derive(Clone, Debug)]
pub struct QuicDialConfig {
    /// Whom to trust and what to present.
    pub tls: ClientTls,
    /// The protocol to ask for; the server must offer the same.
    pub alpn: Vec<u8>,
    /// For everything from the name's resolution to the end of the handshake.
    pub timeout: Duration,
    /// After this long without a packet one is sent. At most half of `idle_timeout`.
    pub keepalive_interval: Duration,
    /// After this long without a packet from the peer the connection is given up. The lesser one
    /// of both ends counts.
    pub idle_timeout: Duration,
    /// Streams of the peer's that may be open at the same time.
    pub max_incoming_streams: u64,
    /// The address of this host to dial from.
    pub local_ip: Option<IpAddr>,
    /// How much may be under way.
    pub windows: Windows,
    /// How fast to send.
    pub congestion: Congestion,
}

impl QuicDialConfig {
    /// frp's defaults.
    pub fn new(tls: ClientTls, alpn: &[u8]) -> Self {
        Self {
            tls,
            alpn: alpn.to_vec(),
            timeout: DEFAULT_TIMEOUT,
            keepalive_interval: DEFAULT_KEEPALIVE_INTERVAL,
            idle_timeout: DEFAULT_IDLE_TIMEOUT,
            max_incoming_streams: DEFAULT_MAX_INCOMING_STREAMS,
            local_ip: None,
            windows: Windows::default(),
            congestion: Congestion::default(),
        }
    }
}

/// How to listen for clients over QUIC.
#[derive(Clone, Debug)]
pub struct QuicListenConfig {
    /// What to present and whom to trust.
    pub tls: ServerTls,
    /// The protocol that clients have to ask for.
    pub alpn: Vec<u8>,
    /// After this long without a packet one is sent. At most half of `idle_timeout`.
    pub keepalive_interval: Duration,
    /// After this long without a packet from the peer the connection is given up. The lesser one
    /// of both ends counts.
    pub idle_timeout: Duration,
    /// Streams of an admitted peer's that may be open at the same time.
    pub max_incoming_streams: u64,
    /// Bounds for connections that have not logged in.
    pub limits: HalfOpenLimits,
    /// From the first packet, or from the half-open place where one had to be waited for, to the
    /// login: the handshake is part of it.
    pub login_timeout: Duration,
    /// How much may be under way, once the peer is admitted.
    pub windows: Windows,
    /// How fast to send.
    pub congestion: Congestion,
}

impl QuicListenConfig {
    /// frp's defaults.
    pub fn new(tls: ServerTls, alpn: &[u8]) -> Self {
        Self {
            tls,
            alpn: alpn.to_vec(),
            keepalive_interval: DEFAULT_KEEPALIVE_INTERVAL,
            idle_timeout: DEFAULT_IDLE_TIMEOUT,
            max_incoming_streams: DEFAULT_MAX_INCOMING_STREAMS,
            limits: HalfOpenLimits::default(),
            login_timeout: DEFAULT_TIMEOUT,
            windows: Windows::default(),
            congestion: Congestion::default(),
        }
    }
}

/// Listens on a socket that KCP uses too, see [`udp_port`](crate::udp_port).
pub(crate) fn listen_beside_kcp(
    io: Arc<UdpIo>,
    queue: Arc<Queue>,
    addr: SocketAddr,
    config: QuicListenConfig,
) -> Result<Box<dyn Listener>, BindError> {
    let listener = listen::QuicListener::beside_kcp(io, queue, addr, Arc::new(config))?;
    Ok(Box::new(listener))
}

/// The QUIC transport: of a client, which dials, or of a server, which listens.
#[derive(Clone, Debug)]
pub struct QuicTransport {
    side: Side,
}

#[derive(Clone, Debug)]
enum Side {
    Dials(Arc<QuicDialConfig>),
    Listens(Arc<QuicListenConfig>),
}

impl QuicTransport {
    /// Creates a client's transport.
    pub fn dialer(config: QuicDialConfig) -> Self {
        Self {
            side: Side::Dials(Arc::new(config)),
        }
    }

    /// Creates a server's transport.
    pub fn listener(config: QuicListenConfig) -> Self {
        Self {
            side: Side::Listens(Arc::new(config)),
        }
    }
}

impl Transport for QuicTransport {
    fn kind(&self) -> TransportKind {
        TransportKind::Quic
    }

    fn dial<'a>(
        &'a self,
        server: &'a Endpoint,
    ) -> BoxFuture<'a, Result<Arc<dyn Carrier>, DialError>> {
        Box::pin(async move {
            match &self.side {
                Side::Dials(config) => dial::dial(config, server).await,
                Side::Listens(_) => Err(DialError::ConnectUdp {
                    addr: server.to_string(),
                    source: wrong_side("a server's settings cannot be dialled with"),
                }),
            }
        })
    }

    fn bind(&self, addr: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Listener>, BindError>> {
        Box::pin(async move {
            match &self.side {
                Side::Listens(config) => {
                    let listener = listen::QuicListener::bind(addr, Arc::clone(config))?;
                    Ok(Box::new(listener) as Box<dyn Listener>)
                }
                Side::Dials(_) => Err(BindError {
                    transport: TransportKind::Quic,
                    addr,
                    source: wrong_side("QUIC needs a certificate to listen with"),
                }),
            }
        })
    }
}

pub(crate) fn wrong_side(problem: &'static str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::Unsupported, problem)
}

/// Whether a connection failed for its certificates or other terms of TLS, and not for the path.
fn is_tls_failure(error: &ConnectionError) -> bool {
    let code = match error {
        ConnectionError::TransportError(error) => error.code,
        ConnectionError::ConnectionClosed(close) => close.error_code,
        _ => return false,
    };
    // RFC 9001 section 4.8: an alert is a CRYPTO_ERROR.
    (CRYPTO_ERROR..CRYPTO_ERROR + 0x100).contains(&u64::from(code))
}

const CRYPTO_ERROR: u64 = 0x100;

/// frp's `transport.dialServerTimeout`, and as long for a client to log in.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// frp's `transport.quic.keepalivePeriod`.
const DEFAULT_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// frp's `transport.quic.maxIdleTimeout`.
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// frp's `transport.quic.maxIncomingStreams`.
const DEFAULT_MAX_INCOMING_STREAMS: u64 = 100_000;
