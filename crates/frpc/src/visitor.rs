//! Visitors: local ports that lead to somebody else's secret proxy.
//!
//! Each visitor is a task that listens and connects every user through frps. A port that cannot be
//! bound is tried again every [`RETRY`]; the other visitors do not notice.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use frp_core::config::VisitorConfig;
use frp_core::conn::{ConnError, MessageStream};
use frp_core::proto::msg::{Message, NewVisitorConn};
use frp_core::proto::{auth, names};
use frp_core::relay::{Carried, HalfClose, relay};
use frp_core::session::{OpenError, Session};
use frp_core::task;
use frp_core::transports::{BoxStream, socket};
use frp_core::work::{self, WorkOptions};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::context::{Context, unix_now};
use crate::go_text;

/// How long a visitor whose port cannot be bound waits. frp's value.
const RETRY: Duration = Duration::from_secs(10);

/// How long frps has to answer a NewVisitorConn. frp's value.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Users of one visitor at once; further ones wait in the listener's backlog.
const MAX_USERS: usize = 8 * 1024;

/// The waits after an accept that failed for want of file descriptors, say.
const ACCEPT_RETRY: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// The visitors of one session.
#[derive(Debug)]
pub(crate) struct VisitorSet {
    link: Arc<Link>,
    visitors: BTreeMap<String, Running>,
    over: CancellationToken,
}

/// What all visitors of a session use.
#[derive(Debug)]
struct Link {
    context: Arc<Context>,
    session: Arc<Session>,
    run_id: String,
    half_close: HalfClose,
}

#[derive(Debug)]
struct Running {
    config: VisitorConfig,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl VisitorSet {
    /// No visitors yet. They end when `over` does.
    pub(crate) fn new(
        context: Arc<Context>,
        session: Arc<Session>,
        run_id: String,
        half_close: HalfClose,
        over: CancellationToken,
    ) -> Self {
        let link = Arc::new(Link {
            context,
            session,
            run_id,
            half_close,
        });
        Self {
            link,
            visitors: BTreeMap::new(),
            over,
        }
    }

    /// Makes the set that of `configs`. What is equal stays as it is, with its connections.
    pub(crate) async fn update(&mut self, configs: &[VisitorConfig]) {
        let wanted: BTreeMap<&str, &VisitorConfig> = configs
            .iter()
            .map(|config| (config.name.as_str(), config))
            .collect();
        let removed: Vec<String> = self
            .visitors
            .iter()
            .filter(|(name, running)| wanted.get(name.as_str()) != Some(&&running.config))
            .map(|(name, _)| name.clone())
            .collect();
        for name in &removed {
            if let Some(running) = self.visitors.remove(name) {
                running.stop().await;
            }
        }
        if !removed.is_empty() {
            tracing::info!("visitor removed: [{}]", removed.join(" "));
        }
        let mut added = Vec::new();
        for (name, config) in wanted {
            if !self.visitors.contains_key(name) {
                self.visitors.insert(name.to_owned(), self.start(config));
                added.push(name);
            }
        }
        if !added.is_empty() {
            tracing::info!("visitor added: [{}]", added.join(" "));
        }
    }

    /// Ends all visitors and waits until their ports are free. Connections run to their own end.
    pub(crate) async fn close(&mut self) {
        for (_, running) in std::mem::take(&mut self.visitors) {
            running.stop().await;
        }
    }

    fn start(&self, config: &VisitorConfig) -> Running {
        let stop = self.over.child_token();
        let visitor = Arc::new(Visitor {
            link: self.link.clone(),
            options: WorkOptions::new(
                config.transport.use_encryption,
                config.transport.use_compression,
                config.secret_key.expose().as_bytes(),
            ),
            config: config.clone(),
            users: Arc::new(Semaphore::new(MAX_USERS)),
            carried: Carried::default(),
        });
        let span = tracing::info_span!("proxy", proxy = %config.name);
        let stopped = stop.clone();
        let work = async move {
            tokio::select! {
                () = visitor.listen() => {}
                () = stopped.cancelled() => {}
            }
        };
        let task = span.in_scope(|| task::spawn("visitor", work));
        Running {
            config: config.clone(),
            stop,
            task,
        }
    }
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        // A visitor that panicked is over as well.
        let _ = self.task.await;
    }
}

#[derive(Debug)]
struct Visitor {
    link: Arc<Link>,
    config: VisitorConfig,
    options: WorkOptions,
    users: Arc<Semaphore>,
    carried: Carried,
}

impl Visitor {
    /// Listens until it is stopped.
    async fn listen(self: Arc<Self>) {
        let Ok(port) = u16::try_from(self.config.bind_port) else {
            // A negative port: only other visitors of this program hand over connections.
            tracing::info!("start visitor success");
            return std::future::pending().await;
        };
        loop {
            match TcpListener::bind((self.config.bind_addr.as_str(), port)).await {
                Ok(listener) => {
                    tracing::info!("start visitor success");
                    self.accept_users(&listener).await;
                }
                Err(error) => {
                    let addr = &self.config.bind_addr;
                    let cause = go_text::bind(&error);
                    tracing::warn!("start error: listen tcp {addr}:{port}: {cause}");
                    tokio::time::sleep(RETRY).await;
                    tracing::info!("try to start visitor [{}]", self.config.name);
                }
            }
        }
    }

    async fn accept_users(self: &Arc<Self>, listener: &TcpListener) {
        let mut retry = ACCEPT_RETRY.0;
        loop {
            // Never closed, so there is always a permit to wait for.
            let Ok(permit) = self.users.clone().acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((user_conn, user_addr)) => {
                    retry = ACCEPT_RETRY.0;
                    let this = self.clone();
                    task::spawn("visitor conn", async move {
                        this.serve(user_conn, user_addr).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!("stcp local listener: accept: {error}");
                    metrics::counter!("holdfast_accept_errors_total", "listener" => "visitor")
                        .increment(1);
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(ACCEPT_RETRY.1);
                }
            }
        }
    }

    async fn serve(&self, user_conn: TcpStream, user_addr: SocketAddr) {
        tracing::debug!("get a new stcp user connection from [{user_addr}]");
        match self.reach_proxy().await {
            Ok(visitor_stream) => {
                let visitor_stream = work::wrap(visitor_stream, &self.options);
                let user = socket::boxed(user_conn);
                let half_close = self.link.half_close;
                let traffic = relay(user, visitor_stream, half_close, &self.carried).await;
                tracing::debug!(
                    to_proxy = traffic.a_to_b,
                    from_proxy = traffic.b_to_a,
                    "visitor connection closed"
                );
            }
            Err(error) => tracing::warn!("dialRawVisitorConn error: {error}"),
        }
    }

    /// Opens a conn that leads through frps to the proxy.
    async fn reach_proxy(&self) -> Result<BoxStream, VisitError> {
        let link = &self.link;
        let stream = link.session.open_conn().await?;
        let mut stream = MessageStream::open(stream, link.context.wire());
        stream
            .write_within(&self.new_visitor_conn().into(), ANSWER_TIMEOUT)
            .await
            .map_err(VisitError::Send)?;
        match stream
            .read_within(ANSWER_TIMEOUT)
            .await
            .map_err(VisitError::Answer)?
        {
            Message::NewVisitorConnResp(answer) if answer.error.is_empty() => {
                Ok(stream.into_stream())
            }
            Message::NewVisitorConnResp(answer) => Err(VisitError::Refused(answer.error)),
            other => Err(VisitError::Answer(ConnError::Unexpected(
                other.name(),
                "NewVisitorConnResp",
            ))),
        }
    }

    fn new_visitor_conn(&self) -> NewVisitorConn {
        let config = &self.config;
        let server_user = match config.server_user.as_str() {
            "" => self.link.context.config.user.as_str(),
            user => user,
        };
        let timestamp = unix_now();
        NewVisitorConn {
            run_id: self.link.run_id.clone(),
            proxy_name: names::wire_name(server_user, &config.server_name),
            sign_key: auth::privilege_key(config.secret_key.expose().as_bytes(), timestamp),
            timestamp,
            use_encryption: config.transport.use_encryption,
            use_compression: config.transport.use_compression,
        }
    }
}

/// Why a user did not get to the proxy. The texts are frp's.
#[derive(Debug, thiserror::Error)]
enum VisitError {
    #[error("connect to server error: {0}")]
    Open(#[from] OpenError),
    #[error("send newVisitorConnMsg to server error: {0}")]
    Send(ConnError),
    #[error("read newVisitorConnRespMsg error: {0}")]
    Answer(ConnError),
    #[error("start new visitor connection error: {0}")]
    Refused(String),
}
