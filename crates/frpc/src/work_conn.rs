//! Work conns: opened when frps asks, kept until it names a user, then served.
//!
//! frps decides how many there are, so each stage has a bound: a hostile or broken frps cannot make
//! frpc open conns, or connections to local services, without end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use frp_core::config::ProxyKind;
use frp_core::conn::{ConnError, MessageStream};
use frp_core::hold::flow::Flow;
use frp_core::proto::msg::{Message, NewWorkConn, StartWorkConn};
use frp_core::relay::HalfClose;
use frp_core::session::{OpenError, Session};
use frp_core::task;
use frp_core::transports::BoxStream;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::context::Context;
use crate::proxy::{self, Proxy, ProxySet};

/// Conns being dialled or opened at once. Without multiplexing each is a TCP and TLS handshake.
const MAX_OPENING: usize = 64;

/// For the first message of a conn: a server that takes none must not hold the places of others.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Conns asked for and not yet given a user. frps keeps its pool and one for each user that waits,
/// so a burst of this many users is served.
const MAX_WAITING: usize = 4096;

/// Users served at once.
const MAX_SERVING: usize = 32 * 1024;

/// How frps's refusal of a surplus work conn begins.
const POOL_IS_FULL: &str = "work connection pool is full";

/// The work conns of one session.
#[derive(Debug)]
pub(crate) struct WorkConns {
    context: Arc<Context>,
    session: Arc<Session>,
    proxies: Arc<Mutex<ProxySet>>,
    run_id: String,
    half_close: HalfClose,
    /// Ends the conns that wait when the session ends. Those with a user are cut by the carrier, or
    /// without multiplexing run to their own end.
    session_over: CancellationToken,
    opening: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    serving: Arc<Semaphore>,
    has_complained: AtomicBool,
}

impl WorkConns {
    /// No work conn yet.
    pub(crate) fn new(
        context: Arc<Context>,
        session: Arc<Session>,
        proxies: Arc<Mutex<ProxySet>>,
        run_id: String,
        half_close: HalfClose,
        session_over: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            context,
            session,
            proxies,
            run_id,
            half_close,
            session_over,
            opening: Arc::new(Semaphore::new(MAX_OPENING)),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            serving: Arc::new(Semaphore::new(MAX_SERVING)),
            has_complained: AtomicBool::new(false),
        })
    }

    /// frps has sent ReqWorkConn. Returns at once.
    pub(crate) fn handle_request(self: &Arc<Self>) {
        let Ok(waiting) = self.waiting.clone().try_acquire_owned() else {
            self.refuse("waiting");
            return;
        };
        let this = self.clone();
        task::spawn("work conn", async move {
            let waited = tokio::select! {
                waited = this.open_and_wait() => waited,
                () = this.session_over.cancelled() => return,
            };
            drop(waiting);
            match waited {
                Ok((stream, start)) => {
                    this.context.health.work_conn_opened();
                    this.serve(stream, start).await;
                }
                Err(WorkError::Open(error)) => {
                    this.context.health.work_conn_failed();
                    tracing::warn!("start new connection to server error: {error}");
                }
                // frps asks for more than it keeps whenever many users come at once.
                Err(WorkError::Refused(text)) if text.starts_with(POOL_IS_FULL) => {
                    tracing::debug!("StartWorkConn contains error: {text}");
                }
                Err(WorkError::Refused(text)) => {
                    tracing::error!("StartWorkConn contains error: {text}");
                }
                // frps may close a conn of its pool at any time.
                Err(WorkError::Conn(error)) => {
                    tracing::debug!(
                        "work connection closed before response StartWorkConn message: {error}"
                    );
                }
            }
        });
    }

    /// Opens a conn and waits, for as long as it takes, until frps names a user.
    async fn open_and_wait(&self) -> Result<(MessageStream, StartWorkConn), WorkError> {
        let mut stream = {
            // The semaphore is never closed; were it, opening without a permit would be right.
            let _opening = self.opening.acquire().await;
            let stream = self.session.open_conn().await?;
            let mut stream = MessageStream::open(stream, self.context.wire());
            let patience = WRITE_TIMEOUT + self.session.grace();
            stream
                .write_within(&self.new_work_conn().into(), patience)
                .await?;
            stream
        };
        match stream.read().await? {
            Message::StartWorkConn(start) if start.error.is_empty() => Ok((stream, start)),
            Message::StartWorkConn(start) => Err(WorkError::Refused(start.error)),
            other => Err(ConnError::Unexpected(other.name(), "StartWorkConn").into()),
        }
    }

    fn new_work_conn(&self) -> NewWorkConn {
        let mut message = NewWorkConn {
            run_id: self.run_id.clone(),
            ..NewWorkConn::default()
        };
        if self.context.config.auth.additional_scopes.new_work_conns {
            let (key, timestamp) = self.context.sign_now();
            message.privilege_key = key;
            message.timestamp = timestamp;
        }
        message
    }

    async fn serve(&self, stream: MessageStream, start: StartWorkConn) {
        let Ok(_serving) = self.serving.try_acquire() else {
            self.refuse("serving");
            return;
        };
        let Some(proxy) = self.proxies.lock().find_running(&start.proxy_name) else {
            tracing::debug!(
                "work connection for proxy [{}], which does not run",
                start.proxy_name
            );
            return;
        };
        let span = tracing::info_span!("proxy", proxy = %proxy.config.name);
        let stream = stream.into_stream();
        self.serve_proxy(&proxy, stream, &start)
            .instrument(span)
            .await;
    }

    async fn serve_proxy(&self, proxy: &Arc<Proxy>, stream: BoxStream, start: &StartWorkConn) {
        match proxy.config.kind {
            ProxyKind::Tcp { .. } | ProxyKind::Stcp { .. } => {
                match proxy::tcp::serve(proxy, stream, start, self.half_close).await {
                    Ok(traffic) => tracing::debug!(
                        to_local = traffic.b_to_a,
                        from_local = traffic.a_to_b,
                        "join connections closed{}",
                        traffic
                            .error
                            .map(|error| format!(": {error}"))
                            .unwrap_or_default()
                    ),
                    Err(error) => tracing::warn!("{error}"),
                }
            }
            ProxyKind::Udp { .. } => {
                tracing::info!("incoming a new work connection for udp proxy");
                let udp_packet_size = self.context.config.udp_packet_size;
                let wire = self.context.wire();
                let flow = self.take_flow(proxy, start);
                match proxy::udp::serve(proxy, stream, wire, udp_packet_size, flow).await {
                    Ok(()) => tracing::debug!("work connection for udp proxy is over"),
                    Err(error) => tracing::info!("work connection for udp proxy: {error}"),
                }
            }
        }
    }

    /// The flow that frps has given to this work conn. It gives none to a proxy whose bytes pass a
    /// cipher, compression or a limit; were it to, its datagrams would be unknown here.
    fn take_flow(&self, proxy: &Proxy, start: &StartWorkConn) -> Option<Flow> {
        let number = u64::try_from(start.holdfast_flow).ok()?;
        let flow = self.session.take_flow(number);
        flow.filter(|_| proxy.options.is_plain())
    }

    /// Counts what is refused, and says it once in a session.
    fn refuse(&self, stage: &'static str) {
        metrics::counter!("holdfast_rejected_total", "cause" => "too many work conns").increment(1);
        if !self.has_complained.swap(true, Ordering::Relaxed) {
            tracing::warn!("the server asks for too many work connections ({stage}): not opened");
        }
    }
}

/// Why a work conn came to nothing.
#[derive(Debug, thiserror::Error)]
enum WorkError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Conn(#[from] ConnError),
    /// frps does not want it, in these words.
    #[error("{0}")]
    Refused(String),
}
