//! Sockets for the proxies' ports, and addresses from the configuration.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use frp_core::transports::tcp::bind;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

/// Listens for a proxy's users. An unspecified address means both families.
pub(crate) fn listen_tcp(ip: IpAddr, port: u16) -> io::Result<TcpListener> {
    bind::listen(SocketAddr::new(ip, port))
}

/// Binds a `udp` proxy's socket. An unspecified address means both families.
pub(crate) fn bind_udp(ip: IpAddr, port: u16) -> io::Result<UdpSocket> {
    if !ip.is_unspecified() {
        return bind_udp_on(SocketAddr::new(ip, port));
    }
    match bind_udp_on((Ipv6Addr::UNSPECIFIED, port).into()) {
        // A host without IPv6.
        Err(e)
            if matches!(
                e.raw_os_error(),
                Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
            ) =>
        {
            bind_udp_on((Ipv4Addr::UNSPECIFIED, port).into())
        }
        result => result,
    }
}

fn bind_udp_on(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.ip() == Ipv6Addr::UNSPECIFIED {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    UdpSocket::from_std(socket.into())
}

/// The address that `text` (`bindAddr`, `proxyBindAddr`, `webServer.addr`) stands for. Blocks
/// while a name is looked up; called at start.
pub(crate) fn resolve(text: &str) -> io::Result<IpAddr> {
    let text = text.trim_start_matches('[').trim_end_matches(']');
    if text.is_empty() {
        return Ok(Ipv4Addr::UNSPECIFIED.into());
    }
    if let Ok(ip) = text.parse() {
        return Ok(ip);
    }
    (text, 0)
        .to_socket_addrs()?
        .next()
        .map(|addr| addr.ip())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no address"))
}

/// Host and port as they are written together, with brackets where they are needed.
pub(crate) fn join_host_port(host: &str, port: u16) -> String {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// What the system said, in the words that frp's users know.
pub(crate) fn bind_error_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "bind: address already in use".to_owned(),
        io::ErrorKind::PermissionDenied => "bind: permission denied".to_owned(),
        io::ErrorKind::AddrNotAvailable => "bind: cannot assign requested address".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unspecified_address_receives_from_both_families() {
        let socket = bind_udp(Ipv4Addr::UNSPECIFIED.into(), 0).unwrap();
        let port = socket.local_addr().unwrap().port();
        let user = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        user.send_to(b"four", ("127.0.0.1", port)).await.unwrap();
        let mut buf = [0; 10];
        let (len, from) = socket.recv_from(&mut buf).await.unwrap();
        assert_eq!(
            (&buf[..len], from.ip().to_canonical()),
            (&b"four"[..], "127.0.0.1".parse().unwrap())
        );
    }

    #[tokio::test]
    async fn a_port_in_use_is_reported_in_frps_words() {
        let first = listen_tcp(Ipv4Addr::LOCALHOST.into(), 0).unwrap();
        let port = first.local_addr().unwrap().port();
        let error = listen_tcp(Ipv4Addr::LOCALHOST.into(), port).unwrap_err();
        assert_eq!(bind_error_text(&error), "bind: address already in use");

        let first = bind_udp(Ipv4Addr::LOCALHOST.into(), 0).unwrap();
        let port = first.local_addr().unwrap().port();
        assert!(bind_udp(Ipv4Addr::LOCALHOST.into(), port).is_err());
    }

    #[test]
    fn addresses_are_taken_in_any_notation() {
        assert_eq!(resolve("").unwrap(), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        assert_eq!(resolve("::").unwrap(), IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        assert_eq!(resolve("[::1]").unwrap(), IpAddr::V6(Ipv6Addr::LOCALHOST));
        assert!(resolve("localhost").unwrap().is_loopback());
        assert_eq!(join_host_port("::1", 80), "[::1]:80");
        assert_eq!(join_host_port("0.0.0.0", 7000), "0.0.0.0:7000");
    }
}
