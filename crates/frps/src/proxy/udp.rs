//! `udp`: datagrams of any number of users over one work stream.
//!
//! Two loops run side by side. One receives datagrams from users into a queue. The other keeps a
//! work stream open, and on it sends what is queued and delivers what comes back. When the queue is
//! full, datagrams are dropped: UDP's users are used to that.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use frp_core::conn::{ConnError, MessageReader, MessageWriter};
use frp_core::proto::Message;
use frp_core::proto::msg::{NewProxy, UdpPacket};
use frp_core::task;
use frp_core::work::wrap;
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info};

use super::{Kind, ProxyError, Publication, Started, UserAddrs};
use crate::net;
use crate::ports::PortLease;
use crate::server::Server;
use crate::session::Session;

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
    packet_size: usize,
}

impl UdpProxy {
    async fn run(self, lease: PortLease, stop: CancellationToken) {
        let (queue, queued) = mpsc::channel(QUEUE_LEN);
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.receive(&queue) => {}
            () = self.carry(queued) => {}
        }
        // The port is given back when nothing holds it any more.
        drop(self);
        drop(lease);
    }

    /// Receives users' datagrams. What is longer than `udpPacketSize` is cut, as in frp.
    async fn receive(&self, queue: &mpsc::Sender<UdpPacket>) {
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
            let packet = UdpPacket {
                content: Bytes::copy_from_slice(&buf[..len]),
                remote: Some(user.into()),
                ..UdpPacket::default()
            };
            if queue.try_send(packet).is_err() {
                count_dropped("queue full");
            }
        }
    }

    /// Keeps one work stream and carries datagrams over it, both ways.
    async fn carry(&self, mut queued: mpsc::Receiver<UdpPacket>) {
        // The client must have seen NewProxyResp before it hears of the proxy's first user.
        tokio::time::sleep(FIRST_WORK_STREAM_AFTER).await;
        loop {
            let stream = match self
                .publication
                .start_work_stream(UserAddrs::default())
                .await
            {
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
                error = self.deliver(reader) => error,
                error = self.send(writer, &mut queued) => error,
            };
            debug!("the udp work connection ended: {error}");
        }
    }

    /// Sends what users have sent, as many datagrams at once as are there.
    async fn send(
        &self,
        mut writer: MessageWriter,
        queued: &mut mpsc::Receiver<UdpPacket>,
    ) -> ConnError {
        let stats = &self.publication.stats;
        // The sender lives as long as this loop: see `run`.
        while let Some(packet) = queued.recv().await {
            let mut n_bytes = 0;
            let mut next = Some(packet);
            while let Some(packet) = next {
                let len = packet.content.len() as u64;
                match writer.push(&Message::from(packet)) {
                    Ok(()) => n_bytes += len,
                    Err(error) => {
                        debug!("a datagram does not fit into a message: {error}");
                        count_dropped("too long");
                    }
                }
                next = if writer.n_pending() < BATCH_LEN {
                    queued.try_recv().ok()
                } else {
                    None
                };
            }
            if let Err(error) = writer.flush().await {
                return error;
            }
            stats.add_traffic(n_bytes, 0);
        }
        ConnError::Closed
    }

    /// Delivers what the client's service answers.
    async fn deliver(&self, mut reader: MessageReader) -> ConnError {
        loop {
            let message = match tokio::time::timeout(READ_TIMEOUT, reader.read()).await {
                Ok(Ok(message)) => message,
                Ok(Err(error)) => return error,
                Err(_) => return ConnError::Timeout(READ_TIMEOUT),
            };
            match message {
                Message::UdpPacket(packet) => self.deliver_one(packet).await,
                // The client's sign of life, every 30 s.
                Message::Ping(_) => {}
                other => debug!("ignored a {} on a udp work connection", other.name()),
            }
        }
    }

    async fn deliver_one(&self, packet: UdpPacket) {
        let Some(user) = packet.remote.and_then(|addr| addr.socket_addr()) else {
            count_dropped("no address");
            return;
        };
        // A client must not make this host send to whomever it likes.
        if !self.users.lock().is_known(user) {
            count_dropped("unknown user");
            return;
        }
        self.publication
            .stats
            .add_traffic(0, packet.content.len() as u64);
        if let Err(error) = self
            .socket
            .send_to(&packet.content, self.reachable(user))
            .await
        {
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

/// The users that have sent something lately: two generations, of which the older one is forgotten
/// when the younger one is full. So the number is bounded, and whoever sends stays.
#[derive(Debug, Default)]
struct Users {
    young: HashSet<SocketAddr>,
    old: HashSet<SocketAddr>,
}

impl Users {
    fn note(&mut self, user: SocketAddr) {
        let user = canonical(user);
        if self.young.contains(&user) {
            return;
        }
        if self.young.len() >= MAX_USERS / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(user);
    }

    fn is_known(&mut self, user: SocketAddr) -> bool {
        let user = canonical(user);
        if self.young.contains(&user) {
            return true;
        }
        let is_known = self.old.contains(&user);
        if is_known {
            self.note(user);
        }
        is_known
    }
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

fn count_dropped(cause: &'static str) {
    metrics::counter!("holdfast_udp_dropped_total", "cause" => cause).increment(1);
}

/// Datagrams waiting for the work stream, as in frp. Beyond it they are dropped.
const QUEUE_LEN: usize = 1024;

/// Bytes of messages written at once, so that a burst of datagrams does not wait for one write
/// each, and the first does not wait for long.
const BATCH_LEN: usize = 32 * 1024;

/// Users remembered per proxy, about 1 MiB. Source addresses can be forged, so there is a bound.
const MAX_USERS: usize = 16_384;

/// As in frp.
const FIRST_WORK_STREAM_AFTER: Duration = Duration::from_millis(500);

/// After a failure to get a work stream, as in frp.
const WORK_STREAM_RETRY: Duration = Duration::from_secs(1);

/// After this silence a work stream is taken for dead, as in frp: the client pings every 30 s.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Keeps an error that repeats itself from spinning.
const RECV_RETRY: Duration = Duration::from_millis(5);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn user(n: u32) -> SocketAddr {
        (n.to_be_bytes(), 1000).into()
    }

    #[test]
    fn a_user_is_known_by_either_form_of_its_address() {
        let mut users = Users::default();
        users.note("[::ffff:192.0.2.1]:53".parse().unwrap());
        assert!(users.is_known("192.0.2.1:53".parse().unwrap()));
        assert!(!users.is_known("192.0.2.1:54".parse().unwrap()));
    }

    #[test]
    fn the_users_remembered_are_bounded_and_the_active_ones_stay() {
        let mut users = Users::default();
        for n in 0..1_000_000 {
            users.note(user(n));
            if n % 1000 == 0 {
                users.note(user(7));
            }
        }
        assert!(users.young.len() + users.old.len() <= MAX_USERS);
        assert!(users.is_known(user(7)));
        assert!(!users.is_known(user(8)));
    }
}
