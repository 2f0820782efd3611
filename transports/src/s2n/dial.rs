//! Connects to a server.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use rustls::ClientConfig;
use s2n_quic::client::Connect;
use s2n_quic::connection;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::carrier::S2nCarrier;
use super::{S2nSending, endpoint};
use crate::quic::QuicDialConfig;
use crate::tcp::{STAGGER, in_turns, resolve};
use crate::udp;
use crate::{Carrier, DialError, Endpoint};

/// Opens a carrier to `server`.
pub(super) async fn dial(
    config: &QuicDialConfig,
    sending: S2nSending,
    server: &Endpoint,
) -> Result<Arc<dyn Carrier>, DialError> {
    // Boxed because the state of a dial is large, and a dial is rare.
    match timeout(config.timeout, Box::pin(open(config, sending, server))).await {
        Ok(outcome) => outcome,
        Err(_) => Err(DialError::Timeout {
            addr: server.to_string(),
            after: config.timeout,
        }),
    }
}

/// Tries the server's addresses in the way of [`crate::tcp::connect`]: the next one as soon as one
/// fails, or after a while without an answer. The first that answers is taken.
async fn open(
    config: &QuicDialConfig,
    sending: S2nSending,
    server: &Endpoint,
) -> Result<Arc<dyn Carrier>, DialError> {
    let name = config
        .tls
        .name_for(&server.host)
        .map_err(|source| DialError::Tls {
            addr: server.to_string(),
            source,
        })?;
    let tls = Arc::new(config.tls.for_quic(&config.alpn));

    let addrs = resolve(&server.host, server.port).await?;
    let mut addrs = in_turns(addrs, config.local_ip);
    let mut attempts = JoinSet::new();
    let mut last_failure = None;
    loop {
        if let Some(addr) = addrs.pop_front() {
            let (config, tls) = (config.clone(), Arc::clone(&tls));
            let name = name.to_str().into_owned();
            attempts.spawn(async move {
                let attempt = attempt(&config, sending, addr, tls, &name);
                attempt.await.map_err(|failure| failure.at(addr))
            });
        }
        let has_more = !addrs.is_empty();
        tokio::select! {
            outcome = attempts.join_next() => match outcome {
                Some(Ok(Ok(carrier))) => return Ok(carrier),
                Some(Ok(Err(failure))) => last_failure = Some(failure),
                Some(Err(_)) => {}
                None if has_more => {}
                None => break,
            },
            () = sleep(STAGGER), if has_more => {}
        }
    }
    Err(last_failure.unwrap_or_else(|| DialError::ConnectUdp {
        addr: server.to_string(),
        source: io::Error::new(
            io::ErrorKind::AddrNotAvailable,
            "it has no address of the same family as the local address to dial from",
        ),
    }))
}

/// Why an attempt at one address failed.
enum Failure {
    Tls(io::Error),
    Other(io::Error),
}

impl Failure {
    fn at(self, addr: SocketAddr) -> DialError {
        let addr = addr.to_string();
        match self {
            Self::Tls(source) => DialError::Tls { addr, source },
            Self::Other(source) => DialError::ConnectUdp { addr, source },
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Other(error)
    }
}

impl From<connection::Error> for Failure {
    fn from(error: connection::Error) -> Self {
        let kind = match &error {
            connection::Error::IdleTimerExpired { .. }
            | connection::Error::MaxHandshakeDurationExceeded { .. } => io::ErrorKind::TimedOut,
            connection::Error::StatelessReset { .. } => io::ErrorKind::ConnectionReset,
            _ => io::ErrorKind::Other,
        };
        let is_tls_failure = is_tls_failure(&error);
        let error = io::Error::new(kind, error);
        match is_tls_failure {
            true => Self::Tls(error),
            false => Self::Other(error),
        }
    }
}

/// Whether a connection failed for its certificates or other terms of TLS, and not for the path.
fn is_tls_failure(error: &connection::Error) -> bool {
    // RFC 9001 section 4.8: an alert is a CRYPTO_ERROR.
    matches!(
        error,
        connection::Error::Transport { code, .. } if (0x100..0x200).contains(&code.as_u64())
    )
}

/// Connects to one address, over an endpoint of its own.
async fn attempt(
    config: &QuicDialConfig,
    sending: S2nSending,
    addr: SocketAddr,
    tls: Arc<ClientConfig>,
    name: &str,
) -> Result<Arc<dyn Carrier>, Failure> {
    let local_ip = config.local_ip.unwrap_or(match addr {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    });
    let socket = udp::bind(SocketAddr::new(local_ip, 0))?;
    let client = endpoint::client(config, sending, tls, socket.into())?;
    let connect = Connect::new(addr).with_server_name(name);
    let mut connection = client.connect(connect).await?;
    connection.keep_alive(!config.keepalive_interval.is_zero())?;
    let idle_timeout = config.idle_timeout;
    Ok(S2nCarrier::start(
        connection,
        addr,
        idle_timeout,
        None,
        client,
    ))
}
