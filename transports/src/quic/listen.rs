//! Takes clients' connections and makes carriers of them.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{ConnectionError, Endpoint, EndpointConfig, ServerConfig};
use quinn_proto::{ConnectionId, ConnectionIdGenerator, HashedConnectionIdGenerator, InvalidCid};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout_at};

use super::carrier::{QuicCarrier, Start};
use super::first_packet::Beginning;
use super::settings::{STRANGER_STREAMS, Settings, varint};
use super::shared::canonical;
use super::socket::UdpSocket;
use super::{QuicListenConfig, is_tls_failure};
use crate::half_open::{Entry, HalfOpen};
use crate::log_limit::LogLimit;
use crate::udp::UdpIo;
use crate::udp_port::Queue;
use crate::udp_port::sort::may_begin_id;
use crate::{BindError, BoxFuture, Incoming, Listener, ListenerClosed, TransportKind};

/// A bound address, and the task that accepts on it.
pub(super) struct QuicListener {
    local_addr: SocketAddr,
    incoming: tokio::sync::Mutex<mpsc::Receiver<Incoming>>,
    /// Dropping it ends the accepting.
    _accepting: oneshot::Sender<()>,
}

impl QuicListener {
    /// Binds `addr` and begins to accept.
    pub(super) fn bind(addr: SocketAddr, config: Arc<QuicListenConfig>) -> Result<Self, BindError> {
        let failed = |source| BindError {
            transport: TransportKind::Quic,
            addr,
            source,
        };
        let socket = UdpSocket::listen(addr).map_err(failed)?;
        let endpoint_config = endpoint_config(config.tls.reset_secret());
        Self::on(socket, addr, config, endpoint_config)
    }

    /// Begins to accept on a socket that KCP uses too.
    pub(super) fn beside_kcp(
        io: Arc<UdpIo>,
        queue: Arc<Queue>,
        addr: SocketAddr,
        config: Arc<QuicListenConfig>,
    ) -> Result<Self, BindError> {
        let socket = UdpSocket::beside_kcp(io, queue);
        let endpoint_config = endpoint_config(config.tls.reset_secret());
        Self::on(socket, addr, config, endpoint_config)
    }

    fn on(
        socket: Arc<UdpSocket>,
        addr: SocketAddr,
        config: Arc<QuicListenConfig>,
        endpoint_config: EndpointConfig,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError {
            transport: TransportKind::Quic,
            addr,
            source,
        };
        let tls = QuicServerConfig::try_from(config.tls.for_quic(&config.alpn))
            .map_err(|e| failed(io::Error::other(e)))?;
        let mut server = ServerConfig::with_crypto(Arc::new(Beginning::new(tls)));
        server
            .max_incoming(MAX_INCOMING)
            .incoming_buffer_size(MAX_BUFFERED)
            .incoming_buffer_size_total(MAX_BUFFERED_IN_ALL);

        let endpoint = Endpoint::new_with_abstract_socket(
            endpoint_config,
            Some(server.clone()),
            socket,
            Arc::new(quinn::TokioRuntime),
        )
        .map_err(failed)?;
        let local_addr = endpoint.local_addr().map_err(failed)?;

        let (ready, incoming) = mpsc::channel(MAX_READY);
        let opener = Arc::new(Opener {
            half_open: HalfOpen::new(config.limits),
            refusals: LogLimit::default(),
            local_addr,
            config,
            server,
            ready,
        });
        let (accepting, stopped) = oneshot::channel();
        tokio::spawn(async move {
            accept_all(&endpoint, opener, stopped).await;
            refuse_all(&endpoint).await;
        });
        Ok(Self {
            local_addr,
            incoming: tokio::sync::Mutex::new(incoming),
            _accepting: accepting,
        })
    }
}

impl Listener for QuicListener {
    fn accept(&self) -> BoxFuture<'_, Result<Incoming, ListenerClosed>> {
        Box::pin(async {
            let mut incoming = self.incoming.lock().await;
            incoming.recv().await.ok_or(ListenerClosed)
        })
    }

    fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

impl fmt::Debug for QuicListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicListener")
            .field("local_addr", &self.local_addr)
            .finish_non_exhaustive()
    }
}

/// Makes packets for connections of an earlier run of this server be answered with a stateless
/// reset that their clients believe (RFC 9000 section 10.3), so that these connect again at once
/// and not after the idle timeout. For that the keys of the tokens and of the connection ids have
/// to be the same as then.
fn endpoint_config(secret: [u8; 32]) -> EndpointConfig {
    let reset_key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    let id_key = hmac::sign(&reset_key, b"connection ids");
    let id_key = id_key.as_ref().first_chunk().copied().unwrap_or_default();
    let id_key = u64::from_le_bytes(id_key);
    let mut config = EndpointConfig::new(Arc::new(reset_key));
    config.cid_generator(move || Box::new(Ids(HashedConnectionIdGenerator::from_key(id_key))));
    config
}

/// Gives out connection ids by which packets can be told from KCP's, on whichever port.
struct Ids(HashedConnectionIdGenerator);

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        // Six values of 256 are KCP's, and each try is as good as the first.
        loop {
            let id = self.0.generate_cid();
            if may_begin_id(&id) {
                return id;
            }
        }
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        self.0.validate(id)
    }

    fn cid_len(&self) -> usize {
        self.0.cid_len()
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        self.0.cid_lifetime()
    }
}

/// Accepts until the listener is dropped, which ends the connections that are being opened too.
async fn accept_all(endpoint: &Endpoint, opener: Arc<Opener>, mut stopped: oneshot::Receiver<()>) {
    let mut opening = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => Arc::clone(&opener).receive(incoming, &mut opening),
                None => return,
            },
            Some(outcome) = opening.join_next() => note_outcome(outcome),
        }
    }
}

/// Keeps the socket for the connections that are open, and turns new ones down until the last of
/// them is gone.
async fn refuse_all(endpoint: &Endpoint) {
    loop {
        tokio::select! {
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => incoming.refuse(),
                None => return,
            },
            () = endpoint.wait_idle() => return,
        }
    }
}

fn note_outcome(outcome: Result<(), JoinError>) {
    if outcome.is_err_and(|e| e.is_panic()) {
        metrics::counter!("holdfast_task_panics_total").increment(1);
        tracing::error!("a task that opened a connection has panicked; the others go on");
    }
}

/// Makes carriers of what comes in.
struct Opener {
    config: Arc<QuicListenConfig>,
    server: ServerConfig,
    local_addr: SocketAddr,
    half_open: Arc<HalfOpen>,
    refusals: LogLimit,
    ready: mpsc::Sender<Incoming>,
}

impl Opener {
    /// Lets a connection in, or has its sender show first that the address is its own.
    ///
    /// While few are half-open nobody is asked for that, since it costs a round trip. With many,
    /// addresses may be forged to fill the places, so none is given to an address that has not
    /// been shown to be true.
    fn receive(self: Arc<Self>, incoming: quinn::Incoming, opening: &mut JoinSet<()>) {
        let is_crowded = self.half_open.n_taken().max(opening.len()) >= RETRY_FROM;
        if is_crowded && !incoming.remote_address_validated() {
            metrics::counter!("holdfast_quic_retries_total").increment(1);
            // It cannot fail: who has not been validated may be asked.
            let _ = incoming.retry();
            return;
        }
        let entry = self.half_open.enter(incoming.remote_address().ip());
        opening.spawn(self.open(incoming, entry));
    }

    /// Sees a connection from its first packet to the carrier that is handed out, or to its end.
    async fn open(self: Arc<Self>, incoming: quinn::Incoming, entry: Entry) {
        // Turned down while it waited for its place: dropping it tells the client.
        let Some(place) = entry.place().await else {
            return;
        };
        let deadline = Instant::now() + self.config.login_timeout;
        let peer = canonical(incoming.remote_address());
        let settings = Settings {
            idle_timeout: self.config.idle_timeout,
            max_streams: STRANGER_STREAMS.min(varint(self.config.max_incoming_streams)),
            windows: self.config.windows.of_stranger(),
            congestion: &self.config.congestion,
        };
        let (transport, delivery) = settings.build();
        let mut server = self.server.clone();
        server.transport_config(Arc::new(transport));

        let handshake = async { incoming.accept_with(Arc::new(server))?.await };
        let outcome = match timeout_at(deadline, handshake).await {
            Ok(outcome) => outcome.map_err(Refusal::Failed),
            Err(_) => Err(Refusal::Silent),
        };
        let connection = match outcome {
            Ok(connection) => connection,
            Err(refusal) => {
                self.note_refusal(&refusal, peer);
                if refusal.lingers() {
                    sleep(LINGER).await;
                }
                return;
            }
        };
        let start = Start {
            connection,
            delivery,
            windows: self.config.windows,
            keepalive_interval: self.config.keepalive_interval,
            idle_timeout: self.config.idle_timeout,
            max_streams: varint(self.config.max_incoming_streams),
            bound: self.local_addr,
        };
        let incoming = Incoming {
            carrier: QuicCarrier::accepted(start, Box::new(place)),
            login_deadline: deadline.into_std(),
        };
        // When nobody takes carriers for so long, this one could not log in any more.
        let _ = timeout_at(deadline, self.ready.send(incoming)).await;
    }

    fn note_refusal(&self, refusal: &Refusal, peer: SocketAddr) {
        metrics::counter!("holdfast_rejected_total", "cause" => refusal.cause()).increment(1);
        match refusal {
            Refusal::Failed(error) if is_tls_failure(error) => {
                if self.refusals.allows() {
                    tracing::warn!("QUIC handshake with {peer}: {error}");
                }
            }
            Refusal::Failed(error) => tracing::debug!(%peer, "connection ended at once: {error}"),
            Refusal::Silent => tracing::debug!(%peer, "connection without a login in time"),
        }
    }
}

/// Why no carrier came of a connection.
#[derive(Debug)]
enum Refusal {
    /// The handshake was not done in time.
    Silent,
    /// The handshake failed.
    Failed(ConnectionError),
}

impl Refusal {
    /// Whether quinn keeps the connection for a moment more, to know late packets of it. Each takes
    /// 20 KiB. The place is kept as long, so that they are no more than there are places.
    fn lingers(&self) -> bool {
        use ConnectionError::{ApplicationClosed, ConnectionClosed};
        matches!(
            self,
            Self::Failed(ApplicationClosed(_) | ConnectionClosed(_))
        )
    }

    fn cause(&self) -> &'static str {
        match self {
            Self::Silent => "no login in time",
            Self::Failed(error) if is_tls_failure(error) => "TLS handshake",
            Self::Failed(_) => "ended early",
        }
    }
}

/// Three times the probe timeout (RFC 9000 section 10.2) of a connection whose round trip is not known yet,
/// which is half a second here, and as much again for one that is known to be long.
const LINGER: Duration = Duration::from_secs(1);

/// Half-open connections from which on a client has to show that its address is its own.
const RETRY_FROM: usize = 50;

/// First packets that wait to be looked at. Looking is quick, so these are a moment's worth; those
/// beyond are refused.
const MAX_INCOMING: usize = 2048;

/// What a connection that waits for its place may send meanwhile: its first packets again.
const MAX_BUFFERED: u64 = 16 * 1024;

/// The same for all of them together.
const MAX_BUFFERED_IN_ALL: u64 = 8 * 1024 * 1024;

/// Carriers that are open and not yet taken. They hold their places meanwhile, so a few are enough
/// to keep the taker busy.
const MAX_READY: usize = 16;
