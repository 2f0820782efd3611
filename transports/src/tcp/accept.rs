//! Accepting that does not end.
//!
//! [`Acceptor::accept`] has no error: whatever the system says, it is counted, logged once for
//! each burst, and tried again after a pause. Out of file descriptors, one that is kept in reserve
//! takes the connection at the head of the queue and closes it, so that its peer learns something
//! instead of waiting.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// Takes connections from a listening socket.
#[derive(Debug)]
pub struct Acceptor<L = TcpListener> {
    listener: L,
    label: &'static str,
    reserve: Option<File>,
    pause: Option<Duration>,
    burst: Option<Burst>,
}

/// A series of errors that is logged as one.
#[derive(Debug)]
struct Burst {
    n_errors: u64,
    last: Instant,
}

impl<L: AcceptSource> Acceptor<L> {
    /// Wraps `listener`. `label` says in metrics and logs whose it is: one of a few fixed words.
    pub fn new(listener: L, label: &'static str) -> Self {
        Self {
            listener,
            label,
            reserve: open_reserve(),
            pause: None,
            burst: None,
        }
    }

    /// Waits for the next connection. Cancel safe. An IPv4 peer has an IPv4 address, also on a
    /// socket for both families.
    pub async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            // Kept until after the pause, so that cancelling does not skip it.
            if let Some(pause) = self.pause {
                tokio::time::sleep(pause).await;
            }
            match poll_fn(|cx| self.listener.poll_accept(cx)).await {
                Ok((socket, peer)) => {
                    self.pause = None;
                    self.end_burst();
                    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                    return (socket, peer);
                }
                Err(error) => self.handle_error(&error),
            }
        }
    }

    /// What is accepted from.
    pub fn get_ref(&self) -> &L {
        &self.listener
    }

    fn handle_error(&mut self, error: &io::Error) {
        let cause = Cause::of(error);
        metrics::counter!(
            "holdfast_accept_errors_total",
            "listener" => self.label,
            "cause" => cause.label(),
        )
        .increment(1);
        if cause == Cause::Aborted {
            // The peer was gone before we got to it: nothing is wrong here.
            return;
        }
        let pause = self.pause.map_or(MIN_PAUSE, |pause| pause * 2);
        self.pause = Some(pause.min(MAX_PAUSE));
        self.note_error(error);
        if cause == Cause::NoFileDescriptors {
            self.shed();
        }
    }

    fn note_error(&mut self, error: &io::Error) {
        let now = Instant::now();
        match &mut self.burst {
            Some(burst) if now - burst.last < CALM => {
                burst.n_errors += 1;
                burst.last = now;
            }
            _ => {
                tracing::warn!(
                    "{} listener: accept error: {error}; going on with pauses of up to 1 s",
                    self.label
                );
                self.burst = Some(Burst {
                    n_errors: 1,
                    last: now,
                });
            }
        }
    }

    /// A burst is over once connections have come in without an error for a while.
    fn end_burst(&mut self) {
        if let Some(burst) = &self.burst
            && burst.last.elapsed() >= CALM
        {
            tracing::info!(
                "{} listener: accepting again after {} errors",
                self.label,
                burst.n_errors
            );
            self.burst = None;
        }
    }

    fn shed(&mut self) {
        drop(self.reserve.take());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let shed = self.listener.poll_accept(&mut cx);
        if let Poll::Ready(Ok(shed)) = shed {
            metrics::counter!("holdfast_rejected_total", "cause" => "no file descriptors")
                .increment(1);
            drop(shed);
        }
        self.reserve = open_reserve();
    }
}

/// Where connections come from. Tests put errors here.
pub trait AcceptSource {
    /// Polls for the next connection.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>>;
}

impl AcceptSource for TcpListener {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        self.poll_accept(cx)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    NoFileDescriptors,
    Aborted,
    Other,
}

impl Cause {
    fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE) => Self::NoFileDescriptors,
            Some(libc::ECONNABORTED | libc::EPROTO | libc::EINTR | libc::ECONNRESET) => {
                Self::Aborted
            }
            _ => Self::Other,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::NoFileDescriptors => "no file descriptors",
            Self::Aborted => "aborted",
            Self::Other => "other",
        }
    }
}

/// Opening it can fail when there are no descriptors; the next error tries again.
fn open_reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

/// The first pause after an error. Doubled with each further one.
const MIN_PAUSE: Duration = Duration::from_millis(5);

/// The longest pause: what a listener may be late in noticing that all is well again.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Without an error for so long, a burst is over and the next error is logged again.
const CALM: Duration = Duration::from_secs(10);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use tokio::io::AsyncReadExt;

    use parking_lot::Mutex;

    #[tokio::test]
    async fn an_acceptor_outlives_every_error() {
        let (_client, conn) = pair().await;
        let mut acceptor = acceptor([
            error(libc::ECONNABORTED),
            error(libc::ENFILE),
            error(libc::ENETDOWN),
            error(libc::EPERM),
            Ok(conn),
        ]);
        // Out of descriptors the head of the queue would be taken; here it is an error again.
        let (_, peer) = acceptor.accept().await;
        assert_eq!(peer.ip().to_string(), "127.0.0.1");
        assert_eq!(acceptor.pause, None);
    }

    #[tokio::test]
    async fn without_descriptors_the_reserve_closes_the_next_connection() {
        let (mut first_client, first) = pair().await;
        let (_second_client, second) = pair().await;
        let expected = second.1;
        let mut acceptor = acceptor([error(libc::EMFILE), Ok(first), Ok(second)]);
        let (_, peer) = acceptor.accept().await;
        assert_eq!(peer, expected);
        assert_eq!(first_client.read(&mut [0]).await.unwrap(), 0);
        assert!(acceptor.reserve.is_some());
    }

    #[tokio::test]
    async fn pauses_double_up_to_a_second_and_a_gone_peer_costs_none() {
        let mut acceptor = acceptor([]);
        acceptor.handle_error(&io::Error::from_raw_os_error(libc::ECONNABORTED));
        assert_eq!(acceptor.pause, None);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            acceptor.handle_error(&io::Error::from_raw_os_error(libc::ENOBUFS));
            pauses.push(acceptor.pause.unwrap().as_millis());
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert_eq!(acceptor.burst.unwrap().n_errors, 10, "logged as one");
    }

    #[tokio::test]
    async fn an_ipv4_peer_of_a_socket_for_both_families_has_an_ipv4_address() {
        let (_client, (conn, peer)) = pair().await;
        let mapped = match peer.ip() {
            std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            std::net::IpAddr::V6(ip) => ip,
        };
        let mut acceptor = acceptor([Ok((conn, (mapped, peer.port()).into()))]);
        assert_eq!(acceptor.accept().await.1, peer);
    }

    type Accepted = io::Result<(TcpStream, SocketAddr)>;

    /// What the system is going to say, one after the other, and then nothing.
    #[derive(Debug)]
    struct Script(Mutex<VecDeque<Accepted>>);

    impl AcceptSource for Script {
        fn poll_accept(&self, _: &mut Context<'_>) -> Poll<Accepted> {
            self.0.lock().pop_front().map_or(Poll::Pending, Poll::Ready)
        }
    }

    fn acceptor<const N: usize>(script: [Accepted; N]) -> Acceptor<Script> {
        Acceptor::new(Script(Mutex::new(script.into())), "test")
    }

    fn error(code: i32) -> Accepted {
        Err(io::Error::from_raw_os_error(code))
    }

    async fn pair() -> (TcpStream, (TcpStream, SocketAddr)) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(addr), listener.accept());
        (client.unwrap(), accepted.unwrap())
    }
}
