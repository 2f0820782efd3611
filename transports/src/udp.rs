//! Sockets of the transports over UDP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use quinn::udp::UdpSocketState;
use socket2::{Domain, Protocol, Socket, Type};

use crate::tcp::bind::is_without_ipv6;

/// A socket, and what is known of how it sends and receives many datagrams at once.
#[derive(Debug)]
pub(crate) struct UdpIo {
    pub(crate) socket: tokio::net::UdpSocket,
    pub(crate) state: UdpSocketState,
}

impl UdpIo {
    /// Takes a socket over. Sends with "don't fragment" from here on.
    pub(crate) fn new(socket: Socket) -> io::Result<Self> {
        let socket = tokio::net::UdpSocket::from_std(socket.into())?;
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { socket, state })
    }
}

/// Binds a server's socket. As in Go, `0.0.0.0` and `::` both mean every address of either family;
/// on a host without IPv6 `0.0.0.0` means what it says.
pub(crate) fn listen(addr: SocketAddr) -> io::Result<Socket> {
    if addr.ip() != Ipv4Addr::UNSPECIFIED {
        return bind(addr);
    }
    let dual = SocketAddr::from((Ipv6Addr::UNSPECIFIED, addr.port()));
    match bind(dual) {
        Err(e) if is_without_ipv6(&e) => bind(addr),
        outcome => outcome,
    }
}

/// Makes a client's socket, connected to `peer`: Linux reports what the peer's host says of
/// packets (ICMP port unreachable) on connected sockets only.
pub(crate) fn connect(peer: SocketAddr, local_ip: Option<IpAddr>) -> io::Result<Socket> {
    let socket = new_socket(peer)?;
    let local_ip = local_ip.unwrap_or(match peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    });
    socket.bind(&SocketAddr::new(local_ip, 0).into())?;
    socket.connect(&peer.into())?;
    Ok(socket)
}

/// Binds a socket at `addr`.
pub(crate) fn bind(addr: SocketAddr) -> io::Result<Socket> {
    let socket = new_socket(addr)?;
    if addr.ip() == Ipv6Addr::UNSPECIFIED {
        socket.set_only_v6(false)?;
    }
    socket.bind(&addr.into())?;
    Ok(socket)
}

fn new_socket(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // Linux gives what it allows (net.core.rmem_max), without an error.
    let _ = socket.set_recv_buffer_size(BUFFER_LEN);
    let _ = socket.set_send_buffer_size(BUFFER_LEN);
    Ok(socket)
}

/// Socket buffers: 30 ms at 1 Gbit/s, which is how long a busy host may not get to reading. What
/// quic-go asks for is 7 MB, and frp's KCP for this much.
const BUFFER_LEN: usize = 4 * 1024 * 1024;
