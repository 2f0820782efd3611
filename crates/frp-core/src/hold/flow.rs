//! Datagrams of `udp` proxies as datagrams of the session's carriers: unordered, never repeated.
//!
//! 1. The server gives a proxy's work stream a number with [`HeldSession::open_flow`], and tells it
//!    with `StartWorkConn`. The client takes it with [`HeldSession::take_flow`].
//! 2. [`Flow::send`] sends over the carrier that is in use at that moment, within what [`share`]
//!    leaves to datagrams, which go ahead of all streams.
//! 3. What comes, over any carrier of the session, waits in the queue of its flow for
//!    [`Flow::recv`]. A flow is the session's: no other client can name it.

mod share;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use frp_proto::hold::{UserDatagram, user_datagram, varint};
use parking_lot::Mutex;
use transports::DatagramError;

use super::HeldSession;
use super::clock::now;
use crate::udp::counts::count_dropped;
use crate::udp::fresh_queue::FreshQueue;
use share::{Share, Sight};

/// The flows of one session.
#[derive(Debug, Default)]
pub(in crate::hold) struct Flows {
    by_number: Mutex<HashMap<u64, Arc<Arrived>>>,
    last: AtomicU64,
    share: Mutex<Share>,
}

/// What has come for a flow.
type Arrived = FreshQueue<(SocketAddr, Bytes)>;

/// The datagrams of one proxy, both ways, until it is dropped.
pub struct Flow {
    number: u64,
    session: Arc<HeldSession>,
    arrived: Arc<Arrived>,
    n_sent: metrics::Counter,
}

/// Why a datagram has not gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlowError {
    /// The carrier in use has no datagrams or none that long, the user's address cannot be written,
    /// or there is no carrier: it may go over the work stream.
    #[error("the carrier in use does not take it as a datagram")]
    NotAsDatagram,
    /// The path carries no more. The datagram is dropped: over the work stream it would only be
    /// late.
    #[error("the path is full")]
    PathFull,
}

impl Flow {
    /// Names it on the wire.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Sends one datagram over the carrier in use. Never waits.
    pub fn send(&self, user: SocketAddr, content: &[u8]) -> Result<(), FlowError> {
        if !UserDatagram::can_name(user) {
            return Err(FlowError::NotAsDatagram);
        }
        let in_use = self.session.carrier_in_use();
        let (id, carrier) = in_use.ok_or(FlowError::NotAsDatagram)?;
        let unsent = carrier.unsent_datagrams();
        let unsent = unsent.ok_or(FlowError::NotAsDatagram)? as u64;
        let len = content.len() as u64;
        let look = || Sight {
            acked_bytes: carrier.path_stats().acked_bytes,
            streams_wait: self.session.streams_wait(),
        };
        let is_admitted = self
            .session
            .flows
            .share
            .lock()
            .admit(now(), id, len, unsent, look);
        if !is_admitted {
            return Err(FlowError::PathFull);
        }
        let mut datagram = Vec::with_capacity(user_datagram::MAX_HEADER_LEN + content.len());
        UserDatagram::encode(self.number, user, content, &mut datagram);
        match carrier.send_datagram(datagram.into()) {
            Ok(()) => {
                self.n_sent.increment(1);
                self.session.note_user_bytes(content.len());
                Ok(())
            }
            Err(
                DatagramError::TooLong | DatagramError::Unsupported | DatagramError::Carrier(_),
            ) => Err(FlowError::NotAsDatagram),
        }
    }

    /// Waits for the next datagram. Cancel safe; for one task.
    pub async fn recv(&self) -> (SocketAddr, Bytes) {
        self.arrived.pop().await
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.session.flows.by_number.lock().remove(&self.number);
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Flow").field(&self.number).finish()
    }
}

impl HeldSession {
    /// Server: a flow with a number that no other has had. `None` when there are too many.
    pub fn open_flow(self: &Arc<Self>) -> Option<Flow> {
        let number = self.flows.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.take_flow(number)
    }

    /// Client: the flow that the server has given this number. `None` when there are too many, or
    /// the number is none, or is taken.
    pub fn take_flow(self: &Arc<Self>, number: u64) -> Option<Flow> {
        if number == 0 || number > varint::MAX {
            return None;
        }
        let mut by_number = self.flows.by_number.lock();
        if by_number.len() >= MAX_FLOWS {
            return None;
        }
        let Entry::Vacant(place) = by_number.entry(number) else {
            return None;
        };
        let arrived = Arc::new(FreshQueue::new(MAX_ARRIVED));
        place.insert(Arc::clone(&arrived));
        Some(Flow {
            number,
            session: Arc::clone(self),
            arrived,
            n_sent: metrics::counter!("holdfast_udp_sent_total", "over" => "datagram"),
        })
    }

    /// Takes a datagram of a carrier that begins like one of a `udp` proxy. What makes no sense is
    /// counted and dropped.
    pub fn handle_user_datagram(&self, datagram: &Bytes) {
        let UserDatagram {
            flow,
            user,
            content,
        } = match UserDatagram::decode(datagram) {
            Ok(datagram) => datagram,
            Err(_) => return self.refuse("user datagram"),
        };
        // The flow may be over, which the peer does not know yet.
        let Some(arrived) = self.flows.by_number.lock().get(&flow).cloned() else {
            return count_dropped("unknown flow");
        };
        self.note_user_bytes(content.len());
        if arrived.push((user, content)) {
            count_dropped("not taken");
        }
    }
}

/// Flows of one session: as many as a client may have proxies. Further proxies have their work
/// streams only.
const MAX_FLOWS: usize = 10_000;

/// Datagrams of a flow that wait to be taken: 10 ms at 1 Gbit/s. At the bound the oldest is
/// dropped.
const MAX_ARRIVED: usize = 1024;
