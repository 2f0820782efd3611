//! Servers, clients and a path between them for the tests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use transports::quic::{QuicDialConfig, QuicListenConfig};
use transports::tls::{
    ClientTlsConfig, PemPair, ServerCertificate, ServerTls, ServerTlsConfig, self_signed,
};
use transports::{
    BoxStream, Carrier, CarrierError, DialError, Endpoint, Incoming, Listener, Transport,
};

use crate::backend;

/// Long enough for anything that works. A test that waits for it has failed.
pub const LONG: Duration = Duration::from_secs(20);

/// A server on a loopback port.
pub struct Server {
    pub listener: Box<dyn Listener>,
}

impl Server {
    pub async fn start(config: QuicListenConfig) -> Self {
        let transport = backend::listener(config);
        let addr = "127.0.0.1:0".parse().unwrap();
        let listener = transport.bind(addr).await.unwrap();
        Self { listener }
    }

    pub fn addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    pub async fn accept(&self) -> Incoming {
        let accepted = timeout(LONG, self.listener.accept()).await;
        accepted.expect("somebody comes in").unwrap()
    }

    /// Connects a client and admits it.
    pub async fn pair(&self, client: QuicDialConfig) -> Pair {
        self.pair_over(self.addr(), client).await
    }

    pub async fn pair_over(&self, addr: SocketAddr, client: QuicDialConfig) -> Pair {
        let client = dial(addr, client).await.unwrap();
        let server = self.accept().await.carrier;
        server.admit();
        Pair { client, server }
    }
}

/// Both ends of a connection.
pub struct Pair {
    pub client: Arc<dyn Carrier>,
    pub server: Arc<dyn Carrier>,
}

impl Pair {
    /// A stream that the client has opened, at both ends.
    pub async fn stream(&self) -> (BoxStream, BoxStream) {
        let mut ours = self.client.open_stream().await.unwrap();
        ours.flush().await.unwrap();
        let theirs = timeout(LONG, self.server.accept_stream()).await;
        (ours, theirs.unwrap().unwrap().unwrap())
    }

    /// Shows that both ends hear each other.
    pub async fn works(&self) {
        let (mut ours, mut theirs) = self.stream().await;
        let talk = async {
            ours.write_all(b"?").await.unwrap();
            assert_eq!(theirs.read_u8().await.unwrap(), b'?');
            theirs.write_all(b"!").await.unwrap();
            assert_eq!(ours.read_u8().await.unwrap(), b'!');
        };
        timeout(LONG, talk).await.unwrap();
    }
}

pub async fn dial(addr: SocketAddr, config: QuicDialConfig) -> Result<Arc<dyn Carrier>, DialError> {
    dial_host(&addr.ip().to_string(), addr.port(), config).await
}

pub async fn dial_host(
    host: &str,
    port: u16,
    config: QuicDialConfig,
) -> Result<Arc<dyn Carrier>, DialError> {
    let endpoint = Endpoint {
        host: host.into(),
        port,
    };
    let transport = backend::dialer(config);
    let dialled = timeout(2 * LONG, transport.dial(&endpoint)).await;
    dialled.expect("a dial has its own timeout")
}

/// Waits until `is_so`, of which nothing tells.
pub async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(3 * LONG, waiting).await.is_ok(), "not yet: {what}");
}

pub async fn closed(carrier: &Arc<dyn Carrier>) -> CarrierError {
    let closed = timeout(LONG, carrier.closed()).await;
    closed.expect("the carrier is closed")
}

/// A client that trusts everybody.
pub fn client() -> QuicDialConfig {
    client_with(&ClientTlsConfig::default())
}

pub fn client_with(tls: &ClientTlsConfig) -> QuicDialConfig {
    QuicDialConfig {
        timeout: LONG,
        ..QuicDialConfig::new(tls.build().unwrap(), ALPN)
    }
}

/// A server with a self-signed certificate.
pub fn server() -> QuicListenConfig {
    server_with(server_tls(self_signed().unwrap()))
}

pub fn server_with(tls: ServerTls) -> QuicListenConfig {
    QuicListenConfig {
        login_timeout: LONG,
        ..QuicListenConfig::new(tls, ALPN)
    }
}

pub fn server_tls(pair: PemPair) -> ServerTls {
    let config = ServerTlsConfig {
        certificate: ServerCertificate::Pair(pair),
        trusted_ca: None,
    };
    config.build().unwrap()
}

pub const ALPN: &[u8] = b"test";

/// Bytes that are not the same anywhere near.
pub fn numbered(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()
    });
    words.flatten().take(len).collect()
}

/// A way to a server that can be made worse.
pub struct Path {
    pub addr: SocketAddr,
    state: Arc<PathState>,
    forwarding: AbortHandle,
}

struct PathState {
    server: Mutex<SocketAddr>,
    is_server_silent: AtomicBool,
    is_client_silent: AtomicBool,
    loss_percent: AtomicU64,
    n_retries: AtomicUsize,
    n_silenced: AtomicUsize,
    n_arrived: AtomicUsize,
}

impl Path {
    pub async fn to(server: SocketAddr) -> Self {
        let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addr = near.local_addr().unwrap();
        let state = Arc::new(PathState {
            server: Mutex::new(server),
            is_server_silent: AtomicBool::default(),
            is_client_silent: AtomicBool::default(),
            loss_percent: AtomicU64::default(),
            n_retries: AtomicUsize::default(),
            n_silenced: AtomicUsize::default(),
            n_arrived: AtomicUsize::default(),
        });
        let forwarding = tokio::spawn(forward(near, far, Arc::clone(&state)));
        Self {
            addr,
            state,
            forwarding: forwarding.abort_handle(),
        }
    }

    /// Nothing arrives from the server any more.
    pub fn silence_server(&self) {
        self.state.is_server_silent.store(true, Ordering::SeqCst);
    }

    /// Nothing arrives at the server any more.
    pub fn silence_client(&self) {
        self.state.is_client_silent.store(true, Ordering::SeqCst);
    }

    /// What is sent arrives again, both ways.
    pub fn let_speak(&self) {
        self.state.is_server_silent.store(false, Ordering::SeqCst);
        self.state.is_client_silent.store(false, Ordering::SeqCst);
    }

    /// Packets of the client's that did not arrive since it was silenced.
    pub fn n_silenced(&self) -> usize {
        self.state.n_silenced.load(Ordering::SeqCst)
    }

    /// Packets of the client's that have arrived at the server.
    pub fn n_arrived(&self) -> usize {
        self.state.n_arrived.load(Ordering::SeqCst)
    }

    /// Leads to another server from now on.
    pub fn lead_to(&self, server: SocketAddr) {
        *self.state.server.lock() = server;
    }

    /// Of every hundred packets so many are lost, both ways.
    pub fn lose(&self, percent: u64) {
        self.state.loss_percent.store(percent, Ordering::SeqCst);
    }

    /// Retry packets that the server has sent.
    pub fn n_retries(&self) -> usize {
        self.state.n_retries.load(Ordering::SeqCst)
    }

    /// Closes the sockets: the system refuses what arrives.
    pub fn tear_down(&self) {
        self.forwarding.abort();
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        self.tear_down();
    }
}

async fn forward(near: UdpSocket, far: UdpSocket, state: Arc<PathState>) {
    let mut client = None;
    let (mut up, mut down) = ([0; 2048], [0; 2048]);
    let mut random = 1_u64;
    let mut is_lost = |state: &PathState| {
        // Knuth's MMIX generator; its upper bits are good enough for dice.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % 100 < state.loss_percent.load(Ordering::SeqCst)
    };
    loop {
        tokio::select! {
            received = near.recv_from(&mut up) => {
                let Ok((len, from)) = received else { continue };
                client = Some(from);
                if state.is_client_silent.load(Ordering::SeqCst) {
                    state.n_silenced.fetch_add(1, Ordering::SeqCst);
                } else if !is_lost(&state) {
                    let server = *state.server.lock();
                    far.send_to(&up[..len], server).await.ok();
                    state.n_arrived.fetch_add(1, Ordering::SeqCst);
                }
            }
            received = far.recv(&mut down) => {
                let (Ok(len), Some(client)) = (received, client) else { continue };
                if down[0] & RETRY == RETRY {
                    state.n_retries.fetch_add(1, Ordering::SeqCst);
                }
                if !state.is_server_silent.load(Ordering::SeqCst) && !is_lost(&state) {
                    near.send_to(&down[..len], client).await.ok();
                }
            }
        }
    }
}

/// The long header's bits of a Retry packet (RFC 9000 section 17.2.5).
const RETRY: u8 = 0xf0;
