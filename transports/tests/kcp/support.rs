//! Servers, clients and a path between them for the tests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use transports::kcp::{KcpDialConfig, KcpListenConfig, KcpTransport};
use transports::tls::{ClientTlsConfig, ServerCertificate, ServerTlsConfig, self_signed};
use transports::{
    BoxStream, Carrier, CarrierError, DialError, Endpoint, Incoming, Listener, Transport,
};

/// Long enough for anything that works. A test that waits for it has failed.
pub const LONG: Duration = Duration::from_secs(30);

/// A server on a loopback port.
pub struct Server {
    pub listener: Box<dyn Listener>,
}

impl Server {
    pub async fn start(config: KcpListenConfig) -> Self {
        let transport = KcpTransport::listener(config);
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
    pub async fn pair(&self, client: KcpDialConfig) -> Pair {
        self.pair_over(self.addr(), client).await
    }

    pub async fn pair_over(&self, addr: SocketAddr, client: KcpDialConfig) -> Pair {
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

    /// Sends so many bytes from the client to the server and back, and checks them.
    pub async fn carries(&self, len: usize) {
        let (ours, theirs) = self.stream().await;
        let (mut our_read, mut our_write) = tokio::io::split(ours);
        let (mut their_read, mut their_write) = tokio::io::split(theirs);
        let echoing = tokio::spawn(async move {
            tokio::io::copy(&mut their_read, &mut their_write)
                .await
                .unwrap();
            their_write.shutdown().await.unwrap();
        });
        let sent = numbered(len);
        let sending = sent.clone();
        let writing = tokio::spawn(async move {
            our_write.write_all(&sending).await.unwrap();
            our_write.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        timeout(2 * LONG, our_read.read_to_end(&mut received))
            .await
            .expect("everything comes back in time")
            .unwrap();
        assert!(received == sent);
        writing.await.unwrap();
        echoing.await.unwrap();
    }
}

pub async fn dial(addr: SocketAddr, config: KcpDialConfig) -> Result<Arc<dyn Carrier>, DialError> {
    let endpoint = Endpoint {
        host: addr.ip().to_string(),
        port: addr.port(),
    };
    let transport = KcpTransport::dialer(config);
    let dialled = timeout(2 * LONG, transport.dial(&endpoint)).await;
    dialled.expect("a dial has its own timeout")
}

pub async fn closed(carrier: &Arc<dyn Carrier>) -> CarrierError {
    let closed = timeout(LONG, carrier.closed()).await;
    closed.expect("the carrier is closed")
}

/// A client that trusts everybody.
pub fn client() -> KcpDialConfig {
    KcpDialConfig {
        tls: Some(ClientTlsConfig::default().build().unwrap()),
        marker: Some(MARKER),
        timeout: LONG,
        ..KcpDialConfig::default()
    }
}

/// A client without TLS.
pub fn plain_client() -> KcpDialConfig {
    KcpDialConfig {
        tls: None,
        ..client()
    }
}

/// A server with a self-signed certificate.
pub fn server() -> KcpListenConfig {
    let tls = ServerTlsConfig {
        certificate: ServerCertificate::Pair(self_signed().unwrap()),
        trusted_ca: None,
    };
    KcpListenConfig {
        tls: Some(tls.build().unwrap()),
        marker: Some(MARKER),
        login_timeout: LONG,
        ..KcpListenConfig::default()
    }
}

const MARKER: u8 = 0x17;

/// Bytes that are not the same anywhere near.
pub fn numbered(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut bytes = Vec::with_capacity(len + 4);
    while bytes.len() < len {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The seed of a test, printed so that it can be set again.
#[expect(clippy::print_stdout, reason = "to run it again")]
pub fn seed() -> u64 {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(rand::random);
    println!("SEED={seed}");
    seed
}

/// No datagram from a server that only acknowledges a client's first words is longer.
const LONGEST_ACK: usize = 150;

/// A path to a server that loses datagrams.
pub struct Path {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    far: Arc<UdpSocket>,
    forwarding: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    loss_pct: AtomicU64,
    is_mute: AtomicBool,
    /// Datagrams from the server with more than acknowledgements in them that are still to be lost.
    n_long_to_lose: AtomicU64,
    /// Bytes that came from the client and from the server.
    n_from_client: AtomicU64,
    n_from_server: AtomicU64,
    random: Mutex<StdRng>,
}

impl Shared {
    fn loses_from_server(&self, len: usize) -> bool {
        let one_less = |n: u64| n.checked_sub(1);
        let n_long = &self.n_long_to_lose;
        let is_long = len > LONGEST_ACK;
        let order = Ordering::Relaxed;
        self.is_mute.load(order)
            || (is_long && n_long.fetch_update(order, order, one_less).is_ok())
            || self.loses()
    }

    fn loses(&self) -> bool {
        let loss_pct = self.loss_pct.load(Ordering::Relaxed);
        self.random.lock().random_range(0..100) < loss_pct
    }
}

impl Path {
    pub async fn to(server: SocketAddr, seed: u64) -> Self {
        let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        far.connect(server).await.unwrap();
        let far = Arc::new(far);
        let addr = near.local_addr().unwrap();
        let shared = Arc::new(Shared {
            loss_pct: AtomicU64::new(0),
            is_mute: AtomicBool::new(false),
            n_long_to_lose: AtomicU64::new(0),
            n_from_client: AtomicU64::new(0),
            n_from_server: AtomicU64::new(0),
            random: Mutex::new(StdRng::seed_from_u64(seed)),
        });
        let forwarding = tokio::spawn(forward(near, Arc::clone(&far), Arc::clone(&shared)));
        Self {
            addr,
            shared,
            far,
            forwarding: forwarding.abort_handle(),
        }
    }

    pub fn set_loss_pct(&self, loss_pct: u64) {
        self.shared.loss_pct.store(loss_pct, Ordering::Relaxed);
    }

    /// From here on the client hears nothing.
    pub fn mute_server(&self) {
        self.shared.is_mute.store(true, Ordering::Relaxed);
    }

    /// The next `n` datagrams from the server with more than acknowledgements in them get lost.
    pub fn lose_long(&self, n: u64) {
        self.shared.n_long_to_lose.store(n, Ordering::Relaxed);
    }

    pub fn n_from_client(&self) -> u64 {
        self.shared.n_from_client.load(Ordering::Relaxed)
    }

    pub fn n_from_server(&self) -> u64 {
        self.shared.n_from_server.load(Ordering::Relaxed)
    }

    /// From here on the path leads to another server, which sees the same client.
    pub async fn lead_to(&self, server: SocketAddr) {
        self.far.connect(server).await.unwrap();
    }

    pub fn cut(&self) {
        self.forwarding.abort();
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        self.forwarding.abort();
    }
}

async fn forward(near: UdpSocket, far: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut client = None;
    let (mut up, mut down) = ([0; 2048], [0; 2048]);
    loop {
        tokio::select! {
            received = near.recv_from(&mut up) => if let Ok((len, from)) = received {
                client = Some(from);
                shared.n_from_client.fetch_add(len as u64, Ordering::Relaxed);
                if !shared.loses() {
                    far.send(&up[..len]).await.ok();
                }
            },
            received = far.recv(&mut down) => if let (Ok(len), Some(client)) = (received, client) {
                shared.n_from_server.fetch_add(len as u64, Ordering::Relaxed);
                if !shared.loses_from_server(len) {
                    near.send_to(&down[..len], client).await.ok();
                }
            },
        }
    }
}
