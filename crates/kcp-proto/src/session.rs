//! One KCP conversation: an ordered byte stream each way over datagrams that may get lost.
//!
//! The owner feeds [`Session::handle_datagram`] with what arrives and [`Session::send`] with what
//! is to be sent, takes data out with [`Session::read`], and after any of these asks
//! [`Session::poll_transmit`] for datagrams until there are none, and then [`Session::poll_timeout`]
//! for when to call [`Session::handle_timeout`] and ask again.
//!
//! Data does not leave at once. It waits for a *flush*, and so do acknowledgements; flushes are an
//! interval apart at least, unless the peer's `una` has moved or the send window is full. A session
//! that has not flushed for a whole interval does so at once. With a pacing rate data does not wait
//! for flushes but for its turn.
//!
//! KCP has no handshake, no close and no dead link: a session lives until its owner drops it. So that
//! a reader learns of the end, [`Session::finish`] sends one last segment without data, which KCP
//! never does. kcp-go waits at it for data for ever, as it would without it.

mod acks;
mod arrived;
mod copies;
mod datagrams;
mod input;
mod output;
mod pacer;
mod receive_window;
mod rtt;
mod send_queue;
mod send_window;
mod window_probe;

use std::time::{Duration, Instant};

use bytes::Bytes;

use self::acks::Acks;
use self::copies::{Lateness, Loss, Pending};
pub use self::datagrams::Datagram;
use self::datagrams::Datagrams;
pub use self::input::DatagramError;
use self::output::Held;
pub use self::output::Transmit;
use self::pacer::Pacer;
use self::receive_window::ReceiveWindow;
use self::rtt::Rtt;
use self::send_queue::SendQueue;
use self::send_window::SendWindow;
use self::window_probe::{Tell, WindowProbe};
use crate::config::Config;
use crate::control::{LossDetection, SendControl};
use crate::copies::{Copies, CopyPolicy, Piece};
use crate::fec::{Decoder, DecoderStats, Encoder};
use crate::segment::{Header, distance};

/// Time since the session began, in microseconds.
type Micros = u64;

/// What the peer's receive window is taken for until it has told. KCP's default.
const INITIAL_PEER_WINDOW: u16 = 32;

/// One conversation.
#[derive(Debug)]
pub struct Session {
    config: Config,
    began_at: Instant,
    control: Box<dyn SendControl>,
    queue: SendQueue,
    window: SendWindow,
    receive: ReceiveWindow,
    acks: Acks,
    rtt: Rtt,
    pacer: Pacer,
    copies: Option<Box<dyn CopyPolicy>>,
    pending: Pending,
    datagrams: Datagrams,
    loss: Loss,
    lateness: Lateness,
    encoder: Option<Encoder>,
    /// Made with the first packet that has a FEC header.
    decoder: Option<Box<Decoder>>,
    peer_window: u16,
    probe: WindowProbe,
    tell: Tell,
    flush: Flush,
    /// The last segment, once it has been sent.
    own_end: Option<u32>,
    /// How this side ends, once it has been decided.
    ending: Option<End>,
    /// The peer's last segment, once it has arrived.
    peer_end: Option<(u32, End)>,
    /// Maps of what has arrived that were sent.
    n_maps: u32,
    /// A datagram that did not fit into the last batch.
    held: Option<Held>,
    /// When anything was acknowledged last.
    acked_at: Micros,
    /// Whether the last segment that was sent was the last there was.
    is_app_limited: bool,
    /// The datagram that is being written has data in it.
    has_written_data: bool,
    stats: Stats,
}

/// How one side ends its sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In good order, after everything.
    Finished,
    /// Broken off.
    Reset,
}

impl End {
    /// Returns what the last segment has for `frg`. kcp-go waits for what should follow the second.
    pub fn frg(self) -> u8 {
        match self {
            Self::Finished => 0,
            Self::Reset => 1,
        }
    }

    fn from_frg(frg: u8) -> Self {
        match frg {
            0 => Self::Finished,
            _ => Self::Reset,
        }
    }
}

/// What may leave now, and what asks for it.
#[derive(Debug, Default)]
struct Flush {
    /// Everything is to leave without waiting for the interval.
    is_due: bool,
    /// Acknowledgements are to leave without waiting for the interval.
    is_due_for_acks: bool,
    /// A flush has begun and not all that it lets go has been taken.
    is_open: bool,
    /// The same for acknowledgements.
    is_open_for_acks: bool,
    last_at: Option<Micros>,
}

/// What a session has counted since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Data segments sent for the first time.
    pub n_segments_sent: u64,
    /// Data segments sent again, because later ones have overtaken them.
    pub n_resent_overtaken: u64,
    /// Data segments sent again, because no acknowledgement came in time.
    pub n_resent_timed_out: u64,
    /// Copies of data segments, sent before it was known whether they were needed.
    pub n_copies_sent: u64,
    /// Data segments that turned out to have arrived when they had been taken for lost.
    pub n_spurious: u64,
    /// Data segments received for the first time.
    pub n_segments_received: u64,
    /// Data segments received that were there already.
    pub n_repeats_received: u64,
    /// Data segments received beyond the window.
    pub n_beyond_window: u64,
    /// Segments sent with datagrams of the owner, copies included.
    pub n_own_datagrams_sent: u64,
    /// Datagrams made, parity included.
    pub n_datagrams_sent: u64,
    /// Bytes in them.
    pub n_bytes_sent: u64,
    /// Parity datagrams made.
    pub n_parity_sent: u64,
    /// Datagrams that were the session's.
    pub n_datagrams_received: u64,
    /// Datagrams that were not, or were malformed.
    pub n_datagrams_refused: u64,
    /// Forward error correction on what is received.
    pub fec: DecoderStats,
}

impl Session {
    /// Begins a session.
    ///
    /// # Panics
    ///
    /// When the configuration cannot work: windows of zero, an MTU without room for data, or shard
    /// counts without a code. The limits stand at the fields of [`Config`].
    pub fn new(config: Config, control: Box<dyn SendControl>, now: Instant) -> Self {
        config.assert_sound();
        let encoder = config.fec.map(|shards| {
            Encoder::new(shards, config.first.seqid).expect("the shard counts have a code")
        });
        Self {
            began_at: now,
            control,
            queue: SendQueue::new(config.mss()),
            window: SendWindow::new(config.first.send_sn),
            receive: ReceiveWindow::new(config.receive_window, config.first.receive_sn),
            acks: Acks::new(config.n_ack_repeats),
            rtt: Rtt::new(whole_micros(config.min_rto), whole_micros(config.interval)),
            pacer: Pacer::default(),
            copies: None,
            pending: Pending::default(),
            datagrams: Datagrams::default(),
            loss: Loss::default(),
            lateness: Lateness::default(),
            encoder,
            decoder: None,
            peer_window: INITIAL_PEER_WINDOW,
            probe: WindowProbe::default(),
            tell: Tell::new(config.receive_window),
            flush: Flush::default(),
            own_end: None,
            ending: None,
            peer_end: None,
            n_maps: 0,
            held: None,
            acked_at: 0,
            is_app_limited: true,
            has_written_data: false,
            stats: Stats::default(),
            config,
        }
    }

    /// Takes from `data` what the send window has room for, and returns how many bytes that were.
    pub fn send(&mut self, data: &mut Bytes, now: Instant) -> usize {
        if self.ending.is_some() {
            return 0;
        }
        let now = self.micros(now);
        let n_taken = self.queue.push(data, self.n_free_segments());
        self.probe.update(self.is_shut_out(), now);
        if n_taken > 0 && (!self.config.is_write_delayed || self.n_free_segments() == 0) {
            self.flush.is_due = true;
        }
        n_taken
    }

    /// Ends the sending: nothing more is taken, and the peer is told when it has read all. A reset
    /// forgets what has not been sent. Ending again does nothing, except for a reset after an end
    /// that has not been sent.
    pub fn finish(&mut self, end: End) {
        if self.own_end.is_some() || self.ending == Some(end) {
            return;
        }
        if end == End::Reset {
            self.queue.clear();
        }
        self.ending = Some(end);
        self.queue.push_end();
        self.flush.is_due = true;
    }

    /// Lets everything leave without waiting for the interval.
    pub fn flush(&mut self) {
        self.flush.is_due = true;
    }

    /// Asks the peer for its window, which every KCP answers: a sign of life.
    pub fn ask_window(&mut self) {
        self.probe.is_due = true;
        self.flush.is_due = true;
    }

    /// Takes received data out: the next piece, cut off after `max` bytes. `None` when there is
    /// none.
    pub fn read(&mut self, max: usize, now: Instant) -> Option<Bytes> {
        let data = self.receive.read(max)?;
        if self.tell.handle_read(self.receive.free()) {
            self.tell.begin(self.micros(now), self.rtt.rto());
            self.flush.is_due = true;
        }
        Some(data)
    }

    /// Does what is due without a datagram. Afterwards [`Session::poll_transmit`] may have some.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(decoder) = &mut self.decoder {
            decoder.handle_timeout(now);
        }
        let now = self.micros(now);
        if self.probe.handle_timeout(now) || self.tell.handle_timeout(now, self.rtt.rto()) {
            self.flush.is_due = true;
        }
    }

    /// Sets how many parity packets follow each group of data packets from the next group on; at
    /// most those of the configuration. The peer's decoder needs no word of it.
    pub fn set_parity(&mut self, n_parity: usize) {
        if let Some(encoder) = &mut self.encoder {
            encoder.set_parity(n_parity);
        }
    }

    /// Changes what decides about sending. The new control knows nothing of segments under way.
    pub fn set_control(&mut self, control: Box<dyn SendControl>) {
        self.control = control;
    }

    /// Sets who decides about copies of data that somebody waits for. Not towards kcp-go, which
    /// would take their acknowledgements for a sign of losses.
    pub fn set_copies(&mut self, policy: Box<dyn CopyPolicy>) {
        self.copies = Some(policy);
    }

    /// Has datagrams taken from the peer, and tells it so with each acknowledgement. Not towards
    /// kcp-go, which has none.
    pub fn accept_datagrams(&mut self) {
        self.datagrams.are_taken = true;
    }

    /// Whether the peer is known to take datagrams.
    pub fn can_send_datagrams(&self) -> bool {
        self.datagrams.are_taken_there
    }

    /// Sends a datagram ahead of the stream, which may or may not arrive. If somebody waits for it,
    /// it goes several times where the [`CopyPolicy`] says so; the peer then gets it several times.
    /// Does nothing with a peer that takes none, or when it is empty or longer than
    /// [`Session::max_own_datagram_len`].
    pub fn send_datagram(&mut self, datagram: Datagram, is_awaited: bool, now: Instant) {
        let len = datagram.data.len();
        if !self.can_send_datagrams() || len == 0 || len > self.max_own_datagram_len() {
            return;
        }
        let mut copies = Copies::default();
        if let (Some(policy), Some(srtt), true) =
            (&mut self.copies, self.rtt.smoothed(), is_awaited)
        {
            let n_bytes = u32::try_from(Header::LEN + len).unwrap_or(u32::MAX);
            copies = policy.copies(
                now,
                Piece {
                    n_bytes,
                    is_alone: true,
                    n_losses: 0,
                    loss: self.loss.estimate(),
                    srtt: Duration::from_micros(srtt),
                    rate: self.control.pacing_rate(),
                },
            );
            // What comes behind one that was lost has to wait for the stream as well.
            copies.n_extra += u32::from(copies.n_extra > 0);
        }
        let now = self.micros(now);
        self.datagrams.push(datagram, copies, now);
    }

    /// Takes a datagram that has arrived. Some arrive more than once, and anyone who has seen a
    /// packet can make one.
    pub fn take_own_datagram(&mut self) -> Option<Datagram> {
        self.datagrams.take()
    }

    /// Returns how long a datagram that is sent beside the stream may be.
    pub fn max_own_datagram_len(&self) -> usize {
        self.config.mss()
    }

    /// Sets how far apart flushes are, unless something asks for one at once.
    pub fn set_interval(&mut self, interval: Duration) {
        assert!(!interval.is_zero(), "flushes have a distance");
        self.config.interval = interval;
        self.rtt.set_interval(whole_micros(interval));
    }

    /// Changes how data and acknowledgements wait, as two Holdfasts agree after login: whether
    /// writes are delayed, how many acknowledgements wait at most, and how many are repeated.
    pub fn set_delays(&mut self, is_write_delayed: bool, ack_after: usize, n_ack_repeats: usize) {
        self.config.is_write_delayed = is_write_delayed;
        self.config.ack_after = ack_after;
        self.config.n_ack_repeats = n_ack_repeats;
        self.acks.set_repeats(n_ack_repeats);
    }

    /// Enlarges the windows, as two Holdfasts agree after login. They never shrink.
    pub fn grow_windows(&mut self, send_window: u32, receive_window: u32) {
        let send_window = send_window.min(crate::config::MAX_WINDOW);
        let receive_window = receive_window.min(u32::from(u16::MAX));
        self.config.send_window = self.config.send_window.max(send_window);
        self.config.receive_window = self.config.receive_window.max(receive_window);
        self.receive.grow(self.config.receive_window);
        self.tell.grow(self.config.receive_window);
    }

    /// Returns when [`Session::handle_timeout`] is to be called, if nothing else happens before;
    /// a time in the past when [`Session::poll_transmit`] has something to give.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let flush = &self.flush;
        let is_paced = self.control.pacing_rate().is_some();
        let is_due = flush.is_due
            || (flush.is_open && !is_paced && self.has_data_to_send())
            || flush.is_due_for_acks
            || flush.is_open_for_acks
            || self.held.is_some()
            || self.encoder.as_ref().is_some_and(Encoder::has_parity);
        if is_due {
            return Some(self.began_at);
        }
        let interval = whole_micros(self.config.interval);
        let next_flush = flush.last_at.map_or(0, |last| last + interval);
        let own = [
            self.wants_flush().then_some(next_flush),
            (is_paced && self.has_data_to_send()).then(|| self.pacer.next_at()),
            self.next_time_out(),
            self.next_late(),
            self.pending.next_at(),
            self.datagrams.next_at(),
            self.probe.poll_timeout(),
            self.tell.poll_timeout(),
        ];
        let own = own.into_iter().flatten().min().map(|at| self.instant(at));
        let decoder = self
            .decoder
            .as_ref()
            .and_then(|decoder| decoder.poll_timeout());
        own.into_iter().chain(decoder).min()
    }

    /// Whether [`Session::send`] would take anything.
    pub fn is_writable(&self) -> bool {
        self.n_free_segments() > 0
    }

    /// Whether [`Session::read`] would return anything.
    pub fn is_readable(&self) -> bool {
        self.receive.is_readable()
    }

    /// Returns how the peer has ended its sending, once all that came before has been read.
    pub fn end(&self) -> Option<End> {
        let (sn, end) = self.peer_end?;
        let is_read = distance(self.receive.next(), sn) > 0 && !self.receive.is_readable();
        is_read.then_some(end)
    }

    /// Whether everything that was sent has been acknowledged.
    pub fn is_settled(&self) -> bool {
        self.queue.is_empty() && self.window.len() == 0
    }

    /// Returns the conversation.
    pub fn conv(&self) -> u32 {
        self.config.conv
    }

    /// Returns the settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns what decides about sending.
    pub fn control(&self) -> &dyn SendControl {
        &*self.control
    }

    /// Returns the smoothed round-trip time, once there is a sample.
    pub fn srtt(&self) -> Option<Duration> {
        self.rtt.smoothed().map(Duration::from_micros)
    }

    /// Returns how much the round-trip time varies.
    pub fn rttvar(&self) -> Duration {
        Duration::from_micros(self.rtt.variation())
    }

    /// Returns the shortest round-trip time that was seen.
    pub fn min_rtt(&self) -> Option<Duration> {
        self.rtt.least().map(Duration::from_micros)
    }

    /// Returns the retransmission time-out.
    pub fn rto(&self) -> Duration {
        Duration::from_micros(self.rtt.rto())
    }

    /// Returns the share of datagrams that is lost, as far as it is known.
    pub fn loss(&self) -> f64 {
        self.loss.estimate()
    }

    /// Returns how many segments are under way.
    pub fn n_in_flight(&self) -> u32 {
        self.window.n_in_flight()
    }

    /// Returns how many segments wait to be sent or acknowledged; at most the send window.
    pub fn n_waiting(&self) -> usize {
        self.queue.n_segments() + self.window.len() as usize
    }

    /// Returns how many segments have not been sent yet.
    pub fn n_queued(&self) -> usize {
        self.queue.n_segments()
    }

    /// Returns how many segments the peer has said it has room for.
    pub fn peer_window(&self) -> u16 {
        self.peer_window
    }

    /// Returns what has been counted.
    pub fn stats(&self) -> Stats {
        let fec = self
            .decoder
            .as_ref()
            .map(|decoder| decoder.stats())
            .unwrap_or_default();
        Stats { fec, ..self.stats }
    }

    fn n_free_segments(&self) -> usize {
        (self.config.send_window as usize).saturating_sub(self.n_waiting())
    }

    /// Whether data waits that the peer's window lets in.
    fn can_send_new(&self) -> bool {
        let window = self.config.send_window.min(u32::from(self.peer_window));
        !self.queue.is_empty() && self.window.len() < window
    }

    /// Whether data waits that nothing but pacing holds up.
    fn has_data_to_send(&self) -> bool {
        (self.window.has_lost() || self.can_send_new())
            && self.window.n_in_flight() < self.control.window()
    }

    /// Whether data waits while the peer has no room at all.
    fn is_shut_out(&self) -> bool {
        self.peer_window == 0 && !self.queue.is_empty()
    }

    /// Whether a flush would do anything.
    fn wants_flush(&self) -> bool {
        let is_classic = matches!(self.control.loss_detection(), LossDetection::Classic { .. });
        let is_paced = self.control.pacing_rate().is_some();
        !self.acks.is_empty()
            || (!is_paced && self.has_data_to_send())
            || (is_classic && self.window.has_overtaken())
    }

    fn micros(&self, now: Instant) -> Micros {
        whole_micros(now.saturating_duration_since(self.began_at))
    }

    fn instant(&self, at: Micros) -> Instant {
        self.began_at + Duration::from_micros(at)
    }

    /// The clock in segments.
    #[expect(clippy::cast_possible_truncation, reason = "the clock wraps")]
    fn ts(&self, now: Micros) -> u32 {
        self.config.first.ts.wrapping_add((now / 1000) as u32)
    }
}

fn whole_micros(duration: Duration) -> Micros {
    Micros::try_from(duration.as_micros()).unwrap_or(Micros::MAX)
}
