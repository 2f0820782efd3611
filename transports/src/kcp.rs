//! KCP: frp's first transport over UDP.
//!
//! One KCP session is one byte stream, and what is on it is what TCP would have: the marker, TLS,
//! and yamux or one bare stream. The session itself is [`kcp_proto`]; here is what it needs of the
//! world. `endpoint` is the one task of a socket: it receives, hands every datagram to its session,
//! keeps their times, and gives each its turn to send. `io` lies between a session and whoever uses
//! its bytes, bounded both ways; `member` is a session with all that the endpoint keeps of it, and
//! `table` finds it by address and conversation. A client's session has an endpoint of its own, on a
//! connected socket; those of a server share one.
//!
//! KCP has neither handshake nor close:
//!
//! - A server makes a session of the first datagram of a conversation, if it could be one: data from
//!   the very beginning, without a word on what has been received. It holds a
//!   [half-open place](crate::half_open), has small windows, and is sent at most three times what it
//!   has sent until it has shown, by an acknowledgement, that its address is its own.
//! - An end sends one last segment without data, which tells our own ends that nothing follows;
//!   frp's go on waiting, as they would without it. A client with TLS and multiplexing
//!   sends none to a server that is not known to be ours, and what it says last it says once: frp's
//!   server takes what comes later for a new session, which it waits for with its door shut. A session that its user has left sends what was
//!   written for [`LINGER`] at most, then nothing is left of it.
//! - A server that has forgotten a session answers its data with the segment that ends it. Our own
//!   clients connect again at once, and to frp's it is one more that says nothing.
//! - A peer that is gone is noticed by yamux, by what its host says of our packets (ICMP, on a
//!   client's socket), or after [`KcpDialConfig::silence`] without an answer to questions about its
//!   window, which every KCP answers.
//!
//! Once a carrier is told that its peer is [of our own kind](Carrier::handle_holdfast_peer), its
//! session is run as [`Fast`] says, and with TLS inside there are `datagrams` beside the byte stream.

mod datagrams;
mod dial;
mod endpoint;
mod farewell;
mod fast;
mod io;
mod listen;
mod member;
mod socket;
mod table;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

pub use fast::{Fast, MakeControl, MakeCopies, Start};
pub use kcp_proto::{control, copies};

use crate::half_open::HalfOpenLimits;
use crate::mux::MuxConfig;
use crate::tls::{ClientTls, ServerTls};
use crate::udp::UdpIo;
use crate::udp_port::Queue;
use crate::{
    BindError, BoxFuture, Carrier, DialError, Endpoint, Listener, Transport, TransportKind,
};

/// How to reach a server over KCP.
#[derive(Clone, Debug)]
pub struct KcpDialConfig {
    /// For everything from the name's resolution to the last handshake.
    pub timeout: Duration,
    /// The address of this host to dial from.
    pub local_ip: Option<IpAddr>,
    /// TLS, if the server is to be spoken to in it.
    pub tls: Option<ClientTls>,
    /// A byte to send ahead of TLS. Not sent without TLS.
    pub marker: Option<u8>,
    /// Multiplexing, or one stream.
    pub mux: Option<MuxConfig>,
    /// Error correction as frp has it, which the server has to know of. A server of ours answers
    /// with it or without, as it is spoken to.
    pub has_fec: bool,
    /// A peer that has not been heard of for so long is gone. It is asked for a sign of life from
    /// half of that on.
    pub silence: Duration,
    /// How sessions between Holdfasts are run. `None`: as those with frp.
    pub fast: Option<Fast>,
}

impl Default for KcpDialConfig {
    /// frp's defaults, but without TLS, which is not there by default.
    fn default() -> Self {
        Self {
            timeout: DEFAULT_TIMEOUT,
            local_ip: None,
            tls: None,
            marker: None,
            mux: Some(MuxConfig::default()),
            has_fec: true,
            silence: DEFAULT_SILENCE,
            fast: None,
        }
    }
}

/// How to listen for clients over KCP.
#[derive(Clone, Debug)]
pub struct KcpListenConfig {
    /// TLS, for clients that begin it.
    pub tls: Option<ServerTls>,
    /// Refuses clients that do not begin TLS.
    pub force_tls: bool,
    /// A first byte that announces TLS and is not part of it.
    pub marker: Option<u8>,
    /// Multiplexing, or one stream.
    pub mux: Option<MuxConfig>,
    /// Bounds for sessions that have not logged in. Beyond them a first datagram is dropped, and
    /// sent again by its client: nobody waits here.
    pub limits: HalfOpenLimits,
    /// From the first datagram to the first bytes that make sense: a handshake's.
    pub first_bytes_timeout: Duration,
    /// From the first datagram to the login: all handshakes are part of it.
    pub login_timeout: Duration,
    /// As with [`KcpDialConfig::silence`].
    pub silence: Duration,
    /// As with [`KcpDialConfig::fast`].
    pub fast: Option<Fast>,
}

impl Default for KcpListenConfig {
    /// frp's defaults, but without TLS, which needs a certificate.
    fn default() -> Self {
        Self {
            tls: None,
            force_tls: false,
            marker: None,
            mux: Some(MuxConfig::default()),
            limits: DEFAULT_LIMITS,
            first_bytes_timeout: DEFAULT_FIRST_BYTES_TIMEOUT,
            login_timeout: DEFAULT_TIMEOUT,
            silence: DEFAULT_SILENCE,
            fast: None,
        }
    }
}

/// Listens on a socket that QUIC uses too, see [`udp_port`](crate::udp_port).
pub(crate) fn listen_beside_quic(
    io: Arc<UdpIo>,
    queue: Arc<Queue>,
    addr: SocketAddr,
    config: KcpListenConfig,
) -> Box<dyn Listener> {
    let socket = socket::UdpSocket::beside_quic(io, queue);
    Box::new(listen::KcpListener::on(socket, addr, Arc::new(config)))
}

/// The KCP transport: of a client, which dials, or of a server, which listens.
#[derive(Clone, Debug)]
pub struct KcpTransport {
    dial: Arc<KcpDialConfig>,
    listen: Arc<KcpListenConfig>,
}

impl KcpTransport {
    /// Creates a client's transport. It can listen as well, with the defaults.
    pub fn dialer(config: KcpDialConfig) -> Self {
        Self {
            dial: Arc::new(config),
            listen: Arc::default(),
        }
    }

    /// Creates a server's transport. It can dial as well, with the defaults.
    pub fn listener(config: KcpListenConfig) -> Self {
        Self {
            dial: Arc::default(),
            listen: Arc::new(config),
        }
    }
}

impl Transport for KcpTransport {
    fn kind(&self) -> TransportKind {
        TransportKind::Kcp
    }

    fn dial<'a>(
        &'a self,
        server: &'a Endpoint,
    ) -> BoxFuture<'a, Result<Arc<dyn Carrier>, DialError>> {
        Box::pin(dial::dial(&self.dial, server))
    }

    fn bind(&self, addr: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Listener>, BindError>> {
        Box::pin(async move {
            let listener = listen::KcpListener::bind(addr, Arc::clone(&self.listen))?;
            Ok(Box::new(listener) as Box<dyn Listener>)
        })
    }
}

/// Returns how streams are multiplexed over KCP. What was lost several times holds everything behind
/// it up for as many round trips, and a stream whose window is used up meanwhile stands still. So
/// between Holdfasts windows may grow further than frp's; only those do that need it.
fn with_room(mux: Option<&MuxConfig>, fast: Option<&Fast>) -> Option<MuxConfig> {
    let mut mux = mux.cloned()?;
    if fast.is_some() {
        mux.max_window = mux.max_window.max(MAX_STREAM_WINDOW);
    }
    Some(mux)
}

/// Segments with copies before it is known who the peer is: TLS, the login, the first proxies. They
/// cost 80 KB at most.
const N_EARLY: u32 = 64;

/// frp's `transport.dialServerTimeout`, and as long for a client to log in.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// What frp's control waits for a heartbeat by default. Without multiplexing frp's work connections
/// wait for ever.
const DEFAULT_SILENCE: Duration = Duration::from_secs(90);

/// Time for the first bytes: a client that is there has sent them again several times by then.
const DEFAULT_FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(3);

/// A datagram costs its sender nothing and may name any address, so one address gets few places and
/// gets them for a short time, and there are many. A customer's address can be named by others as
/// well: what it gets is enough for as many users at once as a client without multiplexing has.
const DEFAULT_LIMITS: HalfOpenLimits = HalfOpenLimits {
    total: 1024,
    per_address: 8,
    waiting: 0,
    waiting_per_address: 0,
    customers: 1024,
    per_customer: 256,
};

/// How long a session that its user has left goes on sending what was written. Beyond the
/// contract's second, which the user has spent by then.
pub const LINGER: Duration = Duration::from_secs(2);

/// A stream's largest window between Holdfasts, in bytes: 100 Mbit/s for 1.3 s. Half of it is used up
/// before its sender is granted more, and the other half lasts for a segment that on a path of 200 ms
/// is lost twice. At the bound the stream waits.
const MAX_STREAM_WINDOW: u32 = 16 * 1024 * 1024;
