//! What can be set about a session. [`Config::frp`] is what frp sets.

use std::time::Duration;

use crate::fec::Shards;
use crate::segment::Header;

/// Settings of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The conversation: random at the client, taken from the first segment at the server.
    pub conv: u32,
    /// The longest KCP part of a datagram. In kcp-go v5.6.13 the FEC header comes on top of it.
    pub mtu: usize,
    /// Segments that may wait to be sent or acknowledged.
    pub send_window: u32,
    /// Segments that may wait to be read, and as many out of order. At most 65,535.
    pub receive_window: u32,
    /// How often flushes happen at most, unless something asks for one at once.
    pub interval: Duration,
    /// The shortest retransmission time-out.
    pub min_rto: Duration,
    /// Whether data waits for the next flush, so that small writes share datagrams.
    pub is_write_delayed: bool,
    /// How many received segments are acknowledged at once, before the next flush. 1 acknowledges
    /// each datagram.
    pub ack_after: usize,
    /// How many of the last acknowledgements are kept for being repeated in the next datagram with
    /// acknowledgements, while there are few. With any, such a datagram also has a map of all that
    /// has arrived beyond a gap. Not towards kcp-go: it would count them twice.
    pub n_ack_repeats: usize,
    /// The first so many segments go out twice while few are under way, and once more for each time
    /// that one was lost, without longer pauses at first, unless a
    /// [`CopyPolicy`](crate::copies::CopyPolicy) decides: handshakes wait for each of them, and how
    /// long the round trip is, is not known yet.
    pub n_early: u32,
    /// How long the KCP part of a datagram with data is at least until the peer has sent some, as far
    /// as whole headers fill it. A server that does not know yet whose address it answers may send
    /// only so many times what it was sent, so a first word that is too short has it fall silent when
    /// its answer gets lost. KCP ignores what fills it: windows, told again. At most the MTU.
    pub first_datagram_len: usize,
    /// Forward error correction on what is sent; `None` sends bare segments. What is received is
    /// understood with and without.
    pub fec: Option<Shards>,
    /// Where numbers start.
    pub first: FirstNumbers,
}

/// Where numbers start. KCP's start at 0; tests start them short of where they wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FirstNumbers {
    /// The first `sn` that is sent.
    pub send_sn: u32,
    /// The first `sn` that is expected.
    pub receive_sn: u32,
    /// The clock at the start, in milliseconds.
    pub ts: u32,
    /// The group of packets that is sent first is the one that this number lies in.
    pub seqid: u32,
}

impl Config {
    /// frp's MTU.
    pub const FRP_MTU: usize = 1350;
    /// Both windows of an accepted session in frp, and of a tunnel's two ends.
    pub const FRP_WINDOW: u32 = 1024;
    /// The send window of a session that frpc dials.
    pub const FRP_DIAL_SEND_WINDOW: u32 = 128;
    /// The receive window of a session that frpc dials.
    pub const FRP_DIAL_RECEIVE_WINDOW: u32 = 512;

    /// frp's settings for an accepted session: stream mode, no delay, flushes every 20 ms.
    pub fn frp(conv: u32) -> Self {
        Self {
            conv,
            mtu: Self::FRP_MTU,
            send_window: Self::FRP_WINDOW,
            receive_window: Self::FRP_WINDOW,
            interval: Duration::from_millis(20),
            min_rto: Duration::from_millis(30),
            is_write_delayed: true,
            // A quarter of frpc's send window: kcp-go waits for up to 20 ms, which on a short path
            // leaves its peer without window for most of the time.
            ack_after: 32,
            n_ack_repeats: 0,
            n_early: 0,
            first_datagram_len: 0,
            fec: Some(Shards::FRP),
            first: FirstNumbers::default(),
        }
    }

    /// Returns the most data that a segment carries.
    pub fn mss(&self) -> usize {
        self.mtu - Header::LEN
    }

    /// Returns the longest datagram.
    pub fn max_datagram_len(&self) -> usize {
        self.mtu + self.fec.map_or(0, |_| crate::fec::DATA_HEADER_LEN)
    }

    /// Checks what [`Session::new`](crate::Session::new) relies on.
    pub(crate) fn assert_sound(&self) {
        assert!(self.mtu > Header::LEN, "a segment has room for data");
        assert!(
            self.max_datagram_len() <= MAX_DATAGRAM_LEN,
            "kcp-go's buffers end there"
        );
        assert!(
            self.send_window > 0 && self.send_window <= MAX_WINDOW,
            "a usable send window"
        );
        assert!(self.receive_window > 0, "a usable receive window");
        assert!(
            self.receive_window <= u32::from(u16::MAX),
            "the window fits into its field"
        );
        assert!(!self.interval.is_zero(), "flushes have a distance");
    }
}

/// The longest datagram that kcp-go can receive.
pub const MAX_DATAGRAM_LEN: usize = 1500;

/// The largest send window: far below half the circle of segment numbers, and beyond what a 16-bit
/// receive window lets a peer accept.
pub const MAX_WINDOW: u32 = 65_535;
