//! Takes clients' connections and makes carriers of them.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};

use super::accept::Acceptor;
use super::io::{TcpIo, put_back};
use super::preface::{MAX_PREFIX_LEN, Opening, Rules};
use super::{TcpListenConfig, bind, options, start_carrier};
use crate::half_open::{Entry, HalfOpen};
use crate::info::{CarrierInfo, Io};
use crate::log_limit::LogLimit;
use crate::mux::Role;
use crate::websocket::{self, AcceptError};
use crate::{BindError, BoxFuture, Incoming, Listener, ListenerClosed, TransportKind};

/// A bound address, and the task that accepts on it.
pub(super) struct TcpListener {
    local_addr: SocketAddr,
    incoming: tokio::sync::Mutex<mpsc::Receiver<Incoming>>,
    accepting: AbortHandle,
}

impl TcpListener {
    /// Binds `addr` and begins to accept.
    pub(super) fn bind(addr: SocketAddr, config: Arc<TcpListenConfig>) -> Result<Self, BindError> {
        let bound = bind::listen(addr).and_then(|socket| Ok((socket.local_addr()?, socket)));
        let (local_addr, socket) = bound.map_err(|source| BindError {
            transport: TransportKind::Tcp,
            addr,
            source,
        })?;
        let (ready, incoming) = mpsc::channel(MAX_READY);
        let opener = Arc::new(Opener {
            half_open: HalfOpen::new(config.limits),
            rules: LayerRules::new(&config),
            refusals: LogLimit::default(),
            config,
            ready,
        });
        let accepting = tokio::spawn(accept_all(Acceptor::new(socket, "tcp"), opener));
        Ok(Self {
            local_addr,
            incoming: tokio::sync::Mutex::new(incoming),
            accepting: accepting.abort_handle(),
        })
    }
}

impl Listener for TcpListener {
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

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListener")
            .field("local_addr", &self.local_addr)
            .finish_non_exhaustive()
    }
}

/// Accepts until the listener is dropped, which ends the connections that are being opened too.
async fn accept_all(mut acceptor: Acceptor, opener: Arc<Opener>) {
    let mut opening = JoinSet::new();
    loop {
        tokio::select! {
            (socket, peer) = acceptor.accept() => {
                let entry = opener.half_open.enter(peer.ip());
                opening.spawn(opener.clone().open(socket, peer, entry));
            }
            Some(outcome) = opening.join_next() => note_outcome(outcome),
        }
    }
}

fn note_outcome(outcome: Result<(), JoinError>) {
    if outcome.is_err_and(|e| e.is_panic()) {
        metrics::counter!("holdfast_task_panics_total").increment(1);
        tracing::error!("a task that opened a connection has panicked; the others go on");
    }
}

/// Makes carriers of accepted connections.
struct Opener {
    config: Arc<TcpListenConfig>,
    rules: LayerRules,
    half_open: Arc<HalfOpen>,
    refusals: LogLimit,
    ready: mpsc::Sender<Incoming>,
}

impl Opener {
    /// Sees a connection from its accept to the carrier that is handed out, or to its end.
    async fn open(self: Arc<Self>, socket: TcpStream, peer: SocketAddr, entry: Entry) {
        // Closed while it waited for its place: it is dropped as soon as it is read.
        let Some(place) = entry.place().await else {
            return;
        };
        let deadline = Instant::now() + self.config.login_timeout;
        let info = CarrierInfo {
            local_addr: socket.local_addr().ok().map(canonical),
            admission: Some(Box::new(place)),
            ..CarrierInfo::new(TransportKind::Tcp, peer)
        };
        options::apply(&socket, self.config.keepalive);

        let outcome = match timeout_at(deadline, self.handshake(socket, info)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Refusal::Silent),
        };
        let (io, info) = match outcome {
            Ok(opened) => opened,
            Err(refusal) => return self.note_refusal(&refusal, peer),
        };
        let incoming = Incoming {
            carrier: start_carrier(io, self.config.mux.as_ref(), Role::Server, info),
            login_deadline: deadline.into_std(),
        };
        // When nobody takes carriers for so long, this one could not log in any more.
        let _ = timeout_at(deadline, self.ready.send(incoming)).await;
    }

    /// Takes layer after layer off a connection, each told by its first bytes, and runs the
    /// handshake of each.
    async fn handshake(
        &self,
        socket: TcpStream,
        mut info: CarrierInfo,
    ) -> Result<(Box<dyn Io>, CarrierInfo), Refusal> {
        let tcp = TcpIo::new(socket);
        info.abort = Some(tcp.abort_switch());
        let mut io: Box<dyn Io> = Box::new(tcp);
        let mut has_tls = false;
        let mut next_rules = Some(&self.rules.outermost);
        while let Some(rules) = next_rules {
            let (opening, preface) = rules.read(&mut io).await.map_err(Refusal::Io)?;
            io = put_back(preface.bytes(), io);
            next_rules = match (opening, &self.config.tls, self.config.websocket_path) {
                (Opening::Tls { .. }, Some(tls), _) => {
                    let stream = tls.accept(io).await.map_err(Refusal::Tls)?;
                    info.exporter = Some(Arc::new(stream.exporter()));
                    io = Box::new(stream);
                    has_tls = true;
                    let is_outermost = info.kind == TransportKind::Tcp;
                    self.rules.in_tls.as_ref().filter(|_| is_outermost)
                }
                (Opening::Websocket, _, Some(path)) => {
                    let stream = websocket::accept(io, path).await?;
                    info.kind = if has_tls {
                        TransportKind::Wss
                    } else {
                        TransportKind::Websocket
                    };
                    io = Box::new(stream);
                    self.rules.in_websocket.as_ref().filter(|_| !has_tls)
                }
                _ => None,
            };
        }
        if self.config.force_tls && !has_tls {
            return Err(Refusal::NotTls);
        }
        Ok((io, info))
    }

    fn note_refusal(&self, refusal: &Refusal, peer: SocketAddr) {
        metrics::counter!("holdfast_rejected_total", "cause" => refusal.cause()).increment(1);
        match refusal {
            Refusal::Silent => tracing::debug!(%peer, "connection without a login in time"),
            Refusal::Io(error) => tracing::debug!(%peer, "connection ended at once: {error}"),
            _ if !self.refusals.allows() => {}
            // The words that frp logs, for those who look for them.
            Refusal::NotTls => tracing::warn!(
                "checkAndEnableTLSServerConnWithTimeout error: \
                 non-TLS connection received on a TlsOnly server"
            ),
            Refusal::Tls(error) => tracing::warn!("TLS handshake with {peer}: {error}"),
            Refusal::Upgrade(problem) => {
                tracing::warn!("websocket upgrade of {peer} refused: {problem}");
            }
        }
    }
}

/// Why no carrier came of a connection.
#[derive(Debug)]
enum Refusal {
    /// It did not get through the first bytes and the handshake in time.
    Silent,
    /// It ended in the first bytes.
    Io(io::Error),
    /// It does not begin TLS, and must.
    NotTls,
    /// The TLS handshake failed.
    Tls(io::Error),
    /// It asked for a WebSocket in a way that is not granted, and has been told so.
    Upgrade(&'static str),
}

impl Refusal {
    fn cause(&self) -> &'static str {
        match self {
            Self::Silent => "no login in time",
            Self::Io(_) => "ended early",
            Self::NotTls => "not TLS",
            Self::Tls(_) => "TLS handshake",
            Self::Upgrade(_) => "websocket upgrade",
        }
    }
}

impl From<AcceptError> for Refusal {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Io(error) => Self::Io(error),
            AcceptError::Refused(problem) => Self::Upgrade(problem),
        }
    }
}

/// What frp's connections begin with, layer by layer. `None` where nothing is told apart, and so
/// nothing has to be read.
struct LayerRules {
    outermost: Rules,
    /// Inside TLS there is a WebSocket at the most.
    in_tls: Option<Rules>,
    /// Inside a WebSocket there is TLS at the most.
    in_websocket: Option<Rules>,
}

impl LayerRules {
    fn new(config: &TcpListenConfig) -> Self {
        let with_tls = |mut rules: Rules| {
            if let Some(marker) = config.marker {
                rules = rules.with(&[marker], Opening::Tls { is_marked: true });
            }
            rules.with(&[TLS_HANDSHAKE], Opening::Tls { is_marked: false })
        };
        // The first byte tells it from all that frp sends inside TLS, which begins with 0, with a
        // small letter of a message, or with the F of wire v2.
        let with_websocket = |rules: Rules, path| {
            let mut prefix = format!("GET {path}").into_bytes();
            prefix.truncate(MAX_PREFIX_LEN);
            rules.with(&prefix, Opening::Websocket)
        };
        let mut outermost = Rules::default();
        if let Some(path) = config.websocket_path {
            outermost = with_websocket(outermost, path);
        }
        if config.tls.is_some() {
            outermost = with_tls(outermost);
        }
        Self {
            outermost,
            in_tls: (config.websocket_path).map(|path| with_websocket(Rules::default(), path)),
            in_websocket: config.tls.is_some().then(|| with_tls(Rules::default())),
        }
    }
}

/// An IPv4 address as such, also on a socket for both families.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// The first byte of every TLS connection: a record of type handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// Carriers that are open and not yet taken. They hold their places meanwhile, so a few are enough
/// to keep the taker busy.
const MAX_READY: usize = 16;
