//! Carries the datagrams of all users of a `udp` proxy over one work conn.
//!
//! Each user (the `r` of a packet) has a socket of its own towards the local service, so that the
//! service sees one address per user and its answers find their way back. A user who is silent in
//! both directions for [`USER_IDLE`] loses the socket, and so does the one that was silent longest
//! when there are [`MAX_USERS`]: addresses can be forged, sockets are real.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use frp_core::conn::{ConnError, MessageReader, MessageStream, MessageWriter};
use frp_core::proto::WireVersion;
use frp_core::proto::msg::{Message, Ping, UdpAddr, UdpPacket};
use frp_core::task;
use frp_core::transports::BoxStream;
use frp_core::work;
use parking_lot::Mutex;
use tokio::net::{UdpSocket, lookup_host};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Proxy;
use crate::proxy_header::{self, Carried};

/// How long a user may be silent in both directions. frp's value.
const USER_IDLE: Duration = Duration::from_secs(30);

/// Users with a socket at once, per work conn.
const MAX_USERS: usize = 1024;

/// Packets on their way to frps; what does not fit is dropped, as networks do. frp's value.
const QUEUE_LEN: usize = 1024;

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
) -> Result<(), ConnError> {
    let over = proxy.take_over();
    let stream = MessageStream::resume(work::wrap(work_stream, &proxy.options), wire);
    let (reader, writer) = stream.split();
    let (packets_tx, packets_rx) = mpsc::channel(QUEUE_LEN);
    let users = Arc::new(Users {
        proxy: proxy.clone(),
        packets: packets_tx,
        max_packet_len: udp_packet_size.max(1),
        by_addr: Mutex::default(),
        over: over.clone(),
    });
    // However this ends, the users' tasks end with it.
    let _end = over.clone().drop_guard();
    tokio::select! {
        result = read_packets(reader, &users) => result,
        result = write_packets(writer, packets_rx) => result,
        () = over.cancelled() => Ok(()),
    }
}

/// frps -> local service.
async fn read_packets(mut reader: MessageReader, users: &Arc<Users>) -> Result<(), ConnError> {
    loop {
        match reader.read().await? {
            Message::UdpPacket(packet) => users.deliver(packet).await,
            // frps sends nothing else here; a Ping does no harm.
            Message::Ping(_) => {}
            other => return Err(ConnError::Unexpected(other.name(), "UDPPacket")),
        }
    }
}

/// Local service -> frps.
async fn write_packets(
    mut writer: MessageWriter,
    mut packets: mpsc::Receiver<UdpPacket>,
) -> Result<(), ConnError> {
    let mut ping = tokio::time::interval(PING_INTERVAL);
    ping.reset();
    loop {
        tokio::select! {
            packet = packets.recv() => {
                let Some(packet) = packet else { return Ok(()) };
                push(&mut writer, packet);
                while writer.n_pending() < MAX_WRITE_LEN {
                    let Ok(packet) = packets.try_recv() else { break };
                    push(&mut writer, packet);
                }
            }
            _ = ping.tick() => writer.push(&Ping::default().into())?,
        }
        writer.flush().await?;
    }
}

/// A packet that does not fit in a message of this version is lost, like any oversized datagram.
fn push(writer: &mut MessageWriter, packet: UdpPacket) {
    if let Err(error) = writer.push(&packet.into()) {
        metrics::counter!("holdfast_udp_dropped_total", "cause" => "oversized").increment(1);
        tracing::debug!("drop udp packet: {error}");
    }
}

/// The users of one work conn.
#[derive(Debug)]
struct Users {
    proxy: Arc<Proxy>,
    packets: mpsc::Sender<UdpPacket>,
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
    async fn deliver(self: &Arc<Self>, packet: UdpPacket) {
        let Some(addr) = packet.remote.as_ref().and_then(UdpAddr::socket_addr) else {
            drop_packet("no address");
            return;
        };
        let known = self.by_addr.lock().get(&addr).cloned();
        let (user, content) = match known {
            Some(user) => (user, packet.content),
            None => match self.open(addr).await {
                Ok((user, local_addr)) => (user, self.with_header(addr, local_addr, packet)),
                Err(error) => {
                    tracing::debug!("no socket for udp user {addr}: {error}");
                    drop_packet("no local socket");
                    return;
                }
            },
        };
        *user.last_active.lock() = Instant::now();
        // A full socket buffer means that the service does not keep up: waiting would hold up all
        // the other users. A refusal (nobody listens) is the user's loss alone.
        if user.socket.try_send(&content).is_err() {
            drop_packet("local service");
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

    /// Local service -> queue, for one user.
    async fn carry_back(self: Arc<Self>, addr: SocketAddr, user: Arc<User>) {
        let mut buf = vec![0; self.max_packet_len];
        loop {
            let idle_at = *user.last_active.lock() + USER_IDLE;
            tokio::select! {
                received = user.socket.recv(&mut buf) => match received {
                    Ok(len) => {
                        *user.last_active.lock() = Instant::now();
                        self.queue(addr, Bytes::copy_from_slice(&buf[..len]));
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

    fn queue(&self, addr: SocketAddr, content: Bytes) {
        let remote = Some(UdpAddr::from(addr));
        let packet = UdpPacket {
            content,
            remote,
            ..UdpPacket::default()
        };
        if self.packets.try_send(packet).is_err() {
            drop_packet("queue full");
        }
    }

    /// Puts the PROXY protocol header, if one is wanted, before a user's first datagram.
    fn with_header(&self, addr: SocketAddr, local_addr: SocketAddr, packet: UdpPacket) -> Bytes {
        let header = self
            .proxy
            .header_version()
            .and_then(|v| proxy_header::build(v, Carried::Datagrams, addr, local_addr).ok());
        match header {
            Some(mut header) => {
                header.extend_from_slice(&packet.content);
                header.into()
            }
            None => packet.content,
        }
    }
}

async fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    lookup_host((host, port))
        .await?
        .next()
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn drop_packet(cause: &'static str) {
    metrics::counter!("holdfast_udp_dropped_total", "cause" => cause).increment(1);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use frp_core::config::{ProxyConfig, ProxyKind, Secret};

    /// Users of a service that listens, and the service.
    async fn users() -> (Arc<Users>, UdpSocket, mpsc::Receiver<UdpPacket>) {
        let service = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut config = ProxyConfig::new("dns", ProxyKind::Udp { remote_port: 53 });
        config.local_port = service.local_addr().unwrap().port();
        let (packets, received) = mpsc::channel(QUEUE_LEN);
        let users = Arc::new(Users {
            proxy: Arc::new(Proxy::new(config, &Secret::default())),
            packets,
            max_packet_len: 1500,
            by_addr: Mutex::default(),
            over: CancellationToken::new(),
        });
        (users, service, received)
    }

    fn packet_of(user: SocketAddr) -> UdpPacket {
        let remote = Some(UdpAddr::from(user));
        UdpPacket {
            content: Bytes::from_static(b"x"),
            remote,
            ..UdpPacket::default()
        }
    }

    #[tokio::test]
    async fn sockets_are_bounded_and_the_user_that_was_silent_longest_goes() {
        frp_core::fd_limit::raise();
        let (users, _service, _received) = users().await;
        let user = |n: usize| SocketAddr::from(([10, 0, 0, 1], u16::try_from(n + 1).unwrap()));
        for n in 0..MAX_USERS {
            users.deliver(packet_of(user(n))).await;
        }
        users.deliver(packet_of(user(0))).await;
        for n in 0..8 {
            users.deliver(packet_of(user(MAX_USERS + n))).await;
        }
        let by_addr = users.by_addr.lock();
        assert_eq!(by_addr.len(), MAX_USERS);
        assert!(by_addr.contains_key(&user(0)), "it spoke again");
        assert!(!by_addr.contains_key(&user(1)) && by_addr.contains_key(&user(MAX_USERS)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_who_is_silent_loses_the_socket() {
        let (users, _service, _received) = users().await;
        users.deliver(packet_of(([10, 0, 0, 1], 1).into())).await;
        tokio::time::sleep(USER_IDLE - Duration::from_secs(1)).await;
        users.deliver(packet_of(([10, 0, 0, 1], 1).into())).await;
        tokio::time::sleep(USER_IDLE - Duration::from_secs(1)).await;
        assert_eq!(users.by_addr.lock().len(), 1);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(users.by_addr.lock().len(), 0);
    }

    #[tokio::test]
    async fn the_users_end_with_the_work_conn() {
        let (users, service, mut received) = users().await;
        users.deliver(packet_of(([10, 0, 0, 1], 1).into())).await;
        let mut buf = [0; 10];
        let (_, from) = service.recv_from(&mut buf).await.unwrap();
        users.over.cancel();
        drop(users);
        service.send_to(b"too late", from).await.unwrap();
        assert!(
            received.recv().await.is_none(),
            "nobody is left who could send"
        );
    }
}
