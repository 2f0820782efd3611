//! What all proxies have in common: being started and closed, and carrying one user's connection.
//!
//! [`start`] checks what a client asks for and sets up the proxy of the right type, all without
//! waiting for anyone. A user's connection then goes through [`Publication::serve_user`], whichever
//! type it is: a work stream is taken, told who has come, wrapped, and the two are joined.

mod annotations;
mod stcp;
mod tcp;
mod udp;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use frp_core::config::Bandwidth;
use frp_core::conn::{ConnError, MessageStream};
use frp_core::limit::RateLimiter;
use frp_core::proto::Message;
use frp_core::proto::msg::{NewProxy, StartWorkConn};
use frp_core::relay::{HalfClose, relay};
use frp_core::transports::BoxStream;
use frp_core::work::{Limit, WorkOptions, wrap};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{Span, debug, info_span, warn};

use crate::catalog::{NameTaken, ProxyInfo, ProxyListing};
use crate::ports::PortError;
use crate::server::Server;
use crate::session::Session;
use crate::stats::{Owner, ProxyStats};
use crate::text::printable;
use crate::work_pool::TakeError;

pub(crate) use stcp::{Admission, VisitorRefused, Visitors};

/// A proxy that is there.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// What `NewProxyResp` says.
    pub(crate) remote_addr: String,
    /// 1 for types that take a port of the server.
    pub(crate) n_ports: u64,
    /// See [`weight`].
    pub(crate) weight: usize,
    /// What accepts its users. Ends when told to, at once.
    task: Option<JoinHandle<()>>,
    stop: DropGuard,
    _online: Online,
    _listing: ProxyListing,
}

impl Proxy {
    /// Closes the proxy and waits until its port and name are free. Users that are connected stay
    /// connected.
    pub(crate) async fn close(self) {
        drop(self.stop);
        if let Some(task) = self.task {
            // It catches its own panics; an error would mean that the runtime is going down.
            let _ = task.await;
        }
    }
}

/// Counts the proxy as there until dropped.
#[derive(Debug)]
struct Online(Arc<ProxyStats>);

impl Drop for Online {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Starts the proxy that `message` asks for. Waits for nobody.
pub(crate) fn start(
    server: &Arc<Server>,
    session: &Arc<Session>,
    message: &NewProxy,
    n_ports_used: u64,
) -> Result<Proxy, ProxyError> {
    let kind = Kind::of(message)?;
    annotations::check(&message.annotations)?;
    let n_ports = kind.n_ports();
    if server
        .config
        .max_ports_per_client
        .is_some_and(|max| n_ports_used + n_ports > max)
    {
        return Err(ProxyError::TooManyPorts);
    }
    let info = ProxyInfo::new(message, kind.name(), session);
    let listing = server.catalog.claim(info)?;
    let stop = CancellationToken::new();
    let started = match kind {
        Kind::Tcp => tcp::start(server, session, message, &stop)?,
        Kind::Udp => udp::start(server, session, message, &stop)?,
        Kind::Stcp => stcp::start(server, session, message, &stop)?,
    };
    listing.publish(started.port);
    Ok(Proxy {
        remote_addr: started
            .port
            .map(|port| format!(":{port}"))
            .unwrap_or_default(),
        n_ports,
        weight: weight(message, session),
        task: started.task,
        stop: stop.drop_guard(),
        _online: Online(started.stats),
        _listing: listing,
    })
}

/// About how many bytes are kept of what the client says of a proxy. A message may hold thousands
/// of strings that are all but empty, so each counts with what it takes besides its text.
pub(crate) fn weight(message: &NewProxy, session: &Session) -> usize {
    const STRING: usize = size_of::<String>();
    let lists = [
        &message.allow_users,
        &message.custom_domains,
        &message.locations,
    ];
    let maps = [
        &message.annotations,
        &message.metas,
        &message.headers,
        &message.response_headers,
    ];
    let listed = lists.into_iter().flatten().map(|text| STRING + text.len());
    let mapped = maps
        .into_iter()
        .flatten()
        .map(|(key, value)| 2 * STRING + key.len() + value.len());
    let texts = [
        &message.bandwidth_limit,
        &message.group,
        &message.group_key,
        &message.subdomain,
        &message.http_user,
        &message.http_pwd,
        &message.host_header_rewrite,
        &message.route_by_http_user,
        &message.sk,
        &message.multiplexer,
        &session.login.user,
        &session.client_id,
    ];
    N_NAMES * message.proxy_name.len()
        + texts.into_iter().map(String::len).sum::<usize>()
        + listed.chain(mapped).sum::<usize>()
}

/// What starting one type leads to.
struct Started {
    port: Option<u16>,
    task: Option<JoinHandle<()>>,
    stats: Arc<ProxyStats>,
}

/// The types there are so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
    Stcp,
}

impl Kind {
    fn of(message: &NewProxy) -> Result<Self, ProxyError> {
        match message.proxy_type.as_str() {
            "" | "tcp" if !message.group.is_empty() => {
                Err(ProxyError::LaterFeature("load balancing groups"))
            }
            "" | "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "stcp" => Ok(Self::Stcp),
            "http" => Err(ProxyError::LaterType("http")),
            "https" => Err(ProxyError::LaterType("https")),
            "tcpmux" => Err(ProxyError::LaterType("tcpmux")),
            "sudp" => Err(ProxyError::LaterType("sudp")),
            "xtcp" => Err(ProxyError::LaterType("xtcp")),
            unknown => Err(ProxyError::UnknownType(printable(unknown))),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Stcp => "stcp",
        }
    }

    fn n_ports(self) -> u64 {
        match self {
            Self::Tcp | Self::Udp => 1,
            Self::Stcp => 0,
        }
    }
}

/// Why a proxy does not start. The texts are frp's where frp has one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("unknown proxy type: {0}")]
    UnknownType(String),
    #[error("type [{0}] not supported: not supported yet: proxy type {0}")]
    LaterType(&'static str),
    #[error("not supported yet: {0}")]
    LaterFeature(&'static str),
    #[error(transparent)]
    Annotations(#[from] annotations::AnnotationError),
    #[error("exceed the max_ports_per_client")]
    TooManyPorts,
    #[error("a client may have at most {0} proxies")]
    TooManyProxies(usize),
    #[error("the names and settings of a client's proxies may take at most {0} bytes")]
    TooMuchText(usize),
    #[error(transparent)]
    NameTaken(#[from] NameTaken),
    #[error(transparent)]
    Port(#[from] PortError),
    #[error("acquire port {port} error: {source}")]
    UdpPort { port: i64, source: PortError },
    #[error("custom listener for [{0}] is repeated")]
    ListenerRepeated(String),
}

/// What carrying a user of a proxy takes: shared by all connections of it.
#[derive(Debug)]
pub(crate) struct Publication {
    name: String,
    session: Arc<Session>,
    options: WorkOptions,
    half_close: HalfClose,
    user_conn_timeout: Duration,
    stats: Arc<ProxyStats>,
    span: Span,
}

impl Publication {
    fn new(
        server: &Arc<Server>,
        session: &Arc<Session>,
        message: &NewProxy,
        kind: Kind,
    ) -> Arc<Self> {
        let mut options = WorkOptions::new(
            message.use_encryption,
            message.use_compression,
            server.auth.token(),
        );
        if message.bandwidth_limit_mode == "server"
            // What is no bandwidth is no limit, as in frp.
            && let Ok(Some(bandwidth)) = Bandwidth::parse(&message.bandwidth_limit)
        {
            let limiter = RateLimiter::new(bandwidth.bytes_per_second);
            options.limit = Some(Limit::Plain(Arc::new(limiter)));
        }
        let owner = Owner {
            user: session.login.user.clone(),
            client_id: session.client_id.clone(),
        };
        Arc::new(Self {
            name: message.proxy_name.clone(),
            session: Arc::clone(session),
            options,
            half_close: session.half_close(),
            user_conn_timeout: server.config.user_conn_timeout,
            stats: server
                .stats
                .start_proxy(&message.proxy_name, kind.name(), owner),
            span: info_span!("proxy", proxy = %printable(&message.proxy_name)),
        })
    }

    /// Carries one user's connection to the client's local service and back.
    async fn serve_user(&self, user_conn: BoxStream, addrs: UserAddrs, peer: HalfClose) {
        let asked = Instant::now();
        let work_stream = match self.start_work_stream(self.start_message(addrs)).await {
            Ok(work_stream) => work_stream,
            Err(error) => {
                metrics::counter!("holdfast_user_conns_failed_total", "cause" => error.cause())
                    .increment(1);
                crate::refusals::note(error.cause());
                self.stats.count_failure();
                error.log();
                return;
            }
        };
        metrics::histogram!("holdfast_work_stream_wait_seconds")
            .record(asked.elapsed().as_secs_f64());
        let work_stream = wrap(work_stream.into_stream(), &self.options);
        let half_close = match (self.half_close, peer) {
            (HalfClose::Keep, HalfClose::Keep) => HalfClose::Keep,
            _ => HalfClose::EndBoth,
        };
        let open = self.stats.open_connection();
        let carried = &self.stats.carried;
        let traffic = relay(user_conn, work_stream, half_close, carried).await;
        drop(open);
        self.stats.add_finished(traffic.a_to_b, traffic.b_to_a);
        match traffic.error {
            None => debug!("join connections closed"),
            Some(error) => debug!("join connections closed: {error}"),
        }
    }

    /// Tells the client who has come.
    fn start_message(&self, addrs: UserAddrs) -> StartWorkConn {
        addrs.start_message(&self.name)
    }

    /// Takes a work stream and tells the client which proxy it is for. A stream that broke while
    /// it was idle is passed over, as often as the pool could have held such streams.
    async fn start_work_stream(&self, start: StartWorkConn) -> Result<MessageStream, WorkError> {
        let message: Message = start.into();
        let mut broken = None;
        for _ in 0..=self.session.pool_count {
            let timeout = self.user_conn_timeout;
            let mut stream = self.session.take_work_stream(timeout).await?;
            match stream.write_within(&message, START_TIMEOUT).await {
                Ok(()) => return Ok(stream),
                Err(error) => {
                    debug!("passed over a broken work connection: {error}");
                    broken = Some(error);
                }
            }
        }
        Err(broken.map_or(WorkError::Take(TakeError::Closed), WorkError::Start))
    }
}

/// Why a user was not connected to a work stream.
#[derive(Debug, thiserror::Error)]
enum WorkError {
    /// There was none.
    #[error(transparent)]
    Take(#[from] TakeError),
    /// There were some, and all of them were broken.
    #[error("failed to send message to work connection from pool: {0}")]
    Start(ConnError),
}

impl WorkError {
    /// Logs it once, for whoever waited in vain.
    fn log(&self) {
        match self {
            // The session's own end says why.
            Self::Take(TakeError::Closed) => debug!("failed to get work connection: {self}"),
            _ => warn!("failed to get work connection: {self}"),
        }
    }

    fn cause(&self) -> &'static str {
        match self {
            Self::Take(TakeError::Timeout) => "timeout",
            Self::Take(TakeError::Closed) => "session ended",
            Self::Take(TakeError::Away) => "client away",
            Self::Take(TakeError::TooManyWaiting) => "too many waiting",
            Self::Start(_) => "work stream broken",
        }
    }
}

/// Where a user comes from and where they connected to, as far as the type tells the client.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UserAddrs {
    pub(crate) src: Option<SocketAddr>,
    pub(crate) dst: Option<SocketAddr>,
}

impl UserAddrs {
    fn start_message(self, proxy_name: &str) -> StartWorkConn {
        let ip = |addr: Option<SocketAddr>| {
            addr.map(|addr| addr.ip().to_canonical().to_string())
                .unwrap_or_default()
        };
        StartWorkConn {
            proxy_name: proxy_name.to_owned(),
            src_addr: ip(self.src),
            src_port: self.src.map_or(0, |addr| addr.port()),
            dst_addr: ip(self.dst),
            dst_port: self.dst.map_or(0, |addr| addr.port()),
            ..StartWorkConn::default()
        }
    }
}

/// How long a work stream may take to accept `StartWorkConn`. The message fits into any window;
/// a stream that does not take it is broken.
const START_TIMEOUT: Duration = Duration::from_secs(5);

/// Proxies of one client: each costs a socket. Far above what a configuration has, since frp has no
/// bound, and low enough that one client cannot use up the server's file descriptors unnoticed.
pub(crate) const MAX_PROXIES_PER_CLIENT: usize = 10_000;

/// What all proxies of one client may weigh: 3 KiB for each of as many as it may have. A name that
/// fills a message costs a hundred times that.
pub(crate) const MAX_WEIGHT_PER_CLIENT: usize = 32 * 1024 * 1024;

/// Places that keep a copy of a proxy's name.
const N_NAMES: usize = 8;
