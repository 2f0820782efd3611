//! UDP sockets that outlive errors.
//!
//! quinn's own gives up on nothing either, but says nothing. Ours tells of the one error that means
//! something: the peer's host has refused a packet (ICMP port unreachable), which Linux reports on
//! connected sockets only, so that of a client is connected.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use socket2::Socket;
use tokio::io::Interest;
use tokio::sync::Notify;

use crate::udp::{self, UdpIo};
use crate::udp_port::Queue;

/// How often the peer's host has refused a packet, and how often anything has come from there.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    n: AtomicU64,
    changed: Notify,
    n_heard: AtomicU64,
}

impl Refusals {
    /// Waits until there are more than `n_seen`, and returns how many.
    pub(super) async fn wait(&self, n_seen: u64) -> u64 {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let n = self.n.load(Ordering::Acquire);
            if n > n_seen {
                return n;
            }
            changed.await;
        }
    }

    /// How many there have been.
    pub(super) fn n(&self) -> u64 {
        self.n.load(Ordering::Acquire)
    }

    /// How often packets have come. Whose they are is not known yet: relaxed is enough.
    pub(super) fn n_heard(&self) -> u64 {
        self.n_heard.load(Ordering::Relaxed)
    }

    fn note(&self) {
        self.n.fetch_add(1, Ordering::Release);
        self.changed.notify_waiters();
    }
}

/// Full packets of quinn's (1,472 bytes) that have room for the longest datagram that a kernel puts
/// together of several, 65,535 bytes.
const MAX_RECEIVE_SEGMENTS: usize = 65_535_usize.div_ceil(1472);

/// A bound UDP socket, for quinn.
#[derive(Debug)]
pub(super) struct UdpSocket {
    io: Arc<UdpIo>,
    refusals: Arc<Refusals>,
    /// Takes what is KCP's, on a socket for both.
    beside: Option<Arc<Queue>>,
}

impl UdpSocket {
    /// Binds a server's socket, see [`udp::listen`].
    pub(super) fn listen(addr: SocketAddr) -> io::Result<Arc<Self>> {
        Self::wrap(udp::listen(addr)?, Arc::default())
    }

    /// Makes a client's socket, connected to `peer`.
    pub(super) fn connect(
        peer: SocketAddr,
        local_ip: Option<IpAddr>,
        refusals: Arc<Refusals>,
    ) -> io::Result<Arc<Self>> {
        Self::wrap(udp::connect(peer, local_ip)?, refusals)
    }

    /// The part that QUIC has in a socket for KCP too: it reads for both.
    pub(super) fn beside_kcp(io: Arc<UdpIo>, queue: Arc<Queue>) -> Arc<Self> {
        Arc::new(Self {
            io,
            refusals: Arc::default(),
            beside: Some(queue),
        })
    }

    fn wrap(socket: Socket, refusals: Arc<Refusals>) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            io: Arc::new(UdpIo::new(socket)?),
            refusals,
            beside: None,
        }))
    }

    /// Receives once. `Ok(0)` when nothing of it was QUIC's.
    fn poll_recv_once(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let UdpIo { socket, state } = &*self.io;
        loop {
            ready!(socket.poll_recv_ready(cx))?;
            let received =
                socket.try_io(Interest::READABLE, || state.recv(socket.into(), bufs, meta));
            match received {
                Ok(n) => {
                    self.refusals.n_heard.fetch_add(1, Ordering::Relaxed);
                    let sort_out = |queue: &Arc<Queue>| queue.sort_out(bufs, meta, n);
                    return Poll::Ready(Ok(self.beside.as_ref().map_or(n, sort_out)));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => self.note_error(&e),
            }
        }
    }

    fn note_error(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::ConnectionRefused {
            self.refusals.note();
        } else {
            tracing::trace!(%error, "UDP socket");
        }
    }
}

impl AsyncUdpSocket for UdpSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller {
            socket: self,
            writable: None,
        })
    }

    /// A packet that cannot be sent is as good as lost on the way: `Ok`.
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        for _ in 0..SEND_ATTEMPTS {
            let UdpIo { socket, state } = &*self.io;
            let sent = socket.try_io(Interest::WRITABLE, || {
                state.try_send(socket.into(), transmit)
            });
            match sent {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(e),
                // It is about an earlier packet; this one has not been sent yet.
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => self.note_error(&e),
                Err(e) => {
                    self.note_error(&e);
                    return Ok(());
                }
                Ok(()) => return Ok(()),
            }
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        for _ in 0..MAX_RECEIVES {
            let n_received = ready!(self.poll_recv_once(cx, bufs, meta))?;
            if n_received > 0 {
                return Poll::Ready(Ok(n_received));
            }
        }
        // A flood of KCP's does not keep others from their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.io.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        // quinn has room for so many full packets, 32 times: 2 MiB of each socket.
        self.io.state.gro_segments().min(MAX_RECEIVE_SEGMENTS)
    }

    fn may_fragment(&self) -> bool {
        self.io.state.may_fragment()
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        if let Some(queue) = &self.beside {
            queue.leave_to_kcp();
        }
    }
}

/// Waits until one socket can send, for one connection.
struct Poller {
    socket: Arc<UdpSocket>,
    writable: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>>,
}

impl UdpPoller for Poller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = Arc::clone(&self.socket);
        let writable = self
            .writable
            .get_or_insert_with(|| Box::pin(async move { socket.io.socket.writable().await }));
        let outcome = ready!(writable.as_mut().poll(cx));
        self.writable = None;
        Poll::Ready(outcome)
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").finish_non_exhaustive()
    }
}

/// System calls that bring only KCP's before others get their turn.
const MAX_RECEIVES: usize = 8;

/// An error about an earlier packet is reported in place of sending; there is one at a time.
const SEND_ATTEMPTS: usize = 2;
