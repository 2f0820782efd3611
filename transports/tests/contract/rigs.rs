//! Ways to make the two ends of a carrier.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use transports::info::{Admission, CarrierInfo};
use transports::kcp::{Fast, KcpDialConfig, KcpListenConfig, KcpTransport};
use transports::memory::MemoryTransport;
use transports::mux::{MuxCarrier, MuxConfig, Role};
use transports::quic::{QuicDialConfig, QuicListenConfig, QuicTransport, Windows};
use transports::single::SingleCarrier;
use transports::tcp::{TcpDialConfig, TcpListenConfig, TcpTransport};
use transports::tls::{
    ClientTls, ClientTlsConfig, ServerCertificate, ServerTls, ServerTlsConfig, self_signed,
};
use transports::udp_port;
use transports::websocket::{WebsocketDialConfig, WebsocketTransport};
use transports::{
    BindError, BoxFuture, Carrier, DialError, Endpoint, Listener, Transport, TransportKind,
};

use crate::fixed;

/// The two ends of a carrier, and what is around them.
pub struct Ends {
    pub client: Arc<dyn Carrier>,
    pub server: Arc<dyn Carrier>,
    /// Breaks the path between them.
    pub cut: Box<dyn FnOnce() + Send>,
    /// Whether the client can open a stream without sending anything on it.
    pub announces_streams: bool,
    /// Must live as long as the carriers.
    _listener: Option<Box<dyn Listener>>,
}

pub async fn memory() -> Ends {
    let ends = memory_stranger().await;
    ends.server.admit();
    ends
}

pub async fn memory_stranger() -> Ends {
    in_memory(MemoryTransport::new()).await
}

pub async fn memory_with_extras() -> Ends {
    in_memory(MemoryTransport::new().with_keys().with_datagrams()).await
}

pub async fn memory_single() -> Ends {
    in_memory(MemoryTransport::single_stream()).await
}

pub async fn mux_over_a_pipe() -> Ends {
    let ends = mux_stranger().await;
    ends.server.admit();
    ends
}

pub async fn mux_stranger() -> Ends {
    let (client, server, cut) = pipe();
    let config = MuxConfig::default();
    Ends {
        client: MuxCarrier::start(client, Role::Client, &config, info(false)),
        server: MuxCarrier::start(server, Role::Server, &config, info(true)),
        cut,
        announces_streams: true,
        _listener: None,
    }
}

pub async fn single_over_a_pipe() -> Ends {
    let (client, server, cut) = pipe();
    Ends {
        client: SingleCarrier::start(client, info(false)),
        server: SingleCarrier::start(server, info(true)),
        cut,
        announces_streams: true,
        _listener: None,
    }
}

pub async fn tcp_plain() -> Ends {
    admitted(over_tcp(None, Some(MuxConfig::default())).await)
}

/// A listener hands a carrier out when its client has spoken, and a client with one stream does so
/// on its stream. So that both ends are there at once, the sockets are connected by hand.
pub async fn single_over_sockets() -> Ends {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, cut) = cuttable_to(listener.local_addr().unwrap()).await;
    let client = TcpStream::connect(addr).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    Ends {
        client: SingleCarrier::start(client, info(false)),
        server: SingleCarrier::start(server, info(true)),
        cut,
        announces_streams: true,
        _listener: None,
    }
}

pub async fn tcp_tls() -> Ends {
    admitted(tcp_tls_stranger().await)
}

pub async fn tcp_tls_stranger() -> Ends {
    over_tcp(Some(tls()), Some(MuxConfig::default())).await
}

pub async fn tcp_tls_single() -> Ends {
    admitted(over_tcp(Some(tls()), None).await)
}

fn admitted(ends: Ends) -> Ends {
    ends.server.admit();
    ends
}

/// The settings of both ends: a self-signed certificate that is not verified, frp's default.
fn tls() -> (ClientTls, ServerTls) {
    let certificate = ServerCertificate::Pair(self_signed().unwrap());
    let server = ServerTlsConfig {
        certificate,
        trusted_ca: None,
    };
    (
        ClientTlsConfig::default().build().unwrap(),
        server.build().unwrap(),
    )
}

pub async fn websocket() -> Ends {
    admitted(websocket_stranger().await)
}

pub async fn websocket_stranger() -> Ends {
    over_websocket(None, Tls::None, Some(MuxConfig::default())).await
}

pub async fn websocket_single() -> Ends {
    admitted(over_websocket(None, Tls::None, None).await)
}

/// TLS inside the WebSocket.
pub async fn websocket_tls() -> Ends {
    admitted(over_websocket(Some(tls()), Tls::Inside, Some(MuxConfig::default())).await)
}

pub async fn websocket_tls_single() -> Ends {
    admitted(over_websocket(Some(tls()), Tls::Inside, None).await)
}

/// TLS around the WebSocket.
pub async fn wss() -> Ends {
    admitted(over_websocket(Some(tls()), Tls::Outside, Some(MuxConfig::default())).await)
}

pub async fn wss_single() -> Ends {
    admitted(over_websocket(Some(tls()), Tls::Outside, None).await)
}

/// Where a client of a WebSocket has its TLS.
enum Tls {
    None,
    Inside,
    Outside,
}

async fn over_websocket(
    tls: Option<(ClientTls, ServerTls)>,
    place: Tls,
    mux: Option<MuxConfig>,
) -> Ends {
    let (client_tls, server_tls) = tls.unzip();
    let (inner_tls, outer_tls) = match place {
        Tls::Outside => (None, client_tls),
        _ => (client_tls, None),
    };
    let dialer = WebsocketTransport::dialer(WebsocketDialConfig {
        tcp: TcpDialConfig {
            tls: inner_tls,
            mux: mux.clone(),
            ..TcpDialConfig::default()
        },
        outer_tls,
        path: WEBSOCKET_PATH,
    });
    over_sockets(&dialer, server_tls, mux).await
}

const WEBSOCKET_PATH: &str = "/test";

async fn over_tcp(tls: Option<(ClientTls, ServerTls)>, mux: Option<MuxConfig>) -> Ends {
    let (client_tls, server_tls) = tls.unzip();
    let dialer = TcpTransport::dialer(TcpDialConfig {
        tls: client_tls,
        mux: mux.clone(),
        ..TcpDialConfig::default()
    });
    over_sockets(&dialer, server_tls, mux).await
}

async fn over_sockets(
    dialer: &dyn Transport,
    server_tls: Option<ServerTls>,
    mux: Option<MuxConfig>,
) -> Ends {
    let is_websocket = dialer.kind() != TransportKind::Tcp;
    let listener = TcpTransport::listener(TcpListenConfig {
        tls: server_tls,
        mux,
        websocket_path: is_websocket.then_some(WEBSOCKET_PATH),
        ..TcpListenConfig::default()
    });
    let listener = listener
        .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .unwrap();
    let (addr, cut) = cuttable_to(listener.local_addr()).await;
    let server = Endpoint {
        host: addr.ip().to_string(),
        port: addr.port(),
    };
    let client = dialer.dial(&server).await.unwrap();
    let server = listener.accept().await.unwrap().carrier;
    assert_eq!([client.kind(), server.kind()], [dialer.kind(); 2]);
    Ends {
        client,
        server,
        cut,
        announces_streams: true,
        _listener: Some(listener),
    }
}

const SOCKET_BUFFER_LEN: usize = 64 * 1024;

/// An address that leads to `server`, until it is cut: then both sides are reset.
async fn cuttable_to(server: SocketAddr) -> (SocketAddr, Box<dyn FnOnce() + Send>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (cut, mut is_cut) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(server).await.unwrap();
        // Or else the system might take more than the promises send.
        for socket in [&client, &server] {
            let socket = socket2::SockRef::from(socket);
            socket.set_recv_buffer_size(SOCKET_BUFFER_LEN).unwrap();
            socket.set_send_buffer_size(SOCKET_BUFFER_LEN).unwrap();
        }
        let copying = tokio::io::copy_bidirectional(&mut client, &mut server);
        tokio::select! {
            _ = copying => is_cut.close(),
            Ok(()) = &mut is_cut => {
                for socket in [&client, &server] {
                    socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
                }
            }
        }
    });
    (addr, Box::new(move || _ = cut.send(())))
}

pub async fn quic() -> Ends {
    admitted(quic_stranger().await)
}

pub async fn quic_stranger() -> Ends {
    over_quic(QuicTransport::dialer, QuicTransport::listener).await
}

/// A listener for both on one port, of which KCP's part has been dropped.
pub async fn quic_beside_kcp() -> Ends {
    admitted(over_quic(QuicTransport::dialer, BesideKcp).await)
}

#[derive(Debug)]
struct BesideKcp(QuicListenConfig);

impl Transport for BesideKcp {
    fn kind(&self) -> TransportKind {
        TransportKind::Quic
    }

    fn dial<'a>(&'a self, _: &'a Endpoint) -> BoxFuture<'a, Result<Arc<dyn Carrier>, DialError>> {
        unreachable!("it listens")
    }

    fn bind(&self, addr: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Listener>, BindError>> {
        let bound = udp_port::bind(addr, self.0.clone(), KcpListenConfig::default());
        Box::pin(async { Ok(bound?.quic) })
    }
}

#[cfg(feature = "s2n")]
pub use with_s2n::*;

/// The second implementation of QUIC, alone and against the first.
#[cfg(feature = "s2n")]
mod with_s2n {
    use transports::s2n::{S2nSending, S2nTransport};

    use super::*;

    pub async fn s2n() -> Ends {
        admitted(s2n_stranger().await)
    }

    pub async fn s2n_stranger() -> Ends {
        silently(over_quic(s2n_dialer, s2n_listener).await)
    }

    pub async fn s2n_to_quinn() -> Ends {
        admitted(s2n_to_quinn_stranger().await)
    }

    pub async fn s2n_to_quinn_stranger() -> Ends {
        silently(over_quic(s2n_dialer, QuicTransport::listener).await)
    }

    pub async fn quinn_to_s2n() -> Ends {
        admitted(quinn_to_s2n_stranger().await)
    }

    pub async fn quinn_to_s2n_stranger() -> Ends {
        over_quic(QuicTransport::dialer, s2n_listener).await
    }

    fn s2n_dialer(config: QuicDialConfig) -> S2nTransport {
        S2nTransport::dialer(config, S2nSending::default())
    }

    fn s2n_listener(config: QuicListenConfig) -> S2nTransport {
        S2nTransport::listener(config, S2nSending::default())
    }

    fn silently(ends: Ends) -> Ends {
        Ends {
            announces_streams: false,
            ..ends
        }
    }
}

async fn over_quic<D: Transport, L: Transport>(
    dialer: impl FnOnce(QuicDialConfig) -> D,
    listener: impl FnOnce(QuicListenConfig) -> L,
) -> Ends {
    // Smaller than what the promises send, and patient with a busy machine.
    let windows = Windows {
        stream: 1024 * 1024,
        ..Windows::default()
    };
    let (client_tls, server_tls) = tls();
    let listener = listener(QuicListenConfig {
        idle_timeout: QUIC_IDLE,
        windows,
        ..QuicListenConfig::new(server_tls, b"test")
    });
    let listener = listener
        .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .unwrap();
    let (addr, cut) = cuttable_udp_to(listener.local_addr()).await;
    let dialer = dialer(QuicDialConfig {
        idle_timeout: QUIC_IDLE,
        windows,
        ..QuicDialConfig::new(client_tls, b"test")
    });
    let server = Endpoint {
        host: addr.ip().to_string(),
        port: addr.port(),
    };
    let client = dialer.dial(&server).await.unwrap();
    let server = listener.accept().await.unwrap().carrier;
    Ends {
        client,
        server,
        cut,
        announces_streams: true,
        _listener: Some(listener),
    }
}

pub async fn kcp_plain() -> Ends {
    admitted(over_kcp(None, Some(kcp_mux()), None, false).await)
}

pub async fn kcp_tls() -> Ends {
    admitted(kcp_tls_stranger().await)
}

pub async fn kcp_tls_stranger() -> Ends {
    over_kcp(Some(tls()), Some(kcp_mux()), None, false).await
}

pub async fn kcp_tls_single() -> Ends {
    admitted(over_kcp(Some(tls()), None, None, false).await)
}

/// A listener for both on one port, of which QUIC's part has been dropped.
pub async fn kcp_beside_quic() -> Ends {
    admitted(over_kcp(Some(tls()), Some(kcp_mux()), None, true).await)
}

/// Two ends that know each other for what they are.
pub async fn kcp_holdfast() -> Ends {
    let fast = fixed::at_rate(50_000_000);
    let ends = admitted(over_kcp(Some(tls()), Some(kcp_mux()), Some(fast), false).await);
    ends.client.handle_holdfast_peer();
    ends.server.handle_holdfast_peer();
    // Each has to hear of the other that it takes datagrams.
    let mut ours = ends.client.open_stream().await.unwrap();
    ours.write_all(b"?").await.unwrap();
    let mut theirs = ends.server.accept_stream().await.unwrap().unwrap();
    while !(ends.client.wants_copies() && ends.server.wants_copies()) {
        theirs.write_all(b"!").await.unwrap();
        ours.read_u8().await.unwrap();
        ours.write_all(b"?").await.unwrap();
        theirs.read_u8().await.unwrap();
    }
    ends
}

/// Nothing else shows that the path is cut, and without TLS it is the first thing that is sent.
fn kcp_mux() -> MuxConfig {
    MuxConfig {
        keepalive_interval: Duration::from_secs(1),
        keepalive_timeout: KCP_SILENCE,
        ..MuxConfig::default()
    }
}

/// After this long without a packet a KCP carrier is given up.
const KCP_SILENCE: Duration = Duration::from_secs(5);

async fn over_kcp(
    tls: Option<(ClientTls, ServerTls)>,
    mux: Option<MuxConfig>,
    fast: Option<Fast>,
    is_beside_quic: bool,
) -> Ends {
    let (client_tls, server_tls) = tls.unzip();
    let config = KcpListenConfig {
        tls: server_tls,
        mux: mux.clone(),
        silence: KCP_SILENCE,
        fast: fast.clone(),
        ..KcpListenConfig::default()
    };
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = if is_beside_quic {
        let quic = QuicListenConfig::new(self::tls().1, b"test");
        udp_port::bind(any, quic, config).unwrap().kcp
    } else {
        KcpTransport::listener(config).bind(any).await.unwrap()
    };
    let (addr, cut) = cuttable_udp_to(listener.local_addr()).await;
    let dialer = KcpTransport::dialer(KcpDialConfig {
        tls: client_tls,
        mux,
        silence: KCP_SILENCE,
        fast,
        ..KcpDialConfig::default()
    });
    let server = Endpoint {
        host: addr.ip().to_string(),
        port: addr.port(),
    };
    let client = dialer.dial(&server).await.unwrap();
    let server = listener.accept().await.unwrap().carrier;
    assert_eq!([client.kind(), server.kind()], [TransportKind::Kcp; 2]);
    Ends {
        client,
        server,
        cut,
        announces_streams: true,
        _listener: Some(listener),
    }
}

/// After this long without a packet a QUIC carrier is given up.
const QUIC_IDLE: Duration = Duration::from_secs(5);

/// An address that leads to `server` over UDP, until it is cut: then nothing arrives any more.
/// The server sees one address, whatever becomes of the client's.
async fn cuttable_udp_to(server: SocketAddr) -> (SocketAddr, Box<dyn FnOnce() + Send>) {
    let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for socket in [&near, &far] {
        let socket = socket2::SockRef::from(socket);
        socket.set_recv_buffer_size(4 * 1024 * 1024).unwrap();
    }
    far.connect(server).await.unwrap();
    let addr = near.local_addr().unwrap();
    let forwarding = tokio::spawn(async move {
        let mut client = None;
        let (mut up, mut down) = ([0; 2048], [0; 2048]);
        loop {
            tokio::select! {
                received = near.recv_from(&mut up) => if let Ok((len, from)) = received {
                    client = Some(from);
                    far.send(&up[..len]).await.ok();
                },
                received = far.recv(&mut down) => if let (Ok(len), Some(client)) = (received, client) {
                    near.send_to(&down[..len], client).await.ok();
                },
            }
        }
    });
    (addr, Box::new(move || forwarding.abort()))
}

async fn in_memory(transport: MemoryTransport) -> Ends {
    let listener = transport
        .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .unwrap();
    let server = Endpoint {
        host: "localhost".into(),
        port: listener.local_addr().port(),
    };
    let client = transport.dial(&server).await.unwrap();
    let server = listener.accept().await.unwrap().carrier;
    let cut = Box::new(move || transport.lose_all());
    Ends {
        client,
        server,
        cut,
        announces_streams: true,
        _listener: Some(listener),
    }
}

/// A byte stream that can be cut in the middle: two pipes and a task that copies between them.
/// The pipes are smaller than any window.
fn pipe() -> (Cuttable, Cuttable, Box<dyn FnOnce() + Send>) {
    let (client, mut middle_client) = duplex(PIPE_LEN);
    let (mut middle_server, server) = duplex(PIPE_LEN);
    let copying: JoinHandle<_> = tokio::spawn(async move {
        tokio::io::copy_bidirectional(&mut middle_client, &mut middle_server).await
    });
    let cut = Arc::new(AtomicBool::new(false));
    let client = Cuttable {
        io: client,
        is_cut: Arc::clone(&cut),
    };
    let server = Cuttable {
        io: server,
        is_cut: Arc::clone(&cut),
    };
    let cut = Box::new(move || {
        cut.store(true, Ordering::SeqCst);
        copying.abort();
    });
    (client, server, cut)
}

const PIPE_LEN: usize = 16 * 1024;

/// One end of the pipe, which says reset instead of end once it is cut.
struct Cuttable {
    io: DuplexStream,
    is_cut: Arc<AtomicBool>,
}

impl Cuttable {
    fn check<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match result {
            Poll::Ready(_) if self.is_cut.load(Ordering::SeqCst) => {
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
            result => result,
        }
    }
}

impl AsyncRead for Cuttable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_read(cx, buf);
        self.check(result)
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, buf);
        self.check(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_flush(cx);
        self.check(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_shutdown(cx);
        self.check(result)
    }
}

fn info(is_stranger: bool) -> CarrierInfo {
    let mut info = CarrierInfo::new(TransportKind::Tcp, SocketAddr::from(([127, 0, 0, 1], 7000)));
    if is_stranger {
        info.admission = Some(Box::new(NoPlace));
    }
    info
}

/// A place among half-open carriers that nobody else waits for.
struct NoPlace;

impl Admission for NoPlace {
    fn admit(&self) {}
}
