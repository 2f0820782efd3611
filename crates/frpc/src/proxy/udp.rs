//! Carries the datagrams of all users of a `udp` proxy over one work conn, or beside it as
//! datagrams of the carrier in use, where frps has given the conn a [`Flow`].
//!
//! Each user (the `r` of a packet) has a socket of its own towards the local service, so that the
//! service sees one address per user and its answers find their way back. A user who is silent in
//! both directions for [`USER_IDLE`] loses the socket, and so does the one that was silent longest
//! when there are [`MAX_USERS`]: addresses can be forged, sockets are real.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use frp_core::conn::{ConnError, MessageReader, MessageStream, MessageWriter};
use frp_core::hold::flow::Flow;
use frp_core::proto::WireVersion;
use frp_core::proto::msg::{Message, Ping, UdpAddr, UdpPacket};
use frp_core::task;
use frp_core::transports::BoxStream;
use frp_core::udp::UdpWay;
use frp_core::udp::counts::{count_dropped, count_sent_by_stream};
use frp_core::work;
use parking_lot::Mutex;
use tokio::net::{UdpSocket, lookup_host};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Proxy;
use crate::proxy_header::{self, Carried};

/// How long a user may be silent in both directions. frp's value.
const USER_IDLE: Duration = Duration::from_secs(30);

/// Users with a socket at once, per work conn.
const MAX_USERS: usize = 1024;

/// How often a Ping tells frps that the conn lives: it gives up after 60 s. frp's value.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// Bytes of messages joined into one write.
const MAX_WRITE_LEN: usize = 64 * 1024;

/// Carries datagrams until the work conn breaks, or another work conn takes over.
pub async fn serve(
    proxy: &Arc<Proxy>,
    work_stream: BoxStream,
    wire: WireVersion,
    udp_packet_size: usize,
    flow: Option<Flow>,
) -> Result<(), ConnError> {
    let over = proxy.take_over();
    let flow = flow.map(Arc::new);
    let stream = MessageStream::resume(work::wrap(work_stream, &proxy.options), wire);
    let (reader, writer) = stream.split();
    let users = Arc::new(Users {
        proxy: proxy.clone(),
        way: UdpWay::new(),
        max_packet_len: udp_packet_size.max(1),
        by_addr: Mutex::default(),
        over: over.clone(),
    });
    if let Some(flow) = &flow {
        // frps takes datagrams of it since before it told.
        users.way.open(flow);
    }
    // However this ends, the users' tasks end with it.
    let _end = over.clone().drop_guard();
    let result = tokio::select! {
        error = read_packets(reader, flow.as_deref(), &users) => Err(error),
        error = write_packets(writer, flow.is_some(), &users.way) => Err(error),
        () = over.cancelled() => Ok(()),
    };
    users.way.close();
    result
}

/// frps -> local service. One task takes what comes on both ways, so that a user's first datagram
/// opens the user's socket, and the next ones find it.
async fn read_packets(
    mut reader: MessageReader,
    flow: Option<&Flow>,
    users: &Arc<Users>,
) -> ConnError {
    loop {
        tokio::select! {
            message = reader.read() => match message {
                Ok(Message::UdpPacket(packet)) => {
                    match packet.remote.as_ref().and_then(UdpAddr::socket_addr) {
                        Some(user) => users.deliver(user, packet.content).await,
                        None => count_dropped("no address"),
                    }
                }
                // frps sends nothing else here; a Ping does no harm.
                Ok(Message::Ping(_)) => {}
                Ok(other) => return ConnError::Unexpected(other.name(), "UDPPacket"),
                Err(error) => return error,
            },
            (user, content) = arrived(flow) => users.deliver(user, content).await,
        }
    }
}

/// The next datagram beside the work conn; never where there is none.
async fn arrived(flow: Option<&Flow>) -> (SocketAddr, Bytes) {
    match flow {
        Some(flow) => flow.recv().await,
        None => std::future::pending().await,
    }
}

/// Local service -> frps.
async fn write_packets(mut writer: MessageWriter, has_flow: bool, way: &UdpWay) -> ConnError {
    match write_all(&mut writer, has_flow, way).await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

async fn write_all(
    writer: &mut MessageWriter,
    has_flow: bool,
    way: &UdpWay,
) -> Result<Infallible, ConnError> {
    let mut ping = tokio::time::interval(PING_INTERVAL);
    // frps sends datagrams from the first message on: by then their flow is known here.
    if !has_flow {
        ping.reset();
    }
    loop {
        tokio::select! {
            packet = way.next() => {
                let mut n_sent = push(writer, packet);
                while writer.n_pending() < MAX_WRITE_LEN {
                    let Some(packet) = way.try_next() else { break };
                    n_sent += push(writer, packet);
                }
                count_sent_by_stream(n_sent);
            }
            _ = ping.tick() => writer.push(&Ping::default().into())?,
        }
        writer.flush().await?;
    }
}

/// Returns how many will be sent: a packet that does not fit in a message of this version is lost,
/// like any oversized datagram.
fn push(writer: &mut MessageWriter, packet: UdpPacket) -> u64 {
    match writer.push(&packet.into()) {
        Ok(()) => 1,
        Err(error) => {
            count_dropped("oversized");
            tracing::debug!("drop udp packet: {error}");
            0
        }
    }
}

/// The users of one work conn.
#[derive(Debug)]
struct Users {
    proxy: Arc<Proxy>,
    way: UdpWay,
    max_packet_len: usize,
    by_addr: Mutex<HashMap<SocketAddr, Arc<User>>>,
    /// Ends every user's task with the work conn.
    over: CancellationToken,
}

#[derive(Debug)]
struct User {
    socket: UdpSocket,
    last_active: Mutex<Instant>,
    /// Ends the user's task when another takes its place.
    evicted: CancellationToken,
}

impl Users {
    /// Hands a datagram to the local service. One that cannot be delivered is lost.
    async fn deliver(self: &Arc<Self>, addr: SocketAddr, content: Bytes) {
        let known = self.by_addr.lock().get(&addr).cloned();
        let (user, content) = match known {
            Some(user) => (user, content),
            None => match self.open(addr).await {
                Ok((user, local_addr)) => (user, self.with_header(addr, local_addr, content)),
                Err(error) => {
                    tracing::debug!("no socket for udp user {addr}: {error}");
                    count_dropped("no local socket");
                    return;
                }
            },
        };
        *user.last_active.lock() = Instant::now();
        // A full socket buffer means that the service does not keep up: waiting would hold up all
        // the other users. A refusal (nobody listens) is the user's loss alone.
        if user.socket.try_send(&content).is_err() {
            count_dropped("local service");
        }
    }

    /// Opens the socket of a new user and starts the way back.
    async fn open(self: &Arc<Self>, addr: SocketAddr) -> io::Result<(Arc<User>, SocketAddr)> {
        let config = &self.proxy.config;
        let local_addr = resolve(&config.local_ip, config.local_port).await?;
        let any: SocketAddr = if local_addr.is_ipv4() {
            ([0; 4], 0).into()
        } else {
            ([0; 16], 0).into()
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(local_addr).await?;
        // try_send needs to know that the socket is ready once.
        socket.writable().await?;
        let user = Arc::new(User {
            socket,
            last_active: Mutex::new(Instant::now()),
            evicted: self.over.child_token(),
        });
        self.insert(addr, user.clone());
        task::spawn("udp user", self.clone().carry_back(addr, user.clone()));
        Ok((user, local_addr))
    }

    fn insert(&self, addr: SocketAddr, user: Arc<User>) {
        let mut by_addr = self.by_addr.lock();
        if by_addr.len() >= MAX_USERS {
            let oldest = by_addr
                .iter()
                .min_by_key(|(_, user)| *user.last_active.lock());
            if let Some(addr) = oldest.map(|(addr, _)| *addr) {
                if let Some(user) = by_addr.remove(&addr) {
                    user.evicted.cancel();
                }
                metrics::counter!("holdfast_udp_evicted_total").increment(1);
            }
        }
        by_addr.insert(addr, user);
    }

    /// Local service -> frps, for one user.
    async fn carry_back(self: Arc<Self>, addr: SocketAddr, user: Arc<User>) {
        let mut buf = vec![0; self.max_packet_len];
        loop {
            let idle_at = *user.last_active.lock() + USER_IDLE;
            tokio::select! {
                received = user.socket.recv(&mut buf) => match received {
                    Ok(len) => {
                        *user.last_active.lock() = Instant::now();
                        self.way.send(addr, &buf[..len]);
                    }
                    // Nobody listens there, or the system is short of something: the next
                    // datagram starts anew.
                    Err(error) => {
                        tracing::debug!("udp user {addr}: {error}");
                        break;
                    }
                },
                () = tokio::time::sleep_until(idle_at) => {
                    if user.last_active.lock().elapsed() >= USER_IDLE {
                        break;
                    }
                }
                () = user.evicted.cancelled() => return,
            }
        }
        let mut by_addr = self.by_addr.lock();
        if by_addr
            .get(&addr)
            .is_some_and(|current| Arc::ptr_eq(current, &user))
        {
            by_addr.remove(&addr);
        }
    }

    /// Puts the PROXY protocol header, if one is wanted, before a user's first datagram.
    fn with_header(&self, addr: SocketAddr, local_addr: SocketAddr, content: Bytes) -> Bytes {
        let header = self
            .proxy
            .header_version()
            .and_then(|v| proxy_header::build(v, Carried::Datagrams, addr, local_addr).ok());
        match header {
            Some(mut header) => {
                header.extend_from_slice(&content);
                header.into()
            }
            None => content,
        }
    }
}

async fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    lookup_host((host, port))
        .await?
        .next()
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use frp_core::config::{ProxyConfig, ProxyKind, Secret};

    /// Users of a service that listens, and the service.
    async fn users() -> (Arc<Users>, UdpSocket) {
        let service = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut config = ProxyConfig::new("dns", ProxyKind::Udp { remote_port: 53 });
        config.local_port = service.local_addr().unwrap().port();
        let users = Arc::new(Users {
            proxy: Arc::new(Proxy::new(config, &Secret::default())),
            way: UdpWay::new(),
            max_packet_len: 1500,
            by_addr: Mutex::default(),
            over: CancellationToken::new(),
        });
        (users, service)
    }

    async fn speaks(users: &Arc<Users>, user: SocketAddr) {
        users.deliver(user, Bytes::from_static(b"x")).await;
    }

    #[tokio::test]
    async fn sockets_are_bounded_and_the_user_that_was_silent_longest_goes() {
        frp_core::fd_limit::raise();
        let (users, _service) = users().await;
        let user = |n: usize| SocketAddr::from(([10, 0, 0, 1], u16::try_from(n + 1).unwrap()));
        for n in 0..MAX_USERS {
            speaks(&users, user(n)).await;
        }
        speaks(&users, user(0)).await;
        for n in 0..8 {
            speaks(&users, user(MAX_USERS + n)).await;
        }
        let by_addr = users.by_addr.lock();
        assert_eq!(by_addr.len(), MAX_USERS);
        assert!(by_addr.contains_key(&user(0)), "it spoke again");
        assert!(!by_addr.contains_key(&user(1)) && by_addr.contains_key(&user(MAX_USERS)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_who_is_silent_loses_the_socket() {
        let (users, _service) = users().await;
        speaks(&users, ([10, 0, 0, 1], 1).into()).await;
        tokio::time::sleep(USER_IDLE - Duration::from_secs(1)).await;
        speaks(&users, ([10, 0, 0, 1], 1).into()).await;
        tokio::time::sleep(USER_IDLE - Duration::from_secs(1)).await;
        assert_eq!(users.by_addr.lock().len(), 1);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(users.by_addr.lock().len(), 0);
    }

    #[tokio::test]
    async fn the_users_end_with_the_work_conn() {
        let (users, service) = users().await;
        speaks(&users, ([10, 0, 0, 1], 1).into()).await;
        let mut buf = [0; 10];
        let (_, from) = service.recv_from(&mut buf).await.unwrap();
        users.over.cancel();
        // Each user's task has a share of them.
        while Arc::strong_count(&users) > 1 {
            tokio::task::yield_now().await;
        }
        service.send_to(b"too late", from).await.unwrap();
        assert!(
            users.way.try_next().is_none(),
            "nobody is left who could send"
        );
    }
}
