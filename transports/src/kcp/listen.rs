//! Takes clients' sessions and makes carriers of them.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};

use super::endpoint::{Doorkeeper, Endpoint, Newcomer};
use super::io::{Calls, KcpIo, Shared};
use super::member::{Farewell, Policy};
use super::socket::{MAX_BUFFERS, UdpSocket};
use super::table::Table;
use super::{KcpListenConfig, with_room};
use crate::half_open::{HalfOpen, Place};
use crate::info::{Admission, CarrierInfo};
use crate::mux::Role;
use crate::tcp::{Layers, Refusal, TcpListenConfig, put_back, start_carrier};
use crate::{BindError, BoxFuture, Incoming, Listener, ListenerClosed, TransportKind, udp};

/// A bound address, and the task that makes carriers.
pub(super) struct KcpListener {
    local_addr: SocketAddr,
    incoming: tokio::sync::Mutex<mpsc::Receiver<Incoming>>,
    accepting: AbortHandle,
    calls: Arc<Calls>,
}

impl KcpListener {
    /// Binds `addr` and begins to accept.
    pub(super) fn bind(addr: SocketAddr, config: Arc<KcpListenConfig>) -> Result<Self, BindError> {
        let bound = udp::listen(addr)
            .and_then(|socket| UdpSocket::new(socket, MAX_BUFFERS))
            .and_then(|socket| Ok((socket.local_addr()?, socket)));
        let (local_addr, socket) = bound.map_err(|source| BindError {
            transport: TransportKind::Kcp,
            addr,
            source,
        })?;
        Ok(Self::on(socket, local_addr, config))
    }

    /// Begins to accept on a socket that is bound.
    pub(super) fn on(
        socket: UdpSocket,
        local_addr: SocketAddr,
        config: Arc<KcpListenConfig>,
    ) -> Self {
        let (door, newcomers) = mpsc::channel(MAX_NEWCOMERS);
        let endpoint = Endpoint::listening(
            socket,
            Doorkeeper {
                half_open: HalfOpen::new(config.limits),
                door,
                policy: Policy {
                    silence: config.silence,
                    fast: config.fast.clone(),
                    farewell: Farewell::Said,
                },
                table: Table::default(),
            },
        );
        let calls = endpoint.calls();
        tokio::spawn(endpoint);

        let (ready, incoming) = mpsc::channel(MAX_READY);
        let opener = Arc::new(Opener {
            layers: Layers::new(&TcpListenConfig {
                tls: config.tls.clone(),
                force_tls: config.force_tls,
                marker: config.marker,
                ..TcpListenConfig::default()
            }),
            local_addr,
            config,
            ready,
        });
        let accepting = tokio::spawn(accept_all(newcomers, opener));
        Self {
            local_addr,
            incoming: tokio::sync::Mutex::new(incoming),
            accepting: accepting.abort_handle(),
            calls,
        }
    }
}

impl Listener for KcpListener {
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

impl Drop for KcpListener {
    /// The socket stays for the sessions that are open.
    fn drop(&mut self) {
        self.accepting.abort();
        self.calls.wake();
    }
}

impl fmt::Debug for KcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KcpListener")
            .field("local_addr", &self.local_addr)
            .finish_non_exhaustive()
    }
}

/// Accepts until the listener is dropped, which ends the sessions that are being opened too.
async fn accept_all(mut newcomers: mpsc::Receiver<Newcomer>, opener: Arc<Opener>) {
    let mut opening = JoinSet::new();
    loop {
        tokio::select! {
            newcomer = newcomers.recv() => match newcomer {
                Some(newcomer) => _ = opening.spawn(opener.clone().open(newcomer)),
                None => return,
            },
            Some(outcome) = opening.join_next() => note_outcome(outcome),
        }
    }
}

fn note_outcome(outcome: Result<(), JoinError>) {
    if outcome.is_err_and(|e| e.is_panic()) {
        metrics::counter!("holdfast_task_panics_total").increment(1);
        tracing::error!("a task that opened a session has panicked; the others go on");
    }
}

/// Makes carriers of sessions.
struct Opener {
    config: Arc<KcpListenConfig>,
    layers: Layers,
    local_addr: SocketAddr,
    ready: mpsc::Sender<Incoming>,
}

impl Opener {
    /// Sees a session from its first datagram to the carrier that is handed out, or to its end.
    async fn open(self: Arc<Self>, newcomer: Newcomer) {
        let now = Instant::now();
        let deadline = now + self.config.login_timeout;
        let first_deadline = deadline.min(now + self.config.first_bytes_timeout);
        let Newcomer {
            mut io,
            shared,
            peer,
            local_ip,
            place,
        } = newcomer;
        let peer = canonical(peer);
        let local_ip = local_ip.unwrap_or(self.local_addr.ip());
        let info = CarrierInfo {
            local_addr: Some(canonical((local_ip, self.local_addr.port()).into())),
            admission: Some(Box::new(KcpPlace { place, shared })),
            path: Some(io.path()),
            abort: Some(io.abort_switch()),
            ..CarrierInfo::new(TransportKind::Kcp, peer)
        };
        let first = match timeout_at(first_deadline, read_first(&mut io)).await {
            Ok(Ok(first)) => first,
            Ok(Err(error)) => return self.layers.note_refusal(&Refusal::Io(error), peer),
            Err(_) => return self.layers.note_refusal(&Refusal::Silent, peer),
        };
        let taking_off = self.layers.take_off(put_back(&first, Box::new(io)), info);
        let outcome = match timeout_at(deadline, taking_off).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Refusal::Silent),
        };
        let (io, info) = match outcome {
            Ok(opened) => opened,
            Err(refusal) => return self.layers.note_refusal(&refusal, peer),
        };
        let mux = with_room(self.config.mux.as_ref(), self.config.fast.as_ref());
        let incoming = Incoming {
            carrier: start_carrier(io, mux.as_ref(), Role::Server, info),
            login_deadline: deadline.into_std(),
        };
        // When nobody takes carriers for so long, this one could not log in any more.
        let _ = timeout_at(deadline, self.ready.send(incoming)).await;
    }
}

/// Waits for the first byte: whoever has sent a first segment has that.
async fn read_first(io: &mut KcpIo) -> io::Result<[u8; 1]> {
    let mut first = [0];
    io.read_exact(&mut first).await?;
    Ok(first)
}

/// A stranger's place, and the session that may grow when it is one no more.
struct KcpPlace {
    place: Place,
    shared: Arc<Shared>,
}

impl Admission for KcpPlace {
    fn admit(&self) {
        self.place.admit();
        self.shared.admit();
    }
}

/// An IPv4 address as such, also on a socket for both families.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// New sessions that nobody has begun with. As many as in frp, and those beyond are dropped there
/// as well: their clients send again.
const MAX_NEWCOMERS: usize = 128;

/// Carriers that are open and not yet taken. They hold their places meanwhile, so a few are enough
/// to keep the taker busy.
const MAX_READY: usize = 16;
