//! TCP: frp's default transport.
//!
//! Dialling: resolve, connect (through an outbound proxy if one is set), the marker byte if one is
//! set, TLS, and then yamux or one bare stream. Listening: [`Acceptor`] takes connections and
//! never waits for their peers; each waits for its [half-open place](crate::half_open), tells by
//! its first bytes what it is, runs its handshakes, and comes out of
//! [`Listener::accept`]: as a carrier of TCP, or of [WebSocket](crate::websocket).

pub mod accept;
mod adapt;
pub mod bind;
mod dial;
mod info;
mod io;
mod layers;
mod listen;
mod options;
mod preface;
mod proxy;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::half_open::HalfOpenLimits;
use crate::info::{CarrierInfo, Io};
use crate::mux::{MuxCarrier, MuxConfig, Role};
use crate::single::SingleCarrier;
use crate::tls::{ClientTls, ServerTls};
use crate::{
    BindError, BoxFuture, Carrier, DialError, Endpoint, Listener, Transport, TransportKind,
};

pub use dial::connect;
pub(crate) use dial::{Reached, within};
pub(crate) use dial::{STAGGER, in_turns, resolve};
pub(crate) use io::put_back;
pub(crate) use layers::{Layers, Refusal};
pub use options::{DEFAULT_NOTSENT_LOWAT, Sending, TcpCongestion, keep_alive};
pub use proxy::{ProxyUrl, ProxyUrlError};

/// How to reach a server over TCP.
#[derive(Clone, Debug)]
pub struct TcpDialConfig {
    /// For everything from the name's resolution to the last handshake.
    pub timeout: Duration,
    /// Idle time after which the system probes whether the peer is still there.
    pub keepalive: Option<Duration>,
    /// How the system sends.
    pub sending: Sending,
    /// The address of this host to dial from.
    pub local_ip: Option<IpAddr>,
    /// An outbound proxy to go through.
    pub proxy: Option<ProxyUrl>,
    /// TLS, if the server is to be spoken to in it.
    pub tls: Option<ClientTls>,
    /// A byte to send ahead of TLS. Not sent without TLS.
    pub marker: Option<u8>,
    /// Multiplexing, or one stream.
    pub mux: Option<MuxConfig>,
}

impl Default for TcpDialConfig {
    /// frp's defaults, but without TLS, which is not there by default.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            keepalive: Some(Duration::from_secs(7200)),
            sending: Sending::default(),
            local_ip: None,
            proxy: None,
            tls: None,
            marker: None,
            mux: Some(MuxConfig::default()),
        }
    }
}

/// How to listen for clients over TCP.
#[derive(Clone, Debug)]
pub struct TcpListenConfig {
    /// Idle time after which the system probes whether a peer is still there.
    pub keepalive: Option<Duration>,
    /// How the system sends.
    pub sending: Sending,
    /// TLS, for clients that begin it.
    pub tls: Option<ServerTls>,
    /// Refuses clients that do not begin TLS.
    pub force_tls: bool,
    /// A first byte that announces TLS and is not part of it.
    pub marker: Option<u8>,
    /// Where to grant upgrades to [WebSocket](crate::websocket), without TLS around them and with
    /// it: a slash and more. `None`: nowhere.
    pub websocket_path: Option<&'static str>,
    /// Multiplexing, or one stream.
    pub mux: Option<MuxConfig>,
    /// Bounds for connections that have not logged in.
    pub limits: HalfOpenLimits,
    /// From the accept, or from the half-open place where one had to be waited for, to the login:
    /// the first bytes and all handshakes are part of it.
    pub login_timeout: Duration,
}

impl Default for TcpListenConfig {
    /// frp's defaults, but without TLS, which needs a certificate.
    fn default() -> Self {
        Self {
            keepalive: Some(Duration::from_secs(7200)),
            sending: Sending::default(),
            tls: None,
            force_tls: false,
            marker: None,
            websocket_path: None,
            mux: Some(MuxConfig::default()),
            limits: HalfOpenLimits::default(),
            login_timeout: Duration::from_secs(10),
        }
    }
}

/// The TCP transport: of a client, which dials, or of a server, which listens.
#[derive(Clone, Debug)]
pub struct TcpTransport {
    dial: Arc<TcpDialConfig>,
    listen: Arc<TcpListenConfig>,
}

impl TcpTransport {
    /// Creates a client's transport. It can listen as well, with the defaults.
    pub fn dialer(config: TcpDialConfig) -> Self {
        Self {
            dial: Arc::new(config),
            listen: Arc::default(),
        }
    }

    /// Creates a server's transport. It can dial as well, with the defaults.
    pub fn listener(config: TcpListenConfig) -> Self {
        Self {
            dial: Arc::default(),
            listen: Arc::new(config),
        }
    }
}

impl Transport for TcpTransport {
    fn kind(&self) -> TransportKind {
        TransportKind::Tcp
    }

    fn dial<'a>(
        &'a self,
        server: &'a Endpoint,
    ) -> BoxFuture<'a, Result<Arc<dyn Carrier>, DialError>> {
        Box::pin(dial::dial(&self.dial, server))
    }

    fn bind(&self, addr: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Listener>, BindError>> {
        Box::pin(async move {
            let listener = listen::TcpListener::bind(addr, self.listen.clone())?;
            Ok(Box::new(listener) as Box<dyn Listener>)
        })
    }
}

/// Puts a carrier on a connection that is ready for it.
pub(crate) fn start_carrier(
    io: Box<dyn Io>,
    mux: Option<&MuxConfig>,
    role: Role,
    info: CarrierInfo,
) -> Arc<dyn Carrier> {
    match mux {
        Some(config) => MuxCarrier::start(io, role, config, info),
        None => SingleCarrier::start(io, info),
    }
}
