//! Socket options that every TCP connection of ours gets.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Sets the options of a connection between the two programs. None of them is worth losing a
/// connection for, so failures are only noted.
pub(super) fn apply(socket: &TcpStream, idle: Option<Duration>) {
    // Whoever writes has coalesced what belongs together.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    keep_alive(socket, idle);
}

/// Has the system probe the peer after `idle`, or never.
pub fn keep_alive(socket: &TcpStream, idle: Option<Duration>) {
    let socket = SockRef::from(socket);
    let outcome = match idle {
        Some(idle) => {
            let probes = TcpKeepalive::new()
                .with_time(idle.max(Duration::from_secs(1)))
                .with_interval(PROBE_INTERVAL)
                .with_retries(PROBES);
            socket.set_tcp_keepalive(&probes)
        }
        None => socket.set_keepalive(false),
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "cannot set TCP keep-alive");
    }
}

/// As Go's net package sets them, so that a dead peer is noticed as soon as with frp.
const PROBE_INTERVAL: Duration = Duration::from_secs(15);
const PROBES: u32 = 9;
