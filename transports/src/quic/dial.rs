//! Connects to a server.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectError, Connection, ConnectionError, Endpoint, EndpointConfig};
use rustls::pki_types::ServerName;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::carrier::{OwnEndpoint, QuicCarrier, Start};
use super::settings::{STRANGER_STREAMS, Settings, varint};
use super::socket::{Refusals, UdpSocket};
use super::{QuicDialConfig, is_tls_failure};
use crate::tcp::{STAGGER, in_turns, resolve};
use crate::{Carrier, DialError, Endpoint as Server};

/// Opens a carrier to `server`.
pub(super) async fn dial(
    config: &QuicDialConfig,
    server: &Server,
) -> Result<Arc<dyn Carrier>, DialError> {
    // Boxed because the state of a dial is large, and a dial is rare.
    match timeout(config.timeout, Box::pin(open(config, server))).await {
        Ok(outcome) => outcome,
        Err(_) => Err(DialError::Timeout {
            addr: server.to_string(),
            after: config.timeout,
        }),
    }
}

/// Tries the server's addresses in the way of [`crate::tcp::connect`]: the next one as soon as one
/// fails, or after a while without an answer. The first that answers is taken.
///
/// When all have been tried and none has answered yet, the next attempts start beside them. An
/// attempt that has lost some of its first packets waits longer from retransmission to
/// retransmission, and a fresh one is most likely there before it. Where packets have come since the
/// last look the server is at work, perhaps slowly, and another attempt would be more work for it. All attempts at an address share
/// one socket: what quinn has ready for receiving from a socket takes megabytes, and while nothing
/// answers several dials may be under way.
async fn open(config: &QuicDialConfig, server: &Server) -> Result<Arc<dyn Carrier>, DialError> {
    let tls_failed = |source| DialError::Tls {
        addr: server.to_string(),
        source,
    };
    let name = config.tls.name_for(&server.host).map_err(tls_failed)?;
    let tls = QuicClientConfig::try_from(config.tls.for_quic(&config.alpn))
        .map_err(|e| tls_failed(io::Error::other(e)))?;
    let tls = Arc::new(tls);

    let addrs = resolve(&server.host, server.port).await?;
    let mut addrs = in_turns(addrs, config.local_ip);
    let mut unanswered = VecDeque::new();
    let mut gaps = FRESH_ATTEMPT_GAPS.iter();
    let mut attempts = JoinSet::new();
    let mut sockets: Vec<(SocketAddr, OwnEndpoint)> = Vec::new();
    let mut last_failure = None;
    let mut n_heard = 0;
    let mut next = addrs.pop_front();
    loop {
        if let Some(addr) = next.take() {
            let config = config.clone();
            let (tls, name) = (Arc::clone(&tls), name.clone());
            let own = match sockets.iter().find(|(its, _)| *its == addr) {
                Some((_, own)) => Ok(own.clone()),
                None => own_endpoint(addr, config.local_ip).inspect(|own| {
                    sockets.push((addr, own.clone()));
                }),
            };
            attempts.spawn(async move {
                match own {
                    Ok(own) => (addr, attempt(&config, addr, own, tls, &name).await),
                    Err(error) => (addr, Err(error.into())),
                }
            });
            unanswered.push_back(addr);
        }
        let gap = match addrs.is_empty() {
            false => Some(STAGGER),
            true if unanswered.is_empty() => None,
            true => gaps.next().copied(),
        };
        tokio::select! {
            outcome = attempts.join_next() => match outcome {
                Some(Ok((_, Ok(carrier)))) => return Ok(carrier),
                Some(Ok((addr, Err(failure)))) => {
                    last_failure = Some((addr, failure));
                    unanswered.retain(|other| *other != addr);
                    next = addrs.pop_front();
                }
                Some(Err(_)) => {}
                None => match addrs.pop_front() {
                    Some(addr) => next = Some(addr),
                    None => break,
                },
            },
            () = sleep(gap.unwrap_or_default()), if gap.is_some() => {
                let heard = sockets.iter().map(|(_, own)| own.refusals.n_heard()).sum();
                let is_answering = std::mem::replace(&mut n_heard, heard) < heard;
                next = addrs.pop_front();
                if next.is_none() && !is_answering {
                    next = unanswered.pop_front();
                }
            }
        }
    }
    Err(match last_failure {
        Some((addr, Failure::Tls(source))) => DialError::Tls {
            addr: addr.to_string(),
            source,
        },
        Some((addr, Failure::Other(source))) => DialError::ConnectUdp {
            addr: addr.to_string(),
            source,
        },
        None => DialError::ConnectUdp {
            addr: server.to_string(),
            source: io::Error::new(
                io::ErrorKind::AddrNotAvailable,
                "it has no address of the same family as the local address to dial from",
            ),
        },
    })
}

/// Why an attempt at one address failed.
#[derive(Debug)]
enum Failure {
    Tls(io::Error),
    Other(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Other(error)
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Self::Other(io::Error::other(error))
    }
}

impl From<ConnectionError> for Failure {
    fn from(error: ConnectionError) -> Self {
        let kind = match &error {
            ConnectionError::TimedOut => io::ErrorKind::TimedOut,
            ConnectionError::Reset => io::ErrorKind::ConnectionReset,
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

/// Connects to one address.
async fn attempt(
    config: &QuicDialConfig,
    addr: SocketAddr,
    own: OwnEndpoint,
    tls: Arc<QuicClientConfig>,
    name: &ServerName<'_>,
) -> Result<Arc<dyn Carrier>, Failure> {
    let max_streams = varint(config.max_incoming_streams);
    let settings = Settings {
        idle_timeout: config.idle_timeout,
        // The carrier raises it, if the attempt comes to that.
        max_streams: max_streams.min(STRANGER_STREAMS),
        windows: config.windows,
        congestion: &config.congestion,
    };
    let (transport, delivery) = settings.build();
    let mut client = ClientConfig::new(tls);
    client.transport_config(Arc::new(transport));

    let connecting = own.endpoint.connect_with(client, addr, &name.to_str())?;
    let connection: Connection = tokio::select! {
        connected = connecting => connected?,
        _ = own.refusals.wait(0) => {
            return Err(io::Error::from(io::ErrorKind::ConnectionRefused).into());
        }
    };
    confirm(&connection).await;
    let start = Start {
        connection,
        delivery,
        windows: config.windows,
        keepalive_interval: config.keepalive_interval,
        idle_timeout: config.idle_timeout,
        max_streams,
        bound: own.endpoint.local_addr()?,
    };
    Ok(QuicCarrier::dialled(start, own))
}

/// Waits until the server has all of the handshake.
///
/// For QUIC it is done on this side when the last packet has been sent. When that one is lost, all
/// that follows is of no use to the server until its retransmission, which comes after a timeout
/// that may have been doubled several times, and a fresh attempt is better off.
async fn confirm(connection: &Connection) {
    while connection.stats().frame_rx.handshake_done == 0 && connection.close_reason().is_none() {
        sleep(CONFIRM_INTERVAL).await;
    }
}

/// A socket for one address.
fn own_endpoint(peer: SocketAddr, local_ip: Option<IpAddr>) -> io::Result<OwnEndpoint> {
    let refusals = Arc::<Refusals>::default();
    let socket = UdpSocket::connect(peer, local_ip, Arc::clone(&refusals))?;
    let endpoint = Endpoint::new_with_abstract_socket(
        EndpointConfig::default(),
        None,
        socket,
        Arc::new(quinn::TokioRuntime),
    )?;
    Ok(OwnEndpoint {
        endpoint,
        refusals,
        local_ip,
    })
}

/// How often a look is taken whether the server has answered: nothing tells.
const CONFIRM_INTERVAL: Duration = Duration::from_millis(5);

/// How long the attempts so far get before a fresh one starts beside them. Without loss the first
/// is done by then, unless the path is a long one. Where a third of the packets is lost, one attempt
/// in two takes longer than half a second, and a login has little more than that. After the last of
/// them those under way have all the time that is left. Seven at most: a server that is slow to answer has as many to work on.
const FRESH_ATTEMPT_GAPS: [Duration; 6] = [
    Duration::from_millis(200),
    Duration::from_millis(150),
    Duration::from_millis(150),
    Duration::from_millis(150),
    Duration::from_millis(250),
    Duration::from_millis(400),
];
