//! Ways to reach the peer, all behind one contract.
//!
//! A [`Transport`] dials or binds; what comes out is a [`Carrier`]: one live connection to one peer
//! with any number of ordered byte [`Stream`]s. Nothing above this crate asks which transport a
//! carrier belongs to, and nothing in it knows frp's messages: what is frp's on the wire below them
//! (the marker byte before TLS, for instance) comes in as configuration.
//!
//! `tests/contract.rs` is the list of promises; every transport runs it.

mod ended;
pub mod fuzzing;
pub mod half_open;
pub mod info;
pub mod kcp;
mod log_limit;
pub mod lossy_control;
pub mod memory;
pub mod mux;
pub mod quic;
mod read_buffer;
#[cfg(feature = "s2n")]
pub mod s2n;
pub mod single;
pub mod socket;
pub mod tcp;
pub mod tls;
mod udp;
pub mod udp_port;
pub mod websocket;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A boxed future, so that the contract stays usable behind `dyn`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A stream of whichever transport.
pub type BoxStream = Box<dyn Stream>;

/// The transports by their configuration names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TransportKind {
    /// TCP, with yamux when multiplexing is on.
    Tcp,
    /// KCP, with yamux when multiplexing is on.
    Kcp,
    /// QUIC, with one of its streams for each of ours.
    Quic,
    /// WebSocket over TCP, TLS being inside of it if there is any.
    Websocket,
    /// WebSocket over TLS over TCP.
    Wss,
    /// In one process, for tests.
    Memory,
}

impl TransportKind {
    /// As it is called in configurations, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Kcp => "kcp",
            Self::Quic => "quic",
            Self::Websocket => "websocket",
            Self::Wss => "wss",
            Self::Memory => "memory",
        }
    }
}

impl fmt::Display for TransportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a server is. TLS settings and outbound proxies belong to the transport that dials.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Host name or IP literal, without brackets. Names are resolved anew at each dial.
    pub host: String,
    /// Port, 1 to 65535.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// One way to reach the peer. Knows sockets and datagrams, and nothing of frp.
pub trait Transport: fmt::Debug + Send + Sync {
    /// Which transport this is, for logs and status.
    fn kind(&self) -> TransportKind;

    /// Opens a carrier to `server`. For TCP and QUIC, `Ok` means that the peer has answered and,
    /// with TLS, that the handshake is done. KCP has no handshake: without TLS, `Ok` means only that
    /// there is a socket, and the first proof of life is the answer to the login.
    fn dial<'a>(
        &'a self,
        server: &'a Endpoint,
    ) -> BoxFuture<'a, Result<Arc<dyn Carrier>, DialError>>;

    /// Binds `addr` for the carriers that clients open.
    fn bind(&self, addr: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Listener>, BindError>>;
}

/// A bound address. Handshakes run beside `accept`, never inside it, and half-open connections are
/// bounded: a silent or hostile peer delays nobody else.
pub trait Listener: fmt::Debug + Send + Sync {
    /// Waits for the next carrier. Cancel safe. Accept errors of the system (no file descriptors,
    /// say) are backed off and counted inside; an `Err` means that the listener is closed for good.
    fn accept(&self) -> BoxFuture<'_, Result<Incoming, ListenerClosed>>;

    /// The address in use; the port is the real one when 0 was asked for.
    fn local_addr(&self) -> SocketAddr;
}

/// A carrier that a client has opened.
#[derive(Debug)]
pub struct Incoming {
    /// The carrier. It is held to the bounds for strangers until [`Carrier::admit`].
    pub carrier: Arc<dyn Carrier>,
    /// When the peer must have proven itself: counted from the accept, with the handshakes in it.
    pub login_deadline: Instant,
}

/// A path to one peer that carries any number of ordered, reliable byte streams.
///
/// Dropping the last reference closes the carrier, and closing it ends every stream of it.
pub trait Carrier: fmt::Debug + Send + Sync {
    /// Which transport this is, for logs and status.
    fn kind(&self) -> TransportKind;

    /// Whether more than one stream can be opened. Without multiplexing a carrier has one stream.
    fn is_multiplexed(&self) -> bool;

    /// Opens a stream. Streams are equal: what one is for, its first message says. The peer learns
    /// of it with the first bytes, or with a flush or a read that wait for none.
    fn open_stream(&self) -> BoxFuture<'_, Result<BoxStream, CarrierError>>;

    /// Waits for the peer to open a stream. `Ok(None)` once the peer has closed the carrier in
    /// good order, or, without multiplexing, after its one stream. Cancel safe.
    fn accept_stream(&self) -> BoxFuture<'_, Result<Option<BoxStream>, CarrierError>>;

    /// Sends one datagram, best effort. `Err(Unsupported)` on transports that have none, and as long
    /// as the peer is not known to take any.
    fn send_datagram(&self, data: Bytes) -> Result<(), DatagramError> {
        drop(data);
        Err(DatagramError::Unsupported)
    }

    /// Sends one datagram that somebody waits for, a copy of what a stream carries: several times
    /// where the path asks for it. It is still best effort.
    fn send_copy(&self, data: Bytes) -> Result<(), DatagramError> {
        self.send_datagram(data)
    }

    /// Whether data that somebody waits for had better go as [copies](Self::send_copy) too, whatever
    /// the path loses: where streams wait for each other's losses, and datagrams for nothing.
    fn wants_copies(&self) -> bool {
        false
    }

    /// Waits for a datagram. `Err(Unsupported)` on transports that have none.
    fn recv_datagram(&self) -> BoxFuture<'_, Result<Bytes, DatagramError>> {
        Box::pin(async { Err(DatagramError::Unsupported) })
    }

    /// Bytes of datagrams that the path has had no room for yet. They go ahead of all streams, so
    /// whoever sends many has to look. `None` on transports that have no datagrams.
    fn unsent_datagrams(&self) -> Option<usize> {
        None
    }

    /// What the path has been like lately. Reads counters and sends nothing.
    fn path_stats(&self) -> PathStats;

    /// Fills `out` with keying material that only the two ends of this carrier know (RFC 5705,
    /// RFC 8446 section 7.5). `Err` on a carrier without TLS.
    fn export_keying_material(
        &self,
        out: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportError>;

    /// The peer has proven itself: lifts the bounds for strangers (streams, windows, the half-open
    /// place). Calling it twice, or on a dialled carrier, does nothing.
    fn admit(&self);

    /// Refuses new streams from either side. Those already open run to their own end, then the
    /// carrier closes.
    fn drain(&self);

    /// Closes the carrier and every stream of it. What was written and flushed before is sent
    /// where the path still takes it, within a second.
    fn close(&self);

    /// The peer is known to be of our own kind, and takes what other implementations of the
    /// transport would not. Each side says so for itself, at its own time. Calling it twice does
    /// nothing, nor does it where the transport has nothing to gain.
    fn handle_holdfast_peer(&self) {}

    /// Both ends are probed from above from here on: the carrier need not ask for signs of life by
    /// itself, nor give up for want of them. Calling it twice does nothing.
    fn handle_watched(&self) {}

    /// Waits until the carrier is closed, by whichever side, and says why. Cancel safe.
    fn closed(&self) -> BoxFuture<'_, CarrierError>;

    /// Waits until a carrier that was [closed](Self::close) here has sent what it had, or will send no
    /// more: a process that ends before takes that with it. Cancel safe.
    fn gone(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.closed().await;
        })
    }

    /// This end's address, where there is one.
    fn local_addr(&self) -> Option<SocketAddr>;

    /// The peer's address: that of the proxy in between, if there is one.
    fn peer_addr(&self) -> SocketAddr;

    /// Follows a change of this host's address without a new handshake, where the transport can.
    fn rebind(&self) -> BoxFuture<'_, Result<(), RebindError>> {
        Box::pin(async { Err(RebindError::Unsupported) })
    }
}

/// One ordered byte stream in each direction. `poll_shutdown` ends the sending half only.
/// Dropping a stream ends both halves: what was written is still sent, nothing more is read.
pub trait Stream: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {
    /// Reads up to `max` bytes as they lie in the receive queue, without copying where that is
    /// possible. An empty chunk is the end of the stream.
    fn poll_read_chunk(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<io::Result<Bytes>> {
        let mut buf = vec![0; max.min(READ_CHUNK_LEN)];
        let mut read_buf = ReadBuf::new(&mut buf);
        match self.as_mut().poll_read(cx, &mut read_buf) {
            Poll::Ready(Ok(())) => {
                let len = read_buf.filled().len();
                buf.truncate(len);
                Poll::Ready(Ok(Bytes::from(buf)))
            }
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Takes a prefix of `chunk` for sending, at least one byte, and advances it; without copying
    /// where that is possible. `chunk` must not be empty.
    fn poll_write_chunk(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        chunk: &mut Bytes,
    ) -> Poll<io::Result<()>> {
        match self.as_mut().poll_write(cx, chunk) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(n)) => {
                chunk.advance(n);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Tells the scheduler what the stream carries. A hint; new streams are [`Class::Bulk`].
    fn set_class(&mut self, class: Class) {
        let _ = class;
    }

    /// Ends both halves at once and drops what has not been sent. The peer sees an error.
    fn reset(&mut self);
}

/// The most that the default [`Stream::poll_read_chunk`] allocates for one read.
const READ_CHUNK_LEN: usize = 16 * 1024;

/// What a stream carries, for the order of sending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The session's own messages: ahead of everything.
    Control,
    /// Small, little in flight: ahead of bulk.
    Interactive,
    /// Everything else; shares what is left evenly.
    #[default]
    Bulk,
}

/// What a path has been like lately. A field is `None` where the transport cannot know it.
#[derive(Clone, Copy, Debug, Default)]
pub struct PathStats {
    /// Smoothed round-trip time.
    pub rtt: Option<Duration>,
    /// Bytes that streams have sent, headers of the multiplexing included.
    pub bytes_sent: u64,
    /// Bytes received likewise.
    pub bytes_received: u64,
    /// Streams open at the moment.
    pub n_streams: usize,
    /// Packets sent, those sent again included.
    pub packets_sent: Option<u64>,
    /// Of these, how many are taken for lost.
    pub packets_lost: Option<u64>,
    /// Of these, how many are known to have arrived. Packets that nobody acknowledges, such as
    /// acknowledgements themselves, are among those sent only.
    pub packets_acked: Option<u64>,
    /// Bytes a second that congestion control lets go, where the carrier has datagrams.
    pub send_rate: Option<u64>,
    /// Bytes that the peer is known to have received, whatever they were for.
    pub acked_bytes: Option<u64>,
    /// Bytes that were sent and of whose arrival nothing is known yet.
    pub in_flight: Option<u64>,
    /// Bytes that congestion control lets be under way at the moment.
    pub window: Option<u64>,
    /// Packets sent before it was known whether they were needed: copies, and parity.
    pub redundant_sent: Option<u64>,
    /// Packets that were lost on their way to this end, and made again from others.
    pub redundant_used: Option<u64>,
    /// Grows with whatever comes that only the peer can have sent, acknowledgements among it where
    /// those are proven.
    pub n_heard: u64,
    /// How often the peer's host has said that nobody listens (ICMP), where the system tells.
    pub n_refused: u64,
    /// The longest packet that is known to get through to the peer, IP headers included.
    pub mtu: Option<u16>,
    /// What sends here is TCP with BBR, which does not take every loss for congestion.
    pub is_bbr: bool,
    /// What sends here is TCP that shares a queue for now, and goes back to BBR as soon as it loses
    /// what no full queue dropped.
    pub adapts_to_loss: bool,
}

impl PathStats {
    /// Whether TCP here takes what a lossy link gives: it does already, or will within a second of
    /// sending. Were a connection that rests judged by what it is now, nobody would try it.
    pub fn bears_loss(&self) -> bool {
        self.is_bbr || self.adapts_to_loss
    }
}

/// Why no carrier came of a dial.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The host name has no address at the moment.
    #[error("cannot resolve {host}: {source}")]
    Resolve {
        /// The name that was asked for.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// No address of the server could be connected to.
    #[error("dial tcp {addr}: {source}")]
    Connect {
        /// The address that was tried last.
        addr: String,
        /// What the system said.
        source: io::Error,
    },
    /// No address of the server answered as it should over UDP.
    #[error("dial udp {addr}: {source}")]
    ConnectUdp {
        /// The address that was tried last.
        addr: String,
        /// What the system or the server said.
        source: io::Error,
    },
    /// The outbound proxy refused, or did not speak its protocol.
    #[error("proxy {proxy}: {reason}")]
    Proxy {
        /// The proxy, without its credentials.
        proxy: String,
        /// What it said or did.
        reason: String,
    },
    /// The TLS handshake failed, the peer's certificate was refused, or ours.
    #[error("TLS handshake with {addr}: {source}")]
    Tls {
        /// The peer.
        addr: String,
        /// What failed.
        source: io::Error,
    },
    /// The server did not upgrade the connection to a WebSocket.
    #[error("websocket upgrade at {addr}: {reason}")]
    Upgrade {
        /// The peer.
        addr: String,
        /// What it said or did.
        reason: String,
    },
    /// The whole dial took longer than allowed.
    #[error("dial {addr}: no answer within {} s", after.as_secs())]
    Timeout {
        /// The endpoint.
        addr: String,
        /// The time allowed.
        after: Duration,
    },
}

/// Why an address could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("listen {transport} {addr}: {source}")]
pub struct BindError {
    /// The transport that was to listen.
    pub transport: TransportKind,
    /// The address that was asked for.
    pub addr: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// The listener accepts no more.
#[derive(Debug, thiserror::Error)]
#[error("the listener is closed")]
pub struct ListenerClosed;

/// Why a carrier, or one operation on it, came to an end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CarrierError {
    /// This side closed it.
    #[error("closed on this side")]
    ClosedHere,
    /// The peer closed it in good order.
    #[error("closed by the peer")]
    ClosedByPeer,
    /// The path broke: reset, TLS alert, unexpected end.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The peer gave no sign of life for this long.
    #[error("no sign of life from the peer within {} s", .0.as_secs())]
    Silent(Duration),
    /// The peer broke the protocol.
    #[error("protocol error by the peer: {0}")]
    Protocol(String),
    /// Only this stream cannot be had: a bound is reached, or the carrier has its one stream.
    /// The carrier lives on.
    #[error("no further stream: {0}")]
    NoStream(&'static str),
}

impl CarrierError {
    /// Whether the whole carrier is gone, rather than one stream refused.
    pub fn is_carrier_lost(&self) -> bool {
        !matches!(self, Self::NoStream(_))
    }
}

/// Why a datagram was not sent or received.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatagramError {
    /// The transport has no datagrams, or the peer is not known to take any yet.
    #[error("this transport has no datagrams")]
    Unsupported,
    /// The datagram is longer than the path takes.
    #[error("datagram too long")]
    TooLong,
    /// The carrier is closed.
    #[error(transparent)]
    Carrier(#[from] CarrierError),
}

/// No keying material can be had from this carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the carrier has no TLS to export keys from")]
pub struct ExportError;

/// Why a carrier did not follow a change of address.
#[derive(Debug, thiserror::Error)]
pub enum RebindError {
    /// The transport needs a new connection.
    #[error("this transport cannot change its address")]
    Unsupported,
    /// The new socket could not be had.
    #[error("cannot rebind: {0}")]
    Io(#[from] io::Error),
}
