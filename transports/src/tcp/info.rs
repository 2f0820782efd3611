//! What the system knows of a TCP connection.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use lossy::Look;
use parking_lot::Mutex;
use tokio::net::TcpStream;

use super::options;
use crate::PathStats;
use crate::info::Path;

/// The path of a TCP connection. Asks its socket, for as long as that is open.
#[derive(Debug)]
pub(super) struct TcpPath {
    /// Taken away before the socket is closed: its number is another one's then.
    socket: Mutex<Option<RawFd>>,
    control: AtomicU8,
}

/// What [`TcpPath::control`] holds.
const OTHER: u8 = 0;
const ADAPTS: u8 = 1;
const BY_BBR: u8 = 2;

/// How long the system sends the same data again to a peer that two probers watch. Its own bound is
/// about 15 minutes, in which a dead connection keeps its buffers. Whoever watches decides sooner;
/// frps closes a client's carrier after as long a silence.
const WATCHED_USER_TIMEOUT: Duration = Duration::from_secs(60);

impl TcpPath {
    /// Whoever owns the socket says [`TcpPath::forget`] before it is closed.
    pub(super) fn new(socket: &TcpStream) -> Arc<Self> {
        let control = match options::is_bbr(socket) {
            true => BY_BBR,
            false => OTHER,
        };
        Arc::new(Self {
            socket: Mutex::new(Some(socket.as_raw_fd())),
            control: AtomicU8::new(control),
        })
    }

    /// Says whether BBR sends from now on, or what makes room for it when the path asks for that.
    pub(super) fn handle_adapted(&self, is_bbr: bool) {
        let control = if is_bbr { BY_BBR } else { ADAPTS };
        self.control.store(control, Ordering::Relaxed);
    }

    /// The socket is about to be closed.
    pub(super) fn forget(&self) {
        *self.socket.lock() = None;
    }
}

impl Path for TcpPath {
    fn fill(&self, stats: &mut PathStats) {
        let socket = self.socket.lock();
        if let Some(info) = socket.and_then(TcpInfo::read) {
            info.fill(stats);
        }
        let control = self.control.load(Ordering::Relaxed);
        stats.is_bbr = control == BY_BBR;
        stats.adapts_to_loss = control == ADAPTS;
    }

    fn handle_watched(&self) {
        let socket = self.socket.lock();
        // Only multiplexed carriers are watched, and what reads them waits for no user: a window
        // that stays shut, which the timeout counts too, is a peer that does not run.
        if let Some(Err(error)) = socket.map(|fd| set_user_timeout(fd, WATCHED_USER_TIMEOUT)) {
            tracing::debug!(%error, "cannot set TCP_USER_TIMEOUT");
        }
    }
}

/// `socket` must be open during the call.
fn set_user_timeout(socket: RawFd, timeout: Duration) -> std::io::Result<()> {
    // Of minutes at most.
    let millis = libc::c_uint::try_from(timeout.as_millis()).unwrap_or(libc::c_uint::MAX);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the size of an integer fits any type"
    )]
    let len = size_of_val(&millis) as libc::socklen_t;
    #[expect(unsafe_code, reason = "the socket is known by its number only")]
    // SAFETY: the option's value is `len` bytes at a pointer that lives through the call, and the
    // system refuses a number that is no socket.
    let result = unsafe {
        libc::setsockopt(
            socket,
            libc::IPPROTO_TCP,
            libc::TCP_USER_TIMEOUT,
            std::ptr::from_ref(&millis).cast(),
            len,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Linux's `struct tcp_info`, as bytes: newer systems have more of it, older ones less.
pub(super) struct TcpInfo {
    bytes: [u8; TcpInfo::LEN],
    len: usize,
}

impl TcpInfo {
    /// Up to and with `tcpi_rwnd_limited` (Linux 4.10).
    const LEN: usize = 184;

    /// `socket` must be open during the call.
    fn read(socket: RawFd) -> Option<Self> {
        let mut bytes = [0; Self::LEN];
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the length is a constant that fits"
        )]
        let mut len = Self::LEN as libc::socklen_t;
        #[expect(unsafe_code, reason = "no crate of ours has this socket option")]
        // SAFETY: the system writes at most `len` bytes to a buffer of that length, and both
        // pointers are to locals that live through the call.
        let result = unsafe {
            libc::getsockopt(
                socket,
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                bytes.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        let len = usize::try_from(len).unwrap_or(0).min(Self::LEN);
        (result == 0).then_some(Self { bytes, len })
    }

    /// What is known of this connection.
    pub(super) fn of(socket: &TcpStream) -> Option<Self> {
        Self::read(socket.as_raw_fd())
    }

    /// What tells losses of the link from those of a queue, and one's own queue from others'.
    /// `None` before the first round trip.
    pub(super) fn look(&self, at: Instant) -> Option<Look> {
        let micros = |at| self.u32_at(at).map(|n| Duration::from_micros(n.into()));
        let mss = u64::from(self.u32_at(SEND_MSS)?);
        Some(Look {
            at,
            sent: self.u32_at(DATA_SEGMENTS_SENT)?.into(),
            sent_again: self.u32_at(RETRANSMITTED)?.into(),
            acked: self.u64_at(BYTES_ACKED)?,
            srtt: micros(RTT).filter(|rtt| !rtt.is_zero())?,
            variation: micros(RTT_VARIATION)?,
            // All ones while there was none.
            min_rtt: micros(MIN_RTT).filter(|rtt| *rtt < Duration::from_secs(3600))?,
            in_flight: self.u32_at(UNACKED)?,
            window: u64::from(self.u32_at(WINDOW)?) * mss,
            has_more: self.u32_at(UNSENT)? > 0,
            peer_full: Duration::from_micros(self.u64_at(PEER_FULL)?),
            timeouts: (*self.bytes[..self.len].get(BACKOFF)?).into(),
        })
    }

    /// Whether anything is on its way, or waits to be.
    pub(super) fn is_busy(&self) -> bool {
        self.u32_at(UNACKED) > Some(0) || self.u32_at(UNSENT) > Some(0)
    }

    fn fill(&self, stats: &mut PathStats) {
        let micros = |at| self.u32_at(at).map(u64::from);
        if let Some(rtt) = micros(RTT).filter(|rtt| *rtt > 0) {
            stats.rtt = Some(Duration::from_micros(rtt));
        }
        let unacked = self.u32_at(UNACKED).zip(self.u32_at(SEND_MSS));
        stats.in_flight = unacked.map(|(n, mss)| u64::from(n) * u64::from(mss));
        let window = self.u32_at(WINDOW).zip(self.u32_at(SEND_MSS));
        stats.window = window.map(|(n, mss)| u64::from(n) * u64::from(mss));
        let mtu = self.u32_at(PATH_MTU).filter(|mtu| *mtu > 0);
        stats.mtu = mtu.and_then(|mtu| u16::try_from(mtu).ok());
        stats.acked_bytes = self.u64_at(BYTES_ACKED);
        stats.packets_sent = self.u32_at(DATA_SEGMENTS_SENT).map(u64::from);
        stats.packets_lost = self.u32_at(RETRANSMITTED).map(u64::from);
    }

    fn u32_at(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes[..self.len].get(at..)?.first_chunk()?;
        Some(u32::from_ne_bytes(*bytes))
    }

    fn u64_at(&self, at: usize) -> Option<u64> {
        let bytes = self.bytes[..self.len].get(at..)?.first_chunk()?;
        Some(u64::from_ne_bytes(*bytes))
    }
}

// Where the fields are, see `include/uapi/linux/tcp.h`: never moved, only added to.
const BACKOFF: usize = 4;
const SEND_MSS: usize = 16;
const UNACKED: usize = 24;
const PATH_MTU: usize = 60;
const RTT: usize = 68;
const RTT_VARIATION: usize = 72;
const WINDOW: usize = 80;
const RETRANSMITTED: usize = 100;
const BYTES_ACKED: usize = 120;
const UNSENT: usize = 144;
const MIN_RTT: usize = 148;
const DATA_SEGMENTS_SENT: usize = 156;
const PEER_FULL: usize = 176;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
pub(super) mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// What the system would tell of a connection that always has more to send, with a hundred
    /// segments of a kilobyte under way; times in microseconds.
    pub(in crate::tcp) fn info(sent: u32, sent_again: u32, srtt: u32, min_rtt: u32) -> TcpInfo {
        let mut bytes = [0; TcpInfo::LEN];
        for (at, value) in [
            (SEND_MSS, 1000),
            (UNACKED, 100),
            (WINDOW, 100),
            (UNSENT, 1),
            (DATA_SEGMENTS_SENT, sent),
            (RETRANSMITTED, sent_again),
            (RTT, srtt),
            (MIN_RTT, min_rtt),
        ] {
            bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        let acked = u64::from(sent - sent_again) * 1000;
        bytes[BYTES_ACKED..BYTES_ACKED + 8].copy_from_slice(&acked.to_ne_bytes());
        TcpInfo {
            bytes,
            len: TcpInfo::LEN,
        }
    }

    #[tokio::test]
    async fn a_watched_connection_is_given_up_by_the_system_too() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let path = TcpPath::new(&ours);
        let timeout = || socket2::SockRef::from(&ours).tcp_user_timeout().unwrap();
        assert_eq!(timeout().unwrap_or_default(), Duration::ZERO);
        path.handle_watched();
        assert_eq!(timeout(), Some(WATCHED_USER_TIMEOUT));
        path.forget();
        path.handle_watched();
    }

    #[tokio::test]
    async fn what_sends_is_known_by_the_name_of_its_congestion_control() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let socket = socket2::SockRef::from(&ours);
        socket.set_tcp_congestion(b"reno").unwrap();
        let is_bbr = |ours| {
            let mut stats = PathStats::default();
            TcpPath::new(ours).fill(&mut stats);
            stats.is_bbr
        };
        assert!(!is_bbr(&ours));
        // A system that does not offer it has nothing to show.
        if socket.set_tcp_congestion(b"bbr").is_ok() {
            assert!(is_bbr(&ours));
        }
    }

    #[tokio::test]
    async fn giving_way_and_going_back_to_bbr_are_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let path = TcpPath::new(&ours);
        let told = || {
            let mut stats = PathStats::default();
            path.fill(&mut stats);
            (stats.adapts_to_loss, stats.is_bbr)
        };
        path.handle_adapted(false);
        assert_eq!(told(), (true, false));
        path.handle_adapted(true);
        assert_eq!(told(), (false, true));
    }

    #[tokio::test]
    async fn the_shortest_round_trip_is_known_once_there_was_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap());
        let ours = ours.await.unwrap();
        let look = TcpInfo::of(&ours).unwrap().look(Instant::now()).unwrap();
        assert!(look.min_rtt <= look.srtt, "{look:?}");
        assert_eq!((look.sent, look.sent_again), (0, 0));
        assert!(info(1, 0, 0, u32::MAX).look(Instant::now()).is_none());
    }

    #[tokio::test]
    async fn what_the_peer_has_acknowledged_is_known_as_long_as_the_socket_is_open() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(TcpStream::connect(addr), listener.accept());
        let (mut ours, (mut theirs, _)) = (ours.unwrap(), theirs.unwrap());
        let path = TcpPath::new(&ours);
        ours.write_all(&[1; 10_000]).await.unwrap();
        theirs.read_exact(&mut [0; 10_000]).await.unwrap();
        theirs.write_all(b"all of it").await.unwrap();
        ours.read_exact(&mut [0; 9]).await.unwrap();

        let mut stats = PathStats::default();
        path.fill(&mut stats);
        // The SYN counts as a byte.
        assert!(stats.acked_bytes.unwrap() >= 10_000, "{stats:?}");
        assert_eq!(stats.in_flight, Some(0));
        assert!(stats.rtt.is_some() && stats.packets_sent > Some(0));
        assert_eq!(stats.packets_lost, Some(0));

        path.forget();
        let mut stats = PathStats::default();
        path.fill(&mut stats);
        assert_eq!(stats.acked_bytes, None);
    }
}
