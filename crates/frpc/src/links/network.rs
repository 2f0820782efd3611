//! When this host's addresses or routes change: the kernel says so over netlink.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};

/// Tells of changes of addresses and routes.
#[derive(Debug)]
pub(super) struct Changes {
    /// None where the kernel does not tell: then faults are noticed by silence alone.
    socket: Option<UdpSocket>,
    /// Something has changed, and further changes are waited for until then.
    settled_at: Option<Instant>,
}

/// An interface that comes up has a handful of changes within milliseconds; they are told as one.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// What does not fit into the socket's buffer is lost; the kernel says that with an error, which
/// counts as a change like any other. Nothing in the messages is looked at.
const READ_LEN: usize = 8 * 1024;

/// Messages taken in one turn. What is left is taken in the next, a moment later.
const MAX_READS: usize = 64;

impl Changes {
    /// Begins to listen.
    pub(super) fn watch() -> Self {
        let socket = open();
        if let Err(error) = &socket {
            tracing::debug!("the kernel does not tell of network changes: {error}");
        }
        Self {
            socket: socket.ok(),
            settled_at: None,
        }
    }

    /// Waits for the next change that is over. Cancel safe.
    pub(super) async fn next(&mut self) {
        loop {
            let Some(socket) = &self.socket else {
                return std::future::pending().await;
            };
            let settled = async {
                match self.settled_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = settled => {
                    self.settled_at = None;
                    return;
                }
                ready = socket.readable() => match ready {
                    Ok(()) => {
                        drain(socket);
                        // From the first change on, so that a host whose routes change all the
                        // time is told of them too.
                        self.settled_at.get_or_insert_with(|| Instant::now() + DEBOUNCE);
                    }
                    Err(error) => {
                        tracing::debug!("no further network changes are told: {error}");
                        self.socket = None;
                    }
                }
            }
        }
    }
}

/// Whether an address is this host's. Where that cannot be said it is.
pub(super) fn is_local(addr: IpAddr) -> bool {
    let bound = std::net::UdpSocket::bind((addr, 0));
    addr.is_unspecified()
        || bound.map_or_else(
            |error| error.kind() != io::ErrorKind::AddrNotAvailable,
            |_| true,
        )
}

/// The address that this host sends from to `peer`, if it knows a way. Sends nothing.
pub(super) fn source_for(peer: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = std::net::UdpSocket::bind((any, 0)).ok()?;
    socket.connect(peer).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// A netlink socket in the clothes of one for UDP: both are told by messages, and reading is all
/// that is done with it.
fn open() -> io::Result<UdpSocket> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    // Without a protocol it is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
    UdpSocket::from_std(socket.into())
}

/// `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV4_ROUTE`, `RTMGRP_IPV6_IFADDR` and `RTMGRP_IPV6_ROUTE` of
/// rtnetlink(7).
const GROUPS: u32 = 0x10 | 0x40 | 0x100 | 0x400;

fn drain(socket: &UdpSocket) {
    let mut buf = [0; READ_LEN];
    for _ in 0..MAX_READS {
        match socket.try_recv(&mut buf) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // ENOBUFS: some were lost, and more may wait.
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_no_interface_has_is_not_local() {
        assert!(is_local([127, 0, 0, 1].into()));
        assert!(is_local([0, 0, 0, 0].into()));
        // Of the block for documents: nobody has it.
        assert!(!is_local([192, 0, 2, 77].into()));
    }

    #[test]
    fn this_host_reaches_itself_from_itself() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(source_for((loopback, 7000).into()), Some(loopback));
    }
}
