//! Socket options that every TCP connection of ours gets.

use std::io;
use std::sync::Once;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// How the system sends on a connection between the two programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sending {
    /// The congestion control.
    pub congestion: TcpCongestion,
    /// How many bytes of what was written may wait in the system for their first sending: beyond
    /// it a writer waits. `None`: as the system has it, up to the send buffer's megabytes.
    pub notsent_lowat: Option<u32>,
    /// The most that is sent, in bytes a second. Never 0.
    pub max_rate: Option<u64>,
}

impl Default for Sending {
    fn default() -> Self {
        Self {
            congestion: TcpCongestion::default(),
            notsent_lowat: Some(DEFAULT_NOTSENT_LOWAT),
            max_rate: None,
        }
    }
}

/// The system's congestion control for a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TcpCongestion {
    /// BBR, where the system offers it: lost packets make Cubic slow (RFC 9438 section 5.2) and BBR
    /// not, up to some 15 %. Beside one Cubic flow it takes four fifths of a clean link.
    Bbr,
    /// BBR, where the system offers it, and what the system has by default while others fill the
    /// queue of a path that loses nothing by chance, so that they get their share.
    #[default]
    Auto,
    /// What the system has by default.
    System,
    /// The one of this name.
    Named(String),
}

/// Sets the options of a connection between the two programs. None of them is worth losing a
/// connection for, so failures are only noted.
pub(super) fn apply(socket: &TcpStream, idle: Option<Duration>, sending: &Sending) {
    // Whoever writes has coalesced what belongs together.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    keep_alive(socket, idle);
    let socket = SockRef::from(socket);
    set_congestion(&socket, &sending.congestion);
    if let Some(lowat) = sending.notsent_lowat
        && let Err(error) = socket.set_tcp_notsent_lowat(lowat)
    {
        tracing::debug!(%error, "cannot set TCP_NOTSENT_LOWAT");
    }
    if let Some(rate) = sending.max_rate
        && let Err(error) = set_max_pacing_rate(&socket, rate)
    {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| tracing::warn!(%error, "cannot limit the rate of TCP connections"));
    }
}

/// A system may not have a congestion control, or not allow it to this user
/// (`net.ipv4.tcp_allowed_congestion_control`). It is the same for every connection, so it is said
/// once: as a warning if somebody asked for it.
fn set_congestion(socket: &SockRef<'_>, congestion: &TcpCongestion) {
    static ONCE: Once = Once::new();
    match congestion {
        // What adapts begins by itself.
        TcpCongestion::Auto | TcpCongestion::System => {}
        TcpCongestion::Bbr => {
            if let Err(error) = socket.set_tcp_congestion(BBR.as_bytes()) {
                ONCE.call_once(|| tracing::debug!("TCP goes on without BBR: {error}"));
            }
        }
        TcpCongestion::Named(name) => {
            if let Err(error) = socket.set_tcp_congestion(name.as_bytes()) {
                ONCE.call_once(|| {
                    tracing::warn!("TCP goes on without the congestion control {name}: {error}");
                });
            }
        }
    }
}

/// Whether BBR, of whichever version, sends on a connection.
pub(super) fn is_bbr(socket: &TcpStream) -> bool {
    let name = SockRef::from(socket).tcp_congestion();
    name.is_ok_and(|name| name.starts_with(BBR.as_bytes()))
}

/// Has the system send at most this many bytes a second. It holds with every queue discipline:
/// where `fq` does not pace, TCP does so itself (Linux 4.13).
pub(super) fn set_max_pacing_rate(socket: &SockRef<'_>, bytes_per_second: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    // Linux takes a C `unsigned long`, whose largest value is `NO_MAX_RATE`.
    let rate = libc::c_ulong::try_from(bytes_per_second).unwrap_or(libc::c_ulong::MAX);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the size of an integer fits any type"
    )]
    let len = size_of_val(&rate) as libc::socklen_t;
    #[expect(unsafe_code, reason = "no crate of ours has this socket option")]
    // SAFETY: the socket is open as long as it is borrowed, and the option's value is `len` bytes
    // at a pointer that lives through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MAX_PACING_RATE,
            std::ptr::from_ref(&rate).cast(),
            len,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
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

/// The rate that is no bound.
pub(super) const NO_MAX_RATE: u64 = u64::MAX;

/// Linux's name of BBR.
pub(super) const BBR: &str = "bbr";

/// What may wait in the system for its first sending: 10 ms at 100 Mbit/s, behind which a control
/// message or a keystroke waits that comes after bulk. More is not needed to keep the path full,
/// since what is in flight does not count. Measured on 100 Mbit/s with a round trip of 50 ms: beside
/// a download at 95 Mbit/s an echo takes 79 ms (p50) and 100 ms (p99), without it 154 and 161 ms.
/// Half of it makes that no better.
pub const DEFAULT_NOTSENT_LOWAT: u32 = 128 * 1024;

/// As Go's net package sets them, so that a dead peer is noticed as soon as with frp.
const PROBE_INTERVAL: Duration = Duration::from_secs(15);
const PROBES: u32 = 9;
