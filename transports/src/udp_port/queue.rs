//! What QUIC's side has read for KCP's.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use quinn::udp::RecvMeta;

use super::sort::{Owner, owner};

/// Datagrams for KCP. Full, it loses the newest, as the system's own queue does.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    arrivals: VecDeque<Arrival>,
    /// What they count as.
    weight: usize,
    waker: Option<Waker>,
    is_quic_gone: bool,
    is_kcp_gone: bool,
}

/// Datagrams that came together: of one length, but for the last, which may be shorter.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) bytes: Vec<u8>,
    pub(crate) datagram_len: usize,
    pub(crate) peer: SocketAddr,
    pub(crate) local_ip: Option<IpAddr>,
}

impl Queue {
    /// Takes KCP's datagrams out of what has been received, and returns how many buffers hold
    /// QUIC's. These come first then, with their `metas`.
    pub(crate) fn sort_out(
        &self,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
        n_received: usize,
    ) -> usize {
        let mut n_kept = 0;
        for idx in 0..n_received {
            let meta = metas[idx];
            let (rest_len, arrival) = split(&mut buffers[idx], meta);
            if let Some(arrival) = arrival {
                self.push(arrival);
            }
            if rest_len > 0 {
                buffers.swap(n_kept, idx);
                metas[n_kept] = RecvMeta {
                    len: rest_len,
                    ..meta
                };
                n_kept += 1;
            }
        }
        n_kept
    }

    fn push(&self, arrival: Arrival) {
        let mut state = self.state.lock();
        if state.is_kcp_gone {
            return;
        }
        let weight = arrival.weight();
        if state.weight + weight > MAX_WEIGHT {
            drop(state);
            metrics::counter!("holdfast_udp_port_dropped_total").increment(1);
            return;
        }
        state.weight += weight;
        state.arrivals.push_back(arrival);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes what has come, at most `n_max` arrivals. `None` once QUIC's side reads no more: then
    /// KCP's has to.
    pub(crate) fn poll_take(&self, cx: &Context<'_>, n_max: usize) -> Poll<Option<Vec<Arrival>>> {
        let mut state = self.state.lock();
        if state.arrivals.is_empty() {
            if state.is_quic_gone {
                return Poll::Ready(None);
            }
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let n_taken = state.arrivals.len().min(n_max);
        let taken: Vec<_> = state.arrivals.drain(..n_taken).collect();
        state.weight -= taken.iter().map(Arrival::weight).sum::<usize>();
        Poll::Ready(Some(taken))
    }

    /// QUIC's side has let go of the socket.
    pub(crate) fn leave_to_kcp(&self) {
        let waker = {
            let mut state = self.state.lock();
            state.is_quic_gone = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// KCP's side has let go of the socket.
    pub(crate) fn leave_to_quic(&self) {
        let mut state = self.state.lock();
        state.is_kcp_gone = true;
        state.arrivals = VecDeque::new();
        state.weight = 0;
    }
}

impl Arrival {
    fn weight(&self) -> usize {
        self.bytes.len() + OVERHEAD
    }
}

/// Takes KCP's datagrams out of one buffer, and returns how many bytes of others are left in it.
fn split(buffer: &mut [u8], meta: RecvMeta) -> (usize, Option<Arrival>) {
    // A stride of nothing is a datagram of nothing, which nobody waits for.
    let stride = meta.stride.max(1);
    let received = &buffer[..meta.len];
    let n_kcps = received
        .chunks(stride)
        .filter(|datagram| owner(datagram) == Owner::Kcp)
        .count();
    if n_kcps == 0 {
        return (meta.len, None);
    }
    let arrival = |bytes| Arrival {
        bytes,
        datagram_len: stride,
        peer: meta.addr,
        local_ip: meta.dst_ip,
    };
    if n_kcps == meta.len.div_ceil(stride) {
        return (0, Some(arrival(received.to_vec())));
    }
    // Both from one address and port: not by any client of ours.
    let mut bytes = Vec::with_capacity(n_kcps * stride);
    let mut rest_len = 0;
    for start in (0..meta.len).step_by(stride) {
        let end = (start + stride).min(meta.len);
        match owner(&buffer[start..end]) {
            Owner::Kcp => bytes.extend_from_slice(&buffer[start..end]),
            Owner::Quic => {
                buffer.copy_within(start..end, rest_len);
                rest_len += end - start;
            }
        }
    }
    (rest_len, Some(arrival(bytes)))
}

/// What may wait: as much as in the system's queue before it.
const MAX_WEIGHT: usize = 4 * 1024 * 1024;

/// What an arrival counts beside its bytes, so that many short ones are bounded as well.
const OVERHEAD: usize = 128;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn quic(fill: u8) -> Vec<u8> {
        [&[0xc0, 0, 0, 0, 1][..], &[fill; 15]].concat()
    }

    fn kcp(fill: u8) -> Vec<u8> {
        [&[7, 0, 0, 0, 81][..], &[fill; 15]].concat()
    }

    fn meta(len: usize, stride: usize) -> RecvMeta {
        RecvMeta {
            addr: "127.0.0.1:9".parse().unwrap(),
            len,
            stride,
            ..RecvMeta::default()
        }
    }

    fn take(queue: &Queue) -> Vec<Arrival> {
        let cx = Context::from_waker(Waker::noop());
        match queue.poll_take(&cx, 100) {
            Poll::Ready(Some(arrivals)) => arrivals,
            _ => Vec::new(),
        }
    }

    #[test]
    fn each_side_gets_its_own_in_order() {
        let queue = Queue::default();
        let mut buffers = [
            kcp(1),
            quic(2),
            [kcp(3), kcp(4)].concat(),
            [quic(5), quic(6)].concat(),
        ];
        let mut metas = buffers.each_ref().map(|b| meta(b.len(), 20));
        let mut slices = buffers.each_mut().map(|b| IoSliceMut::new(b));

        let n_kept = queue.sort_out(&mut slices, &mut metas, 4);

        assert_eq!(n_kept, 2);
        assert_eq!(
            (&slices[0][..metas[0].len], metas[0].len),
            (&quic(2)[..], 20)
        );
        assert_eq!(&slices[1][..metas[1].len], [quic(5), quic(6)].concat());
        let arrivals: Vec<_> = take(&queue).into_iter().map(|a| a.bytes).collect();
        assert_eq!(arrivals, [kcp(1), [kcp(3), kcp(4)].concat()]);
    }

    #[test]
    fn a_mixture_from_one_address_is_taken_apart() {
        let queue = Queue::default();
        let short = kcp(4)[..8].to_vec();
        let mut buffer = [kcp(1), quic(2), quic(3), short.clone()].concat();
        let mut metas = [meta(buffer.len(), 20)];
        let mut slices = [IoSliceMut::new(&mut buffer)];

        assert_eq!(queue.sort_out(&mut slices, &mut metas, 1), 1);

        assert_eq!(&slices[0][..metas[0].len], [quic(2), quic(3)].concat());
        let arrivals = take(&queue);
        assert_eq!(arrivals[0].bytes, [kcp(1), short].concat());
        assert_eq!(arrivals[0].datagram_len, 20);
    }

    #[test]
    fn nothing_is_kept_beyond_the_bound_or_for_nobody() {
        let queue = Queue::default();
        let flood = |n: usize| {
            for _ in 0..n {
                let mut buffer = kcp(0);
                let mut metas = [meta(20, 20)];
                queue.sort_out(&mut [IoSliceMut::new(&mut buffer)], &mut metas, 1);
            }
        };
        flood(100_000);
        let n_kept = queue.state.lock().arrivals.len();
        assert_eq!(n_kept, MAX_WEIGHT / (20 + OVERHEAD));
        assert_eq!(take(&queue).len(), 100);
        flood(200);
        assert_eq!(queue.state.lock().arrivals.len(), n_kept);
        queue.leave_to_quic();
        flood(1);
        assert!(queue.state.lock().arrivals.is_empty());
    }

    #[test]
    fn kcp_learns_when_it_has_to_read_itself() {
        let queue = Queue::default();
        let cx = Context::from_waker(Waker::noop());
        assert!(queue.poll_take(&cx, 1).is_pending());
        queue.leave_to_kcp();
        assert!(matches!(queue.poll_take(&cx, 1), Poll::Ready(None)));
    }
}
