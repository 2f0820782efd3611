//! Opens a session to a server and makes a carrier of it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use kcp_proto::Config;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::endpoint::Endpoint;
use super::member::{Farewell, Policy};
use super::socket::UdpSocket;
use super::{KcpDialConfig, N_EARLY, with_room};
use crate::info::CarrierInfo;
use crate::mux::Role;
use crate::tcp::{Reached, STAGGER, in_turns, resolve, start_carrier, within};
use crate::{Carrier, DialError, Endpoint as Server, TransportKind, udp};

/// Opens a carrier to `server`.
pub(super) async fn dial(
    config: &Arc<KcpDialConfig>,
    server: &Server,
) -> Result<Arc<dyn Carrier>, DialError> {
    within(config.timeout, server, open(config, server)).await
}

/// Tries the server's addresses in the way of [`crate::tcp::connect`]: the next one as soon as one
/// fails, or after a while without an answer. The first that answers is taken; without TLS, the
/// first that there is a way to.
async fn open(config: &Arc<KcpDialConfig>, server: &Server) -> Result<Arc<dyn Carrier>, DialError> {
    let mut addrs = in_turns(resolve(&server.host, server.port).await?, config.local_ip);
    let mut attempts = JoinSet::new();
    let mut last_failure = None;
    loop {
        if let Some(addr) = addrs.pop_front() {
            let (config, server) = (Arc::clone(config), server.clone());
            attempts.spawn(async move { attempt(&config, addr, &server).await });
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
    Err(last_failure.unwrap_or_else(|| {
        let problem = "it has no address of the same family as the local address to dial from";
        DialError::ConnectUdp {
            addr: server.to_string(),
            source: io::Error::new(io::ErrorKind::AddrNotAvailable, problem),
        }
    }))
}

/// Opens a session to one address, over a socket of its own.
async fn attempt(
    config: &KcpDialConfig,
    addr: SocketAddr,
    server: &Server,
) -> Result<Arc<dyn Carrier>, DialError> {
    let failed = |source| DialError::ConnectUdp {
        addr: addr.to_string(),
        source,
    };
    let socket = udp::connect(addr, config.local_ip)
        .and_then(|socket| UdpSocket::new(socket, N_BUFFERS))
        .map_err(failed)?;
    let local_addr = socket.local_addr().ok();
    let mut session = Config {
        send_window: Config::FRP_DIAL_SEND_WINDOW,
        receive_window: Config::FRP_DIAL_RECEIVE_WINDOW,
        n_early: N_EARLY,
        first_datagram_len: FIRST_DATAGRAM_LEN,
        ..Config::frp(rand::random())
    };
    let policy = Policy {
        silence: config.silence,
        fast: config.fast.clone(),
        // Without multiplexing, what was written last is a user's, and must not be lost.
        farewell: match (&config.tls, &config.mux) {
            (Some(_), Some(_)) => Farewell::Silent,
            _ => Farewell::Said,
        },
    };
    session.fec = session.fec.filter(|_| config.has_fec);
    let (endpoint, io) = Endpoint::dialled(socket, addr, session, policy);
    tokio::spawn(endpoint);

    let info = CarrierInfo {
        local_addr,
        path: Some(io.path()),
        abort: Some(io.abort_switch()),
        ..CarrierInfo::new(TransportKind::Kcp, addr)
    };
    let mut reached = Reached {
        io: Box::new(io),
        info,
    };
    if let Some(tls) = &config.tls {
        let handshake = reached.start_tls(tls, config.marker, server).await;
        reached = handshake.map_err(|error| match error {
            DialError::Tls { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused => {
                failed(source)
            }
            DialError::Connect { source, .. } => failed(source),
            other => other,
        })?;
    }
    let mux = with_room(config.mux.as_ref(), config.fast.as_ref());
    let (io, info) = (reached.io, reached.info);
    Ok(start_carrier(io, mux.as_ref(), Role::Client, info))
}

/// Receive buffers of a client's socket, which one server sends to.
const N_BUFFERS: usize = 1;

/// Each of the first datagrams that arrives lets a server say its first word, some 600 bytes in TLS,
/// four times: where a third of them gets lost, that is what it takes.
const FIRST_DATAGRAM_LEN: usize = 1_000;
