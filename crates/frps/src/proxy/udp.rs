//! `udp`: datagrams of any number of users over one work stream, or beside it.
//!
//! Two loops run side by side. One receives datagrams from users, and sends each over the carrier
//! in use where that takes it as a datagram, or else into a queue. The other keeps a work stream
//! open, and on it sends what is queued and delivers what comes back. When the queue is full, the
//! oldest is dropped: UDP's users are used to that.

mod users;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use frp_core::conn::{ConnError, MessageReader, MessageWriter};
use frp_core::hold::flow::Flow;
use frp_core::proto::Message;
use frp_core::proto::msg::{NewProxy, StartWorkConn};
use frp_core::task;
use frp_core::udp::counts::{count_dropped, count_sent_by_stream};
use frp_core::udp::{Sent, UdpWay};
use frp_core::work::wrap;
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info};

use super::{Kind, ProxyError, Publication, Started, UserAddrs};
use crate::net;
use crate::ports::PortLease;
use crate::server::Server;
use crate::session::Session;
use users::Users;

pub(super) fn start(
    server: &Arc<Server>,
    session: &Arc<Session>,
    message: &NewProxy,
    stop: &CancellationToken,
) -> Result<Started, ProxyError> {
    let ip = server.proxy_ip;
    let (lease, socket) = server
        .udp_ports
        .acquire(&message.proxy_name, message.remote_port, |port| {
            net::bind_udp(ip, port)
        })
        .map_err(|source| ProxyError::UdpPort {
            port: message.remote_port,
            source,
        })?;
    let port = lease.port();
    let publication = Publication::new(server, session, message, Kind::Udp);
    let stats = Arc::clone(&publication.stats);
    let span = publication.span.clone();
    span.in_scope(|| info!("udp proxy listen port [{port}]"));
    let proxy = UdpProxy {
        publication,
        is_v6: socket.local_addr().is_ok_and(|addr| addr.is_ipv6()),
        socket,
        users: Mutex::default(),
        way: UdpWay::new(),
        has_flows: may_have_flows(session, message),
        packet_size: server.config.udp_packet_size,
    };
    let task = task::spawn("udp proxy", proxy.run(lease, stop.clone()).instrument(span));
    Ok(Started {
        port: Some(port),
        task: Some(task),
        stats,
    })
}

struct UdpProxy {
    publication: Arc<Publication>,
    socket: UdpSocket,
    /// IPv4 users have to be addressed as mapped ones.
    is_v6: bool,
    users: Mutex<Users>,
    way: UdpWay,
    /// Whether datagrams may go as those of a carrier.
    has_flows: bool,
    packet_size: usize,
}

/// Cipher and compression are a stream's, and a bandwidth limit counts what passes on one.
fn may_have_flows(session: &Session, message: &NewProxy) -> bool {
    let hello = session.login.holdfast.get();
    hello.is_some_and(|hello| hello.capabilities.iter().any(|name| name == CAPABILITY))
        && !message.use_encryption
        && !message.use_compression
        && message.bandwidth_limit.is_empty()
}

impl UdpProxy {
    async fn run(self, lease: PortLease, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.receive() => {}
            () = self.carry() => {}
        }
        // The port is given back when nothing holds it any more.
        drop(self);
        drop(lease);
    }

    /// Receives users' datagrams. What is longer than `udpPacketSize` is cut, as in frp.
    async fn receive(&self) {
        let mut buf = vec![0; self.packet_size];
        loop {
            let (len, user) = match self.socket.recv_from(&mut buf).await {
                Ok(received) => received,
                Err(error) => {
                    // An ICMP answer to what was sent to a user. It says nothing about the others.
                    debug!("cannot receive from udp users: {error}");
                    tokio::time::sleep(RECV_RETRY).await;
                    continue;
                }
            };
            self.users.lock().note(user);
            if self.way.send(user, &buf[..len]) == Sent::Datagram {
                self.publication.stats.add_traffic(len as u64, 0);
            }
        }
    }

    /// Keeps one work stream, and carries datagrams over it and beside it, both ways.
    async fn carry(&self) {
        // The client must have seen NewProxyResp before it hears of the proxy's first user.
        tokio::time::sleep(FIRST_WORK_STREAM_AFTER).await;
        loop {
            let flow = self.open_flow().map(Arc::new);
            let start = StartWorkConn {
                holdfast_flow: flow.as_deref().map_or(0, number_of),
                ..self.publication.start_message(UserAddrs::default())
            };
            let stream = match self.publication.start_work_stream(start).await {
                Ok(stream) => stream,
                Err(error) => {
                    error.log();
                    tokio::time::sleep(WORK_STREAM_RETRY).await;
                    continue;
                }
            };
            let stream = stream.map(|stream| wrap(stream, &self.publication.options));
            let (reader, writer) = stream.split();
            let error = tokio::select! {
                error = self.deliver(reader, flow.as_ref()) => error,
                error = self.send(writer) => error,
                never = self.deliver_datagrams(flow.as_deref()) => match never {},
            };
            self.way.close();
            debug!("the udp work connection ended: {error}");
        }
    }

    fn open_flow(&self) -> Option<Flow> {
        let held = self.publication.session.held().filter(|_| self.has_flows);
        held?.session.open_flow()
    }

    /// Sends what users have sent, as many datagrams at once as are there.
    async fn send(&self, mut writer: MessageWriter) -> ConnError {
        loop {
            let (mut n_bytes, mut n_sent) = (0, 0);
            let mut next = Some(self.way.next().await);
            while let Some(packet) = next {
                let len = packet.content.len() as u64;
                match writer.push(&Message::from(packet)) {
                    Ok(()) => {
                        n_bytes += len;
                        n_sent += 1;
                    }
                    Err(error) => {
                        debug!("a datagram does not fit into a message: {error}");
                        count_dropped("too long");
                    }
                }
                next = if writer.n_pending() < BATCH_LEN {
                    self.way.try_next()
                } else {
                    None
                };
            }
            if let Err(error) = writer.flush().await {
                return error;
            }
            self.publication.stats.add_traffic(n_bytes, 0);
            count_sent_by_stream(n_sent);
        }
    }

    /// Delivers what the client's service answers. The client's first message says that it has
    /// taken the flow.
    async fn deliver(&self, mut reader: MessageReader, flow: Option<&Arc<Flow>>) -> ConnError {
        let mut untold = flow;
        loop {
            let message = match tokio::time::timeout(READ_TIMEOUT, reader.read()).await {
                Ok(Ok(message)) => message,
                Ok(Err(error)) => return error,
                Err(_) => return ConnError::Timeout(READ_TIMEOUT),
            };
            if let Some(flow) = untold.take() {
                self.way.open(flow);
            }
            match message {
                Message::UdpPacket(packet) => {
                    match packet.remote.and_then(|addr| addr.socket_addr()) {
                        Some(user) => self.deliver_one(user, &packet.content).await,
                        None => count_dropped("no address"),
                    }
                }
                // The client's sign of life, every 30 s.
                Message::Ping(_) => {}
                other => debug!("ignored a {} on a udp work connection", other.name()),
            }
        }
    }

    /// The same for what comes beside the work stream.
    async fn deliver_datagrams(&self, flow: Option<&Flow>) -> Infallible {
        let Some(flow) = flow else {
            return std::future::pending().await;
        };
        loop {
            let (user, content) = flow.recv().await;
            self.deliver_one(user, &content).await;
        }
    }

    async fn deliver_one(&self, user: SocketAddr, content: &[u8]) {
        // A client must not make this host send to whomever it likes.
        if !self.users.lock().is_known(user) {
            count_dropped("unknown user");
            return;
        }
        self.publication.stats.add_traffic(0, content.len() as u64);
        if let Err(error) = self.socket.send_to(content, self.reachable(user)).await {
            debug!("cannot send to udp user {user}: {error}");
        }
    }

    fn reachable(&self, user: SocketAddr) -> SocketAddr {
        match user.ip() {
            IpAddr::V4(ip) if self.is_v6 => (ip.to_ipv6_mapped(), user.port()).into(),
            _ => user,
        }
    }
}

fn number_of(flow: &Flow) -> i64 {
    // It fits: numbers are below 2^62.
    flow.number().cast_signed()
}

/// The name of datagrams beside the work stream in `holdfast.capabilities`.
const CAPABILITY: &str = "udp";

/// Bytes of messages written at once, so that a burst of datagrams does not wait for one write
/// each, and the first does not wait for long.
const BATCH_LEN: usize = 32 * 1024;

/// As in frp.
const FIRST_WORK_STREAM_AFTER: Duration = Duration::from_millis(500);

/// After a failure to get a work stream, as in frp.
const WORK_STREAM_RETRY: Duration = Duration::from_secs(1);

/// After this silence a work stream is taken for dead, as in frp: the client pings every 30 s.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Keeps an error that repeats itself from spinning.
const RECV_RETRY: Duration = Duration::from_millis(5);
