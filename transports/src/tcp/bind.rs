//! Listening sockets as Go opens them.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

/// Binds and listens. Must be called in a tokio runtime.
///
/// `0.0.0.0` and `::` both mean every address of either family, as in Go; on a host without IPv6
/// `0.0.0.0` means what it says.
pub fn listen(addr: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    if addr.ip() != Ipv4Addr::UNSPECIFIED {
        return listen_on(addr);
    }
    let dual = SocketAddr::from((Ipv6Addr::UNSPECIFIED, addr.port()));
    match listen_on(dual) {
        Err(e) if is_without_ipv6(&e) => listen_on(addr),
        outcome => outcome,
    }
}

fn listen_on(addr: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.ip() == Ipv6Addr::UNSPECIFIED {
        socket.set_only_v6(false)?;
    }
    // Not to wait for the old connections of a program that has just been restarted. On Linux it
    // does not let two programs listen on one port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    tokio::net::TcpListener::from_std(socket.into())
}

/// Whether a socket for both families failed for want of IPv6.
pub(crate) fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EPROTONOSUPPORT | libc::ENOPROTOOPT)
    )
}

/// Connections that the system completes ahead of us. The system's own bound (`somaxconn`, 4096 on
/// current Linux) may make it less.
const BACKLOG: i32 = 4096;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn an_unspecified_ipv4_address_listens_on_both_families() {
        let listener = listen("0.0.0.0:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        // A host without IPv6 has nothing to show for the other half.
        if std::net::TcpListener::bind("[::1]:0").is_ok() {
            TcpStream::connect(("::1", port)).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_port_in_use_is_an_error() {
        let first = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = listen(first.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn a_port_can_be_bound_again_while_an_old_connection_lingers() {
        let first = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = first.local_addr().unwrap();
        let _client = TcpStream::connect(addr).await.unwrap();
        let (accepted, _) = first.accept().await.unwrap();
        // The side that closes first keeps the port in TIME_WAIT or FIN_WAIT.
        drop((accepted, first));
        listen(addr).unwrap();
    }
}
