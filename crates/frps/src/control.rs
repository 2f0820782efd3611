//! The control stream of one session, from its login to its end.
//!
//! One task reads the client's messages and acts on them in order; another writes what is queued.
//! Nothing here waits for one client on behalf of another, and starting a proxy waits for nobody
//! at all. When the session ends, for whatever cause, its proxies are closed first and then its
//! place is given up, so that a successor finds names and ports free.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use frp_core::conn::{ConnError, MessageReader, MessageWriter};
use frp_core::proto::Message;
use frp_core::proto::hold::session_frame::GoodbyeReason;
use frp_core::proto::msg::{
    CloseProxy, NatHoleResp, NewProxy, NewProxyResp, Ping, Pong, ReqWorkConn,
};
use frp_core::task;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::conflict::Waiting;
use crate::proxy::{self, MAX_PROXIES_PER_CLIENT, MAX_WEIGHT_PER_CLIENT, Proxy, ProxyError};
use crate::server::Server;
use crate::session::{EndCause, Session};
use crate::text::printable;

/// Runs the session's control stream until the session ends.
pub(crate) async fn run(
    server: Arc<Server>,
    place: Place,
    reader: MessageReader,
    writer: MessageWriter,
) {
    let session = Arc::clone(place.session());
    let (outgoing, queued) = mpsc::channel(OUTGOING_LEN);
    session.work_streams.request(session.pool_count);
    let writing = write_messages(Arc::clone(&session), writer, queued);
    let writing = task::spawn("control writer", writing);

    let mut control = Control {
        server: Arc::clone(&server),
        session: Arc::clone(&session),
        proxies: HashMap::new(),
        waiting: Waiting::default(),
        outgoing,
        last_ping: Instant::now(),
    };
    control.serve(reader).await;

    let Control {
        proxies, outgoing, ..
    } = control;
    session.work_streams.close();
    let leaving = async {
        if let Some(held) = session.held() {
            held.close(goodbye_reason(&session)).await;
        }
    };
    let closing = async {
        for proxy in proxies.into_values() {
            proxy.close().await;
        }
    };
    tokio::join!(leaving, closing);
    drop(outgoing);
    writing.abort();
    match session.end_cause() {
        None | Some(EndCause::Closed) => {}
        Some(
            cause @ (EndCause::Replaced { .. }
            | EndCause::Lost(_)
            | EndCause::TakenOver
            | EndCause::Silent
            | EndCause::GraceExpired),
        ) => info!("{cause}"),
        Some(cause @ EndCause::Shutdown) => debug!("{cause}"),
        Some(cause) => warn!("{cause}"),
    }
    info!("client exit success");
    drop(place);
}

/// A session's place in the server: its run id, its entry among the clients, its part in the
/// carrier. Dropping it, also in a panic, gives all of it back.
#[derive(Debug)]
pub(crate) struct Place {
    server: Arc<Server>,
    session: Arc<Session>,
}

impl Place {
    /// For a session that is in the registry.
    pub(crate) fn new(server: &Arc<Server>, session: &Arc<Session>) -> Self {
        session.link.join();
        Self {
            server: Arc::clone(server),
            session: Arc::clone(session),
        }
    }

    /// Whose place it is.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Does nothing when another cause was given already.
        self.session.end(EndCause::Closed);
        self.session.work_streams.close();
        if let Some(held) = self.session.held() {
            // Nothing but in a panic, and in a login that was not completed.
            held.end(goodbye_reason(&self.session));
            self.server.held.remove(held);
            self.session.link.part_from(held);
        }
        self.server.registry.remove(&self.session);
        self.server.clients.depart(self.session.id);
        self.session.link.leave();
        self.session.finish();
    }
}

/// What the reading task knows.
struct Control {
    server: Arc<Server>,
    session: Arc<Session>,
    proxies: HashMap<String, Proxy>,
    waiting: Waiting,
    /// Boxed, since the queue has room for dozens however few there are.
    outgoing: mpsc::Sender<Box<Message>>,
    last_ping: Instant,
}

impl Control {
    /// Reads and acts until the session ends.
    async fn serve(&mut self, mut reader: MessageReader) {
        let session = Arc::clone(&self.session);
        let transport = &self.server.config.transport;
        // What is held outlives an outage that nobody has noticed yet, as frpc reckons too.
        let grace = session
            .held()
            .map_or(Duration::ZERO, |_| transport.hold.grace);
        let heartbeat_timeout = transport.heartbeat_timeout.map(|limit| limit + grace);
        let mut ticks = tokio::time::interval(HEARTBEAT_CHECK);
        loop {
            let message = tokio::select! {
                () = session.ended() => return,
                message = reader.read() => message,
                messages = self.waiting.next(&session) => {
                    for message in messages {
                        let outcome = self.start_proxy(&message);
                        let response = self.proxy_response(&message, outcome);
                        self.send(response.into()).await;
                    }
                    continue;
                }
                _ = ticks.tick(), if heartbeat_timeout.is_some() => {
                    if session.held().is_some_and(|held| held.is_holding()) {
                        // The grace time says how long it may be away.
                        self.last_ping = Instant::now();
                    }
                    if heartbeat_timeout.is_some_and(|limit| self.last_ping.elapsed() > limit) {
                        session.end(EndCause::HeartbeatTimeout);
                    }
                    continue;
                }
            };
            let message = match message {
                Ok(message) => message,
                Err(error) => return session.end(cause_of(&session, &error)),
            };
            session.touch();
            self.handle(message).await;
        }
    }

    async fn handle(&mut self, message: Message) {
        match message {
            Message::NewProxy(message) => match self.start_proxy(&message) {
                Err(error) if self.wait_for_holder(&message, &error) => {}
                outcome => {
                    let response = self.proxy_response(&message, outcome);
                    self.send(response.into()).await;
                }
            },
            Message::CloseProxy(message) => self.close_proxy(&message).await,
            Message::Ping(message) => {
                let pong = self.ping(&message);
                self.send(pong.into()).await;
            }
            // Without an answer the visitor's client waits for 5 s before it falls back.
            Message::NatHoleVisitor(message) => {
                let name = printable(&message.proxy_name);
                let response = NatHoleResp {
                    transaction_id: message.transaction_id,
                    error: format!("xtcp server for [{name}] doesn't exist"),
                    ..NatHoleResp::default()
                };
                self.send(response.into()).await;
            }
            other => debug!("ignored a {} on the control connection", other.name()),
        }
    }

    /// Whether the proxy waits for what another session has.
    fn wait_for_holder(&mut self, message: &NewProxy, error: &ProxyError) -> bool {
        let is_waiting = self
            .waiting
            .wait_for_holder(&self.server, &self.session, message, error);
        if is_waiting {
            let name = printable(&message.proxy_name);
            debug!("new proxy [{name}] waits for a sign of life of who has its place: {error}");
        }
        is_waiting
    }

    /// Keeps what has been started, and says what came of it.
    fn proxy_response(
        &mut self,
        message: &NewProxy,
        outcome: Result<Proxy, ProxyError>,
    ) -> NewProxyResp {
        let (name, kind) = (
            printable(&message.proxy_name),
            printable(&message.proxy_type),
        );
        let mut response = NewProxyResp {
            proxy_name: message.proxy_name.clone(),
            ..NewProxyResp::default()
        };
        match outcome {
            Ok(proxy) => {
                response.remote_addr.clone_from(&proxy.remote_addr);
                self.proxies.insert(message.proxy_name.clone(), proxy);
                info!("new proxy [{name}] type [{kind}] success");
            }
            Err(error) => {
                warn!("new proxy [{name}] type [{kind}] error: {error}");
                let summary = format!("new proxy [{name}] error");
                response.error = self.server.error_for_client(&summary, &error);
            }
        }
        response
    }

    fn start_proxy(&self, message: &NewProxy) -> Result<Proxy, ProxyError> {
        if self.proxies.len() >= MAX_PROXIES_PER_CLIENT {
            return Err(ProxyError::TooManyProxies(MAX_PROXIES_PER_CLIENT));
        }
        let weight: usize = self.proxies.values().map(|proxy| proxy.weight).sum();
        if weight + proxy::weight(message, &self.session) > MAX_WEIGHT_PER_CLIENT {
            return Err(ProxyError::TooMuchText(MAX_WEIGHT_PER_CLIENT));
        }
        let n_ports_used = self.proxies.values().map(|proxy| proxy.n_ports).sum();
        proxy::start(&self.server, &self.session, message, n_ports_used)
    }

    async fn close_proxy(&mut self, message: &CloseProxy) {
        self.waiting.forget(&message.proxy_name, &self.session);
        if let Some(proxy) = self.proxies.remove(&message.proxy_name) {
            proxy.close().await;
        }
        info!("close proxy [{}] success", printable(&message.proxy_name));
    }

    fn ping(&mut self, message: &Ping) -> Pong {
        match self.server.auth.check_ping(message) {
            Ok(()) => {
                self.last_ping = Instant::now();
                debug!("receive heartbeat");
                Pong::default()
            }
            Err(error) => {
                warn!("received invalid ping: {error}");
                Pong {
                    error: self.server.error_for_client("invalid ping", &error),
                }
            }
        }
    }

    /// Queues an answer. While the queue is full the client's further messages wait, and a client
    /// that takes nothing for long is given up.
    async fn send(&self, message: Message) {
        tokio::select! {
            // A client that does not read must not keep its own end from being seen.
            () = self.session.ended() => {}
            sent = tokio::time::timeout(NOT_READING_AFTER, self.outgoing.send(Box::new(message))) => {
                match sent {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => self.session.end(EndCause::Closed),
                    Err(_) => self.session.end(EndCause::NotReading),
                }
            }
        }
    }
}

/// Writes what is queued, and the requests for work streams, whenever the client takes them.
async fn write_messages(
    session: Arc<Session>,
    mut writer: MessageWriter,
    mut queued: mpsc::Receiver<Box<Message>>,
) {
    let result = loop {
        let (message, mut n_requests) = tokio::select! {
            biased;
            message = queued.recv() => match message {
                Some(message) => (Some(message), 0),
                None => break Ok(()),
            },
            n_requests = session.work_streams.take_requests() => (None, n_requests),
        };
        let mut result = message.map_or(Ok(()), |message| writer.push(&message));
        while result.is_ok() && n_requests > 0 {
            result = writer.push(&ReqWorkConn::default().into());
            n_requests -= 1;
        }
        if let Err(error) = result {
            break Err(error);
        }
        if let Err(error) = writer.flush().await {
            break Err(error);
        }
    };
    if let Err(error) = result {
        session.end(cause_of(&session, &error));
    }
}

/// What the client is told of the end.
fn goodbye_reason(session: &Session) -> GoodbyeReason {
    match session.end_cause() {
        Some(EndCause::Replaced { .. } | EndCause::TakenOver) => GoodbyeReason::TAKEN_OVER,
        Some(EndCause::Nonsense(_)) => GoodbyeReason::PROTOCOL,
        _ => GoodbyeReason::STOPPED,
    }
}

fn cause_of(session: &Session, error: &ConnError) -> EndCause {
    // A held stream breaks when its session is over, and at no other time.
    if let Some(cause) = session.held().and_then(|held| held.end_cause()) {
        return cause;
    }
    match error {
        ConnError::Closed => EndCause::Closed,
        ConnError::Decode(error) => {
            metrics::counter!("holdfast_rejected_total", "cause" => "control message").increment(1);
            EndCause::Nonsense(error.to_string())
        }
        error => EndCause::Lost(error.to_string()),
    }
}

/// Answers waiting for a client to read them, as in frp.
const OUTGOING_LEN: usize = 100;

/// How long a client may leave a full queue of answers unread.
const NOT_READING_AFTER: Duration = Duration::from_secs(10);

/// How often the heartbeat is looked at, as in frp.
const HEARTBEAT_CHECK: Duration = Duration::from_secs(1);
