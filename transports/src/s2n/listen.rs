//! Takes clients' connections and makes carriers of them.
//!
//! s2n-quic runs the handshakes itself and hands a connection out when its own is done, so the
//! bounds for half-open connections are in two parts: for handshakes they are the endpoint's, and
//! from then to the login each connection has its [place](crate::half_open).

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use s2n_quic::{Connection, Server};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::carrier::S2nCarrier;
use super::{S2nSending, endpoint};
use crate::half_open::HalfOpen;
use crate::quic::QuicListenConfig;
use crate::quic::shared::canonical;
use crate::udp;
use crate::{BindError, BoxFuture, Incoming, Listener, ListenerClosed, TransportKind};

/// A bound address, and the task that accepts on it.
pub(super) struct S2nListener {
    local_addr: SocketAddr,
    incoming: tokio::sync::Mutex<mpsc::Receiver<Incoming>>,
    /// Dropping it ends the accepting.
    _accepting: oneshot::Sender<()>,
}

impl S2nListener {
    /// Binds `addr` and begins to accept.
    pub(super) fn bind(
        addr: SocketAddr,
        config: Arc<QuicListenConfig>,
        sending: S2nSending,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError {
            transport: TransportKind::Quic,
            addr,
            source,
        };
        let socket = udp::listen(addr).map_err(failed)?;
        let half_open = HalfOpen::new(config.limits);
        let server = endpoint::server(&config, sending, Arc::clone(&half_open), socket.into())
            .map_err(failed)?;
        let local_addr = server.local_addr().map_err(failed)?;
        let (ready, incoming) = mpsc::channel(MAX_READY);
        let opener = Arc::new(Opener {
            half_open,
            config,
            ready,
        });
        let (accepting, stopped) = oneshot::channel();
        tokio::spawn(accept_all(server, opener, stopped));
        Ok(Self {
            local_addr,
            incoming: tokio::sync::Mutex::new(incoming),
            _accepting: accepting,
        })
    }
}

impl Listener for S2nListener {
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

impl fmt::Debug for S2nListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S2nListener")
            .field("local_addr", &self.local_addr)
            .finish_non_exhaustive()
    }
}

/// Accepts until the listener is dropped. The endpoint stays for the connections that are open.
async fn accept_all(mut server: Server, opener: Arc<Opener>, mut stopped: oneshot::Receiver<()>) {
    let mut opening = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            connection = server.accept() => match connection {
                Some(connection) => {
                    opening.spawn(Arc::clone(&opener).open(connection));
                }
                None => return,
            },
            Some(outcome) = opening.join_next() => {
                if outcome.is_err_and(|e| e.is_panic()) {
                    metrics::counter!("holdfast_task_panics_total").increment(1);
                    tracing::error!("a task that opened a connection has panicked");
                }
            }
        }
    }
}

/// Makes carriers of what comes in.
struct Opener {
    config: Arc<QuicListenConfig>,
    half_open: Arc<HalfOpen>,
    ready: mpsc::Sender<Incoming>,
}

impl Opener {
    async fn open(self: Arc<Self>, mut connection: Connection) {
        let Ok(peer) = connection.remote_addr().map(canonical) else {
            return;
        };
        // Turned down while it waited for its place: dropping it tells the client.
        let Some(place) = self.half_open.enter(peer.ip()).place().await else {
            return;
        };
        let deadline = Instant::now() + self.config.login_timeout;
        let has_keepalive = !self.config.keepalive_interval.is_zero();
        if connection.keep_alive(has_keepalive).is_err() {
            return;
        }
        let idle_timeout = self.config.idle_timeout;
        let admission = Some(Box::new(place) as _);
        let incoming = Incoming {
            carrier: S2nCarrier::start(connection, peer, idle_timeout, admission, ()),
            login_deadline: deadline.into_std(),
        };
        // When nobody takes carriers for so long, this one could not log in any more.
        let _ = timeout_at(deadline, self.ready.send(incoming)).await;
    }
}

/// Carriers that are open and not yet taken. They hold their places meanwhile, so a few are enough
/// to keep the taker busy.
const MAX_READY: usize = 16;
