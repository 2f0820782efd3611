//! What a connection is started with.

use std::sync::Arc;
use std::time::Duration;

use quinn::{IdleTimeout, TransportConfig, VarInt};

use super::congestion::Congestion;
use super::delivery::{Delivery, Reporting};

/// How much may be under way. What the peer may send is bounded for each stream and for the
/// connection, and what waits for sending for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Bytes that a stream may have here unread.
    pub stream: u64,
    /// Bytes that all streams may have here unread, as long as there are few of them. The window
    /// grows with their number, to 512 MiB at most.
    pub connection: u64,
    /// The most that is kept here until the peer has it. On a slow path it is less.
    pub send: u64,
}

impl Default for Windows {
    /// A stream fills 600 Mbit/s over 200 ms, a connection 2.5 Gbit/s.
    fn default() -> Self {
        Self {
            stream: 16 * MIB,
            connection: 64 * MIB,
            send: 64 * MIB,
        }
    }
}

impl Windows {
    /// Those of a peer that has not proven itself: what four streams of yamux have together. A
    /// stream's own window cannot be raised later, and that of the connection bounds it.
    pub(super) fn of_stranger(self) -> Self {
        Self {
            connection: self.connection.min(STRANGER_WINDOW),
            send: self.send.min(STRANGER_WINDOW),
            ..self
        }
    }

    pub(super) fn max_connection(self) -> u64 {
        self.connection.max(MAX_CONNECTION_WINDOW)
    }
}

/// What both ends of a connection have to say about it.
#[derive(Debug)]
pub(super) struct Settings<'a> {
    pub(super) idle_timeout: Duration,
    pub(super) max_streams: VarInt,
    pub(super) windows: Windows,
    pub(super) congestion: &'a Congestion,
}

impl Settings<'_> {
    /// Makes quinn's settings of one connection, and what tells how far its delivery is.
    pub(super) fn build(&self) -> (TransportConfig, Arc<Delivery>) {
        let delivery = Arc::new(Delivery::default());
        let windows = self.windows;
        // Anything longer than quinn can express is as good as never.
        let idle_timeout = IdleTimeout::try_from(self.idle_timeout.max(WATCHED_IDLE_TIMEOUT)).ok();
        let mut config = TransportConfig::default();
        config
            .max_idle_timeout(idle_timeout)
            .keep_alive_interval(None)
            .max_concurrent_bidi_streams(self.max_streams)
            .max_concurrent_uni_streams(MAX_UNI_STREAMS)
            .stream_receive_window(varint(windows.stream))
            .receive_window(varint(windows.connection))
            .send_window(windows.send.min(MIN_SEND_WINDOW))
            .datagram_receive_buffer_size(Some(MAX_UNREAD_DATAGRAMS))
            .datagram_send_buffer_size(MAX_UNSENT_DATAGRAMS)
            .initial_rtt(INITIAL_RTT)
            .packet_threshold(PACKET_THRESHOLD)
            .congestion_controller_factory(Arc::new(Reporting {
                congestion: self.congestion.clone(),
                delivery: Arc::clone(&delivery),
            }));
        (config, delivery)
    }
}

/// How long a peer may be silent by the word of QUIC, which has to be said in the handshake: the
/// quietest probes between Holdfasts are five minutes apart. Without such probes the carrier itself
/// keeps to what is configured.
const WATCHED_IDLE_TIMEOUT: Duration = Duration::from_secs(660);

pub(super) fn varint(n: u64) -> VarInt {
    VarInt::from_u64(n).unwrap_or(VarInt::MAX)
}

const MIB: u64 = 1024 * 1024;

/// Streams that a stranger may open: the control stream, and some to spare.
pub(super) const STRANGER_STREAMS: VarInt = VarInt::from_u32(4);

/// Four times yamux's initial window.
const STRANGER_WINDOW: u64 = MIB;

/// What one peer may have here unread: as much as over yamux.
const MAX_CONNECTION_WINDOW: u64 = 512 * MIB;

/// What may wait for sending on a path of which nothing is known yet, and beyond two congestion
/// windows on every other.
pub(super) const MIN_SEND_WINDOW: u64 = MIB;

/// frp knows none. Ours opens one at the end, to learn what has arrived.
const MAX_UNI_STREAMS: VarInt = VarInt::from_u32(1);

/// Datagrams wait here until they are read. Beyond it the oldest are dropped: these are 40 ms at
/// 100 Mbit/s.
const MAX_UNREAD_DATAGRAMS: usize = 512 * 1024;

/// Datagrams that wait to be sent. Beyond it the oldest are dropped.
pub(super) const MAX_UNSENT_DATAGRAMS: usize = 512 * 1024;

/// What the first retransmissions go by: the first after three times this. RFC 9002 has 333 ms; where
/// a third of the packets is lost that makes a handshake take seconds, and a packet too many does
/// little harm.
pub(crate) const INITIAL_RTT: Duration = Duration::from_millis(60);

/// Packets that may overtake another before it is taken for lost. RFC 9002 has 3, which paths with
/// jitter exceed all the time; the time threshold finds losses as well.
const PACKET_THRESHOLD: u32 = 16;
