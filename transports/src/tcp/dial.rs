//! Connects to a server and makes a carrier of the connection.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::io::TcpIo;
use super::{TcpDialConfig, options, proxy, start_carrier};
use crate::info::{CarrierInfo, Io};
use crate::mux::Role;
use crate::tls::ClientTls;
use crate::{Carrier, DialError, Endpoint, TransportKind};

/// Opens a carrier to `server`.
pub(super) async fn dial(
    config: &TcpDialConfig,
    server: &Endpoint,
) -> Result<Arc<dyn Carrier>, DialError> {
    within(config.timeout, server, open(config, server)).await
}

/// Gives a dial its time.
pub(crate) async fn within<T>(
    after: Duration,
    server: &Endpoint,
    dial: impl Future<Output = Result<T, DialError>>,
) -> Result<T, DialError> {
    // Boxed because the handshakes' states are large, and a dial is rare.
    match timeout(after, Box::pin(dial)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(DialError::Timeout {
            addr: server.to_string(),
            after,
        }),
    }
}

async fn open(config: &TcpDialConfig, server: &Endpoint) -> Result<Arc<dyn Carrier>, DialError> {
    let mut reached = Reached::connect(config, TransportKind::Tcp, server).await?;
    if let Some(tls) = &config.tls {
        reached = reached.start_tls(tls, config.marker, server).await?;
    }
    let mux = config.mux.as_ref();
    Ok(start_carrier(reached.io, mux, Role::Client, reached.info))
}

/// A connection that leads to the server.
pub(crate) struct Reached {
    pub(crate) io: Box<dyn Io>,
    pub(crate) info: CarrierInfo,
}

impl Reached {
    /// Connects, through an outbound proxy if there is one.
    pub(crate) async fn connect(
        config: &TcpDialConfig,
        kind: TransportKind,
        server: &Endpoint,
    ) -> Result<Self, DialError> {
        let first_hop = match &config.proxy {
            Some(proxy) => proxy.connect(config.local_ip).await?,
            None => connect(&server.host, server.port, config.local_ip).await?,
        };
        options::apply(&first_hop, config.keepalive, &config.sending);
        let peer_addr = first_hop.peer_addr().map_err(|e| broken(server, e))?;
        let mut info = CarrierInfo::new(kind, peer_addr);
        info.local_addr = first_hop.local_addr().ok();

        let tcp = TcpIo::new(first_hop, &config.sending);
        info.abort = Some(tcp.abort_switch());
        // What a proxy has acknowledged has not arrived yet.
        info.path = config.proxy.is_none().then(|| tcp.path());
        let io: Box<dyn Io> = match &config.proxy {
            Some(proxy) => proxy::tunnel(proxy, tcp, server).await?,
            None => Box::new(tcp),
        };
        Ok(Self { io, info })
    }

    /// Sends the marker, if there is one, and runs the TLS handshake.
    pub(crate) async fn start_tls(
        self,
        tls: &ClientTls,
        marker: Option<u8>,
        server: &Endpoint,
    ) -> Result<Self, DialError> {
        let Self { mut io, mut info } = self;
        if let Some(marker) = marker {
            let sent = async {
                io.write_all(&[marker]).await?;
                io.flush().await
            };
            sent.await.map_err(|e| broken(server, e))?;
        }
        let failed = |source| DialError::Tls {
            addr: server.to_string(),
            source,
        };
        let stream = tls.connect(&server.host, io).await.map_err(failed)?;
        info.exporter = Some(Arc::new(stream.exporter()));
        Ok(Self {
            io: Box::new(stream),
            info,
        })
    }
}

fn broken(server: &Endpoint, source: io::Error) -> DialError {
    DialError::Connect {
        addr: server.to_string(),
        source,
    }
}

/// Connects to `host`, a name or an IP literal, which is resolved anew.
///
/// All addresses are tried, IPv6 and IPv4 in turns: the next one as soon as one fails, or after
/// [`STAGGER`] without an answer, and the first that answers is taken (as RFC 8305 has it). Ends
/// only with the system's own time-out, so callers set theirs.
pub async fn connect(
    host: &str,
    port: u16,
    local_ip: Option<IpAddr>,
) -> Result<TcpStream, DialError> {
    let mut addrs = in_turns(resolve(host, port).await?, local_ip);
    let mut attempts = JoinSet::new();
    let mut last_failure = None;
    loop {
        if let Some(addr) = addrs.pop_front() {
            attempts.spawn(async move { (addr, connect_to(addr, local_ip).await) });
        }
        let has_more = !addrs.is_empty();
        tokio::select! {
            outcome = attempts.join_next() => match outcome {
                Some(Ok((_, Ok(socket)))) => return Ok(socket),
                Some(Ok((addr, Err(source)))) => last_failure = Some((addr.to_string(), source)),
                Some(Err(_)) => {}
                None if has_more => {}
                None => break,
            },
            () = sleep(STAGGER), if has_more => {}
        }
    }
    let (addr, source) = last_failure.unwrap_or_else(|| {
        let addr = Endpoint {
            host: host.into(),
            port,
        }
        .to_string();
        let problem = "it has no address of the same family as the local address to dial from";
        (
            addr,
            io::Error::new(io::ErrorKind::AddrNotAvailable, problem),
        )
    });
    Err(DialError::Connect { addr, source })
}

/// Looks up the addresses of `host`; there is at least one.
pub(crate) async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
    let failed = |source| DialError::Resolve {
        host: host.into(),
        source,
    };
    let addrs: Vec<_> = tokio::net::lookup_host((host, port))
        .await
        .map_err(failed)?
        .collect();
    if addrs.is_empty() {
        let none = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        return Err(failed(none));
    }
    Ok(addrs)
}

/// Puts the addresses that can be dialled from `local_ip` in the order of trying: the families in
/// turns, that of the resolver's first choice first.
pub(crate) fn in_turns(addrs: Vec<SocketAddr>, local_ip: Option<IpAddr>) -> VecDeque<SocketAddr> {
    let is_v6_first = addrs.first().is_some_and(SocketAddr::is_ipv6);
    let usable = addrs
        .into_iter()
        .filter(|addr| local_ip.is_none_or(|ip| ip.is_ipv6() == addr.is_ipv6()));
    let (first, second): (VecDeque<_>, VecDeque<_>) =
        usable.partition(|addr| addr.is_ipv6() == is_v6_first);
    let mut turns = VecDeque::with_capacity(first.len() + second.len());
    let mut families = [first, second];
    while !families.iter().all(VecDeque::is_empty) {
        turns.extend(families.iter_mut().filter_map(VecDeque::pop_front));
    }
    turns
}

async fn connect_to(addr: SocketAddr, local_ip: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(ip) = local_ip {
        socket.bind(SocketAddr::new(ip, 0))?;
    }
    socket.connect(addr).await
}

/// How long an address gets before the next one is tried beside it (RFC 8305 section 8).
pub(crate) const STAGGER: Duration = Duration::from_millis(250);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_the_resolvers_first_choice_begins() {
        let order = |addrs: &[&str], local: Option<&str>| -> Vec<String> {
            let addrs = addrs.iter().map(|a| a.parse().unwrap()).collect();
            let turns = in_turns(addrs, local.map(|ip| ip.parse().unwrap()));
            turns.iter().map(ToString::to_string).collect()
        };
        let all = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"];
        assert_eq!(
            order(&all, None),
            ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]
        );
        assert_eq!(
            order(&["1.1.1.1:1", "[::1]:1"], None),
            ["1.1.1.1:1", "[::1]:1"]
        );
        assert_eq!(order(&all, Some("127.0.0.1")), ["1.1.1.1:1", "2.2.2.2:1"]);
    }

    #[tokio::test]
    async fn a_refused_port_names_the_address() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        drop(taken);
        let error = connect("127.0.0.1", port, None).await.unwrap_err();
        let DialError::Connect { addr, source } = error else {
            panic!("{error}");
        };
        assert_eq!(addr, format!("127.0.0.1:{port}"));
        assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn the_local_address_is_dialled_from() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let local = "127.0.0.3".parse().unwrap();
        let socket = connect("127.0.0.1", port, Some(local)).await.unwrap();
        assert_eq!(socket.local_addr().unwrap().ip(), local);

        let wrong_family = "::1".parse().unwrap();
        let error = connect("127.0.0.1", port, Some(wrong_family))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("same family"), "{error}");
    }

    #[tokio::test]
    async fn a_name_without_an_address_is_an_error_of_its_own() {
        let error = connect("does-not-exist.invalid", 1, None)
            .await
            .unwrap_err();
        assert!(matches!(error, DialError::Resolve { .. }), "{error}");
    }
}
