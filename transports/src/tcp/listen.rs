//! Takes clients' connections and makes carriers of them.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};

use super::accept::Acceptor;
use super::io::TcpIo;
use super::layers::{Layers, Refusal};
use super::{TcpListenConfig, bind, options, start_carrier};
use crate::half_open::{Entry, HalfOpen};
use crate::info::CarrierInfo;
use crate::mux::Role;
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
            layers: Layers::new(&config),
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
    layers: Layers,
    half_open: Arc<HalfOpen>,
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
        let mut info = CarrierInfo {
            local_addr: socket.local_addr().ok().map(canonical),
            admission: Some(Box::new(place)),
            ..CarrierInfo::new(TransportKind::Tcp, peer)
        };
        options::apply(&socket, self.config.keepalive, &self.config.sending);

        let tcp = TcpIo::new(socket, &self.config.sending);
        info.abort = Some(tcp.abort_switch());
        info.path = Some(tcp.path());
        let taking_off = self.layers.take_off(Box::new(tcp), info);
        let outcome = match timeout_at(deadline, taking_off).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Refusal::Silent),
        };
        let (io, info) = match outcome {
            Ok(opened) => opened,
            Err(refusal) => return self.layers.note_refusal(&refusal, peer),
        };
        let incoming = Incoming {
            carrier: start_carrier(io, self.config.mux.as_ref(), Role::Server, info),
            login_deadline: deadline.into_std(),
        };
        // When nobody takes carriers for so long, this one could not log in any more.
        let _ = timeout_at(deadline, self.ready.send(incoming)).await;
    }
}

/// An IPv4 address as such, also on a socket for both families.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Carriers that are open and not yet taken. They hold their places meanwhile, so a few are enough
/// to keep the taker busy.
const MAX_READY: usize = 16;
