//! The server: its listeners, and the way from an accepted carrier to whoever serves it.
//!
//! Each carrier has a task that accepts its streams, each stream has a task that reads its first
//! message under a deadline and hands the stream on: a login becomes a session, a work stream goes
//! into its session's pool, a visitor is connected to a proxy. Everything else is closed without a
//! word, as frp does.

mod handle;
mod start_error;

use std::collections::HashMap;
use std::fmt::Display;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use frp_core::config::{ServerConfig, resolve_token};
use frp_core::conn::{ConnError, Frame, MessageStream};
use frp_core::hold::join::{self, First};
use frp_core::proto::Message;
use frp_core::proto::extension::EndpointOffer;
use frp_core::proto::hello::ControlKeys;
use frp_core::session::CarrierStream;
use frp_core::state::StateDir;
use frp_core::task;
use frp_core::transports::tcp::TcpTransport;
use frp_core::transports::{BoxStream, Carrier, Incoming, Listener, Transport, TransportKind};
use frp_core::web;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, trace, warn};

use crate::auth::Auth;
use crate::catalog::Catalog;
use crate::clients::Clients;
use crate::held::{self, HeldSessions};
use crate::link::{Link, Origin};
use crate::net;
use crate::ports::PortManager;
use crate::proxy::Visitors;
use crate::registry::Registry;
use crate::stats::Stats;
use crate::{conns, listen, login, refusals, status};

pub use handle::{Handle, Summary};
pub use start_error::StartError;

/// Everything that the tasks of one server share.
#[derive(Debug)]
pub struct Server {
    pub(crate) config: ServerConfig,
    pub(crate) auth: Auth,
    /// `proxyBindAddr`.
    pub(crate) proxy_ip: IpAddr,
    pub(crate) max_pool_count: usize,
    pub(crate) tcp_ports: Arc<PortManager>,
    pub(crate) udp_ports: Arc<PortManager>,
    pub(crate) registry: Registry,
    pub(crate) held: HeldSessions,
    pub(crate) clients: Clients,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) visitors: Arc<Visitors>,
    pub(crate) stats: Stats,
    /// In milliseconds since 1970.
    pub(crate) started_ms: u64,
    local_addr: SocketAddr,
    /// What clients are told of the listeners.
    endpoints: Mutex<Vec<EndpointOffer>>,
    timing: Timing,
    links: Mutex<Links>,
    stop: CancellationToken,
}

/// Times that the configuration does not name. Tests shorten them.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// From a carrier's accept to its login, and from a stream's opening to its first message.
    pub login_timeout: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            login_timeout: Duration::from_secs(10),
        }
    }
}

impl Server {
    /// Starts a server as `config` says. Its work goes on in tasks until [`Handle::shut_down`].
    pub async fn start(config: ServerConfig) -> Result<Handle, StartError> {
        let state = StateDir::open(config.state_dir.as_deref(), listen::PROGRAM);
        let timing = Timing::default();
        let tls = listen::tls(&config, &state)?;
        let transport = TcpTransport::listener(listen::tcp(&config, tls.clone(), timing));
        let ip = net::resolve(&config.bind_addr)
            .map_err(|source| StartError::Address(config.bind_addr.clone(), source))?;
        let address = net::join_host_port(&config.bind_addr, config.bind_port);
        let listener = transport
            .bind(SocketAddr::new(ip, config.bind_port))
            .await
            .map_err(|error| StartError::Listen {
                address: address.clone(),
                source: error.source,
            })?;
        // The system has chosen the port if the file says 0.
        let port = listener.local_addr().port();
        let over_udp = listen::over_udp(&config, &tls, timing, SocketAddr::new(ip, port)).await?;
        let web = config.web_server.clone();
        let web_listener = if web.port > 0 {
            Some(web::listen(&web).await?)
        } else {
            None
        };
        let mut handle = Self::start_on(config, listener, timing)?;
        info!("frps tcp listen on {address}");
        for kind in [
            TransportKind::Tcp,
            TransportKind::Websocket,
            TransportKind::Wss,
        ] {
            handle.server.offer(kind, port);
        }
        for (kind, address, listener) in over_udp {
            match kind {
                TransportKind::Kcp => info!("frps kcp listen on udp {address}"),
                kind => info!("frps {kind} listen on {address}"),
            }
            handle.server.offer(kind, listener.local_addr().port());
            handle.serve_clients(listener);
        }
        info!("clients can come by {}", handle.server.offers());
        if let Some(listener) = web_listener {
            handle.serve_web(listener);
            info!("dashboard listen on {}", web::address(&web));
        }
        Ok(handle)
    }

    /// Starts a server on a listener that is bound already: of whichever transport.
    pub fn start_on(
        config: ServerConfig,
        listener: Box<dyn Listener>,
        timing: Timing,
    ) -> Result<Handle, StartError> {
        let token = resolve_token(&config.auth)?;
        if token.expose().len() < MIN_TOKEN_LEN {
            warn!(
                "auth.token is {}: whoever reaches this port can publish services on it",
                if token.is_empty() { "empty" } else { "short" }
            );
        }
        let proxy_ip = net::resolve(&config.proxy_bind_addr)
            .map_err(|source| StartError::Address(config.proxy_bind_addr.clone(), source))?;
        let spans: Vec<_> = config.allow_ports.spans().collect();
        let allowed = (!config.allow_ports.is_unrestricted()).then_some(spans.as_slice());
        let server = Arc::new(Self {
            auth: Auth::new(token, config.auth.additional_scopes),
            proxy_ip,
            max_pool_count: usize::try_from(config.transport.max_pool_count)
                .unwrap_or(usize::MAX)
                .min(MAX_POOL_COUNT),
            tcp_ports: PortManager::new(allowed),
            udp_ports: PortManager::new(allowed),
            registry: Registry::default(),
            held: HeldSessions::default(),
            clients: Clients::default(),
            catalog: Arc::default(),
            visitors: Arc::default(),
            stats: Stats::default(),
            started_ms: frp_core::terminal::now_ms(),
            local_addr: listener.local_addr(),
            endpoints: Mutex::default(),
            timing,
            links: Mutex::default(),
            stop: CancellationToken::new(),
            config,
        });
        task::spawn("housekeeping", Arc::clone(&server).keep_house());
        let handle = Handle {
            server,
            web_addr: None,
        };
        handle.serve_clients(listener);
        Ok(handle)
    }

    /// The main listener's port.
    pub(crate) fn port(&self) -> u16 {
        self.local_addr.port()
    }

    /// Where else a client can reach the server, and where it has: by every transport that is open.
    pub(crate) fn endpoints(&self, carrier: &dyn Carrier) -> Vec<EndpointOffer> {
        let mut endpoints = self.endpoints.lock().clone();
        if endpoints.is_empty() {
            let port = carrier.local_addr().map_or(self.port(), |addr| addr.port());
            endpoints.push(offer(carrier.kind(), port));
        }
        endpoints
    }

    fn offer(&self, kind: TransportKind, port: u16) {
        self.endpoints.lock().push(offer(kind, port));
    }

    /// The ways in, for the status.
    pub(crate) fn listeners(&self) -> Vec<status::overview::Listener> {
        let endpoints = self.endpoints.lock();
        let listeners = endpoints.iter().map(|e| status::overview::Listener {
            transport: e.transport.clone(),
            port: e.port,
        });
        listeners.collect()
    }

    /// The transports that are open, for the log.
    fn offers(&self) -> String {
        let endpoints = self.endpoints.lock();
        let texts = endpoints
            .iter()
            .map(|e| format!("{} ({})", e.transport, e.port));
        texts.collect::<Vec<_>>().join(", ")
    }

    /// What a client is told of `error`: the error, or only `summary` when
    /// `detailedErrorsToClient` is off.
    pub(crate) fn error_for_client(&self, summary: &str, error: &dyn Display) -> String {
        if self.config.detailed_errors_to_client {
            error.to_string()
        } else {
            summary.to_owned()
        }
    }

    async fn accept_carriers(self: Arc<Self>, listener: Box<dyn Listener>) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok(incoming) => {
                    task::spawn("carrier", Arc::clone(&self).serve_carrier(incoming));
                }
                Err(error) => {
                    warn!("no further clients are accepted: {error}");
                    break;
                }
            }
        }
    }

    /// Accepts the streams of one carrier until it is closed.
    async fn serve_carrier(self: Arc<Self>, incoming: Incoming) {
        let Incoming {
            carrier,
            login_deadline,
        } = incoming;
        let link = Link::new(carrier);
        self.links.lock().add(&link);
        let undecided = Arc::new(Semaphore::new(MAX_UNDECIDED_STREAMS));
        loop {
            // A place is free again after the first message's deadline at the latest.
            let Ok(place) = Arc::clone(&undecided).acquire_owned().await else {
                break;
            };
            let stream = tokio::select! {
                () = self.stop.cancelled() => break,
                () = tokio::time::sleep_until(login_deadline.into()), if !link.is_admitted() => {
                    // It may have proven itself since the wait began.
                    if link.is_admitted() {
                        continue;
                    }
                    self.time_out(&link);
                    break;
                }
                stream = link.carrier.accept_stream() => stream,
            };
            let stream = match stream {
                Ok(Some(stream)) => stream,
                Ok(None) => break,
                Err(error) => {
                    trace!(
                        "no further streams of {}: {error}",
                        link.carrier.peer_addr()
                    );
                    break;
                }
            };
            let deadline = if link.is_admitted() {
                Instant::now() + self.timing.login_timeout
            } else {
                login_deadline
            };
            let (server, link) = (Arc::clone(&self), Arc::clone(&link));
            task::spawn("stream", async move {
                let Some((origin, stream)) = server.sort(link, stream, deadline).await else {
                    return;
                };
                let first = server.read_first(&origin.link, stream, deadline).await;
                drop(place);
                if let Some((conn, keys, message)) = first {
                    server.dispatch(origin, conn, keys, message).await;
                }
            });
        }
    }

    /// Closes a carrier whose peer has not logged in, unless it did so just now.
    fn time_out(&self, link: &Arc<Link>) {
        if !link.is_admitted() {
            trace!("{} did not log in in time", link.carrier.peer_addr());
            reject("login timeout");
            link.carrier.close();
        }
    }

    /// Tells streams of frp's from what goes on between Holdfasts. `Some` when a message of frp's
    /// is to follow.
    async fn sort(
        self: &Arc<Self>,
        link: Arc<Link>,
        stream: BoxStream,
        deadline: Instant,
    ) -> Option<(Origin, BoxStream)> {
        let sorted = tokio::time::timeout_at(deadline.into(), join::sort(stream)).await;
        let sorted = sorted.map_err(|_| ConnError::Timeout(self.timing.login_timeout));
        match sorted.and_then(|sorted| sorted.map_err(first_byte_error)) {
            Ok(First::Frp(stream)) => Some((Origin { link, held: None }, stream)),
            Ok(First::Route(stream)) => {
                let (stream, held) = held::serve_route(&link, stream, deadline).await?;
                let held = Some(held);
                Some((Origin { link, held }, stream))
            }
            Ok(First::Join(stream)) => {
                held::answer_join(self, &link, stream, deadline).await;
                None
            }
            Ok(First::Padding(stream)) => {
                held::answer_padding(&link, stream);
                None
            }
            Ok(First::Mirror(stream)) => {
                held::answer_mirror(&link, stream);
                None
            }
            Err(error) => {
                self.note_no_message(&link, error);
                None
            }
        }
    }

    /// Reads what a stream is for. `None` when it is closed without a word.
    async fn read_first(
        &self,
        link: &Arc<Link>,
        stream: BoxStream,
        deadline: Instant,
    ) -> Option<(MessageStream, Option<ControlKeys>, Message)> {
        // A stream of its own carrier keeps it alive; where streams share one, the session does.
        let stream = if link.carrier.is_multiplexed() {
            stream
        } else {
            CarrierStream::boxed(stream, Arc::clone(&link.carrier))
        };
        let reading = self.read_first_message(stream);
        let error = match tokio::time::timeout_at(deadline.into(), reading).await {
            Ok(Ok(first)) => return Some(first),
            Ok(Err(error)) => error,
            Err(_) => ConnError::Timeout(self.timing.login_timeout),
        };
        self.note_no_message(link, error);
        None
    }

    fn note_no_message(&self, link: &Link, error: ConnError) {
        let peer = link.carrier.peer_addr();
        match error {
            // Port checks and frp's own readiness test do this.
            ConnError::Closed => trace!("{peer} closed without a message"),
            error => {
                debug!("closed a stream of {peer}: {error}");
                reject(first_message_cause(&error));
            }
        }
    }

    async fn read_first_message(
        &self,
        stream: BoxStream,
    ) -> Result<(MessageStream, Option<ControlKeys>, Message), ConnError> {
        let mut conn = MessageStream::accept(stream).await?;
        match conn.read_frame().await? {
            Frame::Message(message) => Ok((conn, None, message)),
            Frame::ServerHello(_) => Err(ConnError::Unexpected("ServerHello", "a message")),
            Frame::ClientHello(hello) => {
                let (mut conn, keys) = login::answer_hello(conn, &hello, self.auth.token()).await?;
                let message = conn.read().await?;
                Ok((conn, Some(keys), message))
            }
        }
    }

    async fn dispatch(
        self: Arc<Self>,
        origin: Origin,
        conn: MessageStream,
        keys: Option<ControlKeys>,
        message: Message,
    ) {
        match message {
            // A login is what held streams come of.
            Message::Login(login) if origin.held.is_none() => {
                login::serve(self, origin.link, conn, *login, keys).await;
            }
            Message::NewWorkConn(message) => {
                conns::take_in_work_stream(&self, &origin, conn, &message).await;
            }
            Message::NewVisitorConn(message) => {
                conns::serve_visitor(self, origin, conn, message).await;
            }
            other => {
                let peer = origin.link.carrier.peer_addr();
                debug!("closed a stream of {peer}: it began with {}", other.name());
                reject("first message type");
            }
        }
    }

    async fn keep_house(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = tokio::time::sleep(HOUSEKEEPING_INTERVAL) => self.stats.forget_old(),
            }
        }
    }
}

/// The carriers there are, so that they can be closed. Held weakly: a carrier lives as long as
/// somebody uses it.
#[derive(Debug, Default)]
struct Links {
    links: HashMap<usize, Weak<Link>>,
    next_key: usize,
}

impl Links {
    fn add(&mut self, link: &Arc<Link>) {
        self.next_key += 1;
        self.links.insert(self.next_key, Arc::downgrade(link));
        // Now and then, so that on average an entry is looked at a few times only.
        if self.next_key.is_multiple_of(LINKS_SWEPT_EVERY) {
            self.links.retain(|_, link| link.strong_count() > 0);
        }
    }

    fn live(&self) -> Vec<Arc<Link>> {
        self.links.values().filter_map(Weak::upgrade).collect()
    }
}

/// Counts a peer or a message that was refused. `cause` is one of a few fixed words.
pub(crate) fn reject(cause: &'static str) {
    metrics::counter!("holdfast_rejected_total", "cause" => cause).increment(1);
    refusals::note(cause);
}

fn offer(kind: TransportKind, port: u16) -> EndpointOffer {
    EndpointOffer {
        transport: kind.to_string(),
        port,
    }
}

/// What the end of a stream before its first byte is called.
fn first_byte_error(error: io::Error) -> ConnError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ConnError::Closed,
        _ => ConnError::Io(error),
    }
}

fn first_message_cause(error: &ConnError) -> &'static str {
    match error {
        ConnError::Closed => "first message closed",
        ConnError::Io(_) => "first message cut off",
        ConnError::Decode(_) => "first message",
        ConnError::Encode(_) => "first message answer",
        ConnError::Timeout(_) => "first message timeout",
        ConnError::Unexpected(..) => "first message type",
        ConnError::UnknownStart => "first bytes",
    }
}

/// Streams of one carrier that have not yet said what they are for. Each has a deadline; beyond
/// the bound the carrier's further streams wait.
const MAX_UNDECIDED_STREAMS: usize = 256;

/// The most work streams that a client can be allowed to keep open ahead.
const MAX_POOL_COUNT: usize = 10_000;

/// A token shorter than this can be guessed.
const MIN_TOKEN_LEN: usize = 8;

/// As often as frp looks for statistics that have become too old.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(12 * 3600);

const LINKS_SWEPT_EVERY: usize = 1024;
