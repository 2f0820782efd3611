//! How one end sends the datagrams of a `udp` proxy: as datagrams of the carrier in use where that
//! can be, else as messages over the proxy's work stream.
//!
//! Each datagram is decided by itself, when it comes. So they move with the session from carrier to
//! carrier: over one that has no datagrams, and while there is none, they wait for the work stream,
//! which is held. One that the path's datagrams have no room for goes over the work stream as well.

pub mod counts;
pub mod fresh_queue;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use frp_proto::msg::UdpPacket;
use parking_lot::Mutex;

use crate::hold::flow::{Flow, FlowError};
use counts::count_dropped;
use fresh_queue::FreshQueue;

/// The sending side of one proxy at one end.
#[derive(Debug)]
pub struct UdpWay {
    /// While the peer takes the proxy's datagrams as those of a carrier.
    flow: Mutex<Option<Arc<Flow>>>,
    waiting: FreshQueue<UdpPacket>,
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It has gone.
    Datagram,
    /// It waits for the work stream.
    Waiting,
    /// It was dropped, and counted.
    Dropped,
}

impl UdpWay {
    /// Over the work stream only, until [`UdpWay::open`].
    pub fn new() -> Self {
        Self {
            flow: Mutex::default(),
            waiting: FreshQueue::new(MAX_WAITING),
        }
    }

    /// The peer takes datagrams of this flow from here on.
    pub fn open(&self, flow: &Arc<Flow>) {
        *self.flow.lock() = Some(Arc::clone(flow));
    }

    /// The work stream is over, and the flow with it.
    pub fn close(&self) {
        *self.flow.lock() = None;
    }

    /// Sends what came from `user`, or goes to it. Never waits.
    pub fn send(&self, user: SocketAddr, content: &[u8]) -> Sent {
        let flow = self.flow.lock().clone();
        match flow.map(|flow| flow.send(user, content)) {
            Some(Ok(())) => return Sent::Datagram,
            Some(Err(FlowError::PathFull)) => {
                count_dropped("path full");
                return Sent::Dropped;
            }
            // It is too long, or the carrier has no datagrams, or there is none.
            Some(Err(FlowError::NotAsDatagram)) | None => {}
        }
        let packet = UdpPacket {
            content: Bytes::copy_from_slice(content),
            remote: Some(user.into()),
            ..UdpPacket::default()
        };
        if self.waiting.push(packet) {
            count_dropped("queue full");
        }
        Sent::Waiting
    }

    /// Waits for the next message for the work stream. Cancel safe; for one task.
    pub async fn next(&self) -> UdpPacket {
        self.waiting.pop().await
    }

    /// The next one, if there is one already.
    pub fn try_next(&self) -> Option<UdpPacket> {
        self.waiting.try_pop()
    }
}

impl Default for UdpWay {
    fn default() -> Self {
        Self::new()
    }
}

/// Datagrams waiting for the work stream, as in frp. At the bound the oldest is dropped.
const MAX_WAITING: usize = 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_flow_all_wait_for_the_stream_and_the_newest_are_kept() {
        let way = UdpWay::new();
        let user = "192.0.2.1:53".parse().unwrap();
        for n in 0..MAX_WAITING + 2 {
            assert_eq!(way.send(user, &n.to_be_bytes()), Sent::Waiting);
        }
        let first = way.next().await;
        assert_eq!(first.remote.unwrap().socket_addr(), Some(user));
        assert_eq!(&first.content[..], 2_usize.to_be_bytes());
        assert_eq!(
            std::iter::from_fn(|| way.try_next()).count(),
            MAX_WAITING - 1
        );
    }
}
