//! A UDP socket that sends and receives many datagrams at once.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit};
use rustix::net::sockopt;
use socket2::Socket;
use tokio::io::Interest;

use crate::udp::UdpIo;
use crate::udp_port::Queue;

/// A bound UDP socket.
#[derive(Debug)]
pub(super) struct UdpSocket {
    io: Arc<UdpIo>,
    /// What QUIC reads for us, on a socket for both.
    beside: Option<Arc<Queue>>,
    /// Where what arrives is put. Not there while nothing does.
    buffer: Vec<u8>,
    n_buffers: usize,
    has_received: bool,
}

/// Datagrams of one length to one address; the last may be shorter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    pub(super) peer: SocketAddr,
    /// The address of this host that the peer knows.
    pub(super) local_ip: Option<IpAddr>,
    pub(super) datagram_len: usize,
}

impl UdpSocket {
    /// Takes a socket over. `n_buffers` receive buffers of [`BUFFER_LEN`] are used at once.
    pub(super) fn new(socket: Socket, n_buffers: usize) -> io::Result<Self> {
        let io = UdpIo::new(socket)?;
        let is_v6 = io.socket.local_addr()?.is_ipv6();
        // That was for finding out how long packets may be. KCP's length is fixed, so that one too
        // long for the path is to be sent in pieces, as frp's is. It can only fail on hosts where
        // nothing of this was changed either.
        let _ = sockopt::set_ip_mtu_discover(&io.socket, sockopt::Ipv4PathMtuDiscovery::WANT);
        if is_v6 {
            let _ = sockopt::set_ipv6_mtu_discover(&io.socket, sockopt::Ipv6PathMtuDiscovery::WANT);
        }
        Ok(Self {
            io: Arc::new(io),
            beside: None,
            buffer: Vec::new(),
            n_buffers,
            has_received: false,
        })
    }

    /// The part that KCP has in a socket for QUIC too. Its packets are short enough for nearly
    /// every path, and where they are not, QUIC's are.
    pub(super) fn beside_quic(io: Arc<UdpIo>, queue: Arc<Queue>) -> Self {
        Self {
            io,
            beside: Some(queue),
            buffer: Vec::new(),
            n_buffers: MAX_BUFFERS,
            has_received: false,
        }
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.socket.local_addr()
    }

    /// Sends a batch, which must not be empty. A packet that cannot be sent is as good as lost on
    /// the way: `Ok`. An error of kind `ConnectionRefused` is about an earlier packet.
    pub(super) fn try_send(&self, batch: Batch, contents: &[u8]) -> io::Result<()> {
        let is_single = contents.len() <= batch.datagram_len;
        let transmit = Transmit {
            destination: batch.peer,
            ecn: None,
            contents,
            segment_size: (!is_single).then_some(batch.datagram_len),
            src_ip: batch.local_ip,
        };
        let UdpIo { socket, state } = &*self.io;
        let sent = socket.try_io(Interest::WRITABLE, || {
            state.try_send(socket.into(), &transmit)
        });
        match sent.as_ref().map_err(io::Error::kind) {
            Err(io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused) => sent,
            Err(_) => {
                tracing::trace!(error = ?sent, "UDP socket");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Waits until there may be room for sending.
    pub(super) fn poll_send_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.socket.poll_send_ready(cx)
    }

    /// How many datagrams of `len` bytes [`try_send`](Self::try_send) takes at once.
    pub(super) fn max_batch(&self, len: usize) -> usize {
        self.io
            .state
            .max_gso_segments()
            .min(MAX_BATCH_LEN / len)
            .max(1)
    }

    /// Receives once. Calls `on_datagram` with each datagram, where it comes from, and the address
    /// of this host that it was sent to.
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        mut on_datagram: impl FnMut(&[u8], SocketAddr, Option<IpAddr>),
    ) -> Poll<io::Result<()>> {
        if let Some(queue) = &self.beside
            && let Some(arrivals) = ready!(queue.poll_take(cx, self.n_buffers))
        {
            for arrival in arrivals {
                for datagram in arrival.bytes.chunks(arrival.datagram_len) {
                    on_datagram(datagram, arrival.peer, arrival.local_ip);
                }
            }
            return Poll::Ready(Ok(()));
        }
        let UdpIo { socket, state } = &*self.io;
        loop {
            ready!(socket.poll_recv_ready(cx))?;
            self.buffer.resize(self.n_buffers * BUFFER_LEN, 0);
            let mut metas = [RecvMeta::default(); MAX_BUFFERS];
            let metas = &mut metas[..self.n_buffers];
            let received = {
                let mut buffers = self.buffer.chunks_mut(BUFFER_LEN);
                let mut slices: [IoSliceMut<'_>; MAX_BUFFERS] =
                    std::array::from_fn(|_| IoSliceMut::new(buffers.next().unwrap_or_default()));
                let slices = &mut slices[..self.n_buffers];
                socket.try_io(Interest::READABLE, || {
                    state.recv(socket.into(), slices, metas)
                })
            };
            let n_received = match received {
                Ok(n_received) => n_received,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
                Err(e) => return Poll::Ready(Err(e)),
            };
            self.has_received = true;
            let buffers = self.buffer.chunks(BUFFER_LEN);
            for (meta, buffer) in metas[..n_received].iter().zip(buffers) {
                // A stride of nothing is a datagram of nothing.
                for datagram in buffer[..meta.len].chunks(meta.stride.max(1)) {
                    on_datagram(datagram, meta.addr, meta.dst_ip);
                }
            }
            return Poll::Ready(Ok(()));
        }
    }

    /// Gives the receive buffers back if nothing has been received since the last call.
    pub(super) fn rest(&mut self) {
        if !std::mem::take(&mut self.has_received) {
            self.buffer = Vec::new();
        }
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        if let Some(queue) = &self.beside {
            queue.leave_to_quic();
        }
    }
}

/// A buffer for what the system has put together (GRO): no UDP packet is longer.
const BUFFER_LEN: usize = 64 * 1024;

/// Buffers in one system call.
pub(super) const MAX_BUFFERS: usize = 4;

/// The longest payload of a UDP packet, which is what a batch counts as (GSO).
const MAX_BATCH_LEN: usize = 65_507;
