//! What a carrier, its streams and its tasks share.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use quinn::{Connection, ConnectionError, SendStream, TransportErrorCode, VarInt};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::carrier;
use super::delivery::Delivery;
use super::settings::{MIN_SEND_WINDOW, STRANGER_STREAMS, Windows};
use crate::CarrierError;
use crate::ended::Ended;
use crate::info::Admission;

/// The state of one connection.
pub(super) struct Shared {
    pub(super) connection: Connection,
    pub(super) ended: Ended,
    delivery: Arc<Delivery>,
    windows: Windows,
    idle_timeout: Duration,
    max_streams: VarInt,
    /// Of these, how many the peer has been told that it may have at once.
    granted_streams: Mutex<u64>,
    /// Others look after the peer's life.
    is_watched: AtomicBool,
    watched: Notify,
    is_admitted: AtomicBool,
    admission: Mutex<Option<Box<dyn Admission>>>,
    n_streams: AtomicUsize,
    is_draining: AtomicBool,
    peer_drains: AtomicBool,
    /// This side has closed the carrier; what was written is still being sent.
    is_closing: AtomicBool,
    /// Sending halves of dropped streams, kept from ending in good order.
    broken_off: Mutex<Vec<SendStream>>,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
    receive_window: Mutex<u64>,
    send_window: Mutex<SendWindow>,
}

/// What may wait for sending.
#[derive(Default)]
struct SendWindow {
    fitted: u64,
    /// Added for urgent streams since the window was fitted.
    extra: u64,
    /// Packets sent and lost before the loss was last looked at.
    n_sent: u64,
    n_lost: u64,
    /// What was lost then, in percent.
    loss_pct: u64,
}

impl SendWindow {
    /// Returns how many congestion windows may be kept.
    ///
    /// What has been sent is kept until everything before it has arrived. Where a third is lost
    /// some bytes are lost four or five times in a row, and all that is sent in the meantime waits
    /// behind them.
    fn n_windows(&mut self, n_sent: u64, n_lost: u64) -> u64 {
        let sent = n_sent.saturating_sub(self.n_sent);
        if sent >= LOSS_PACKETS {
            let lost = n_lost.saturating_sub(self.n_lost);
            self.loss_pct = (lost * 100 / sent).min(100);
            (self.n_sent, self.n_lost) = (n_sent, n_lost);
        }
        2 + self.loss_pct.div_ceil(5).min(MAX_EXTRA_WINDOWS)
    }
}

impl Shared {
    /// `admission` is there for a stranger.
    pub(super) fn new(
        connection: Connection,
        delivery: Arc<Delivery>,
        windows: Windows,
        idle_timeout: Duration,
        max_streams: VarInt,
        admission: Option<Box<dyn Admission>>,
    ) -> Self {
        let receive_window = match admission {
            Some(_) => windows.of_stranger().connection,
            None => windows.connection,
        };
        let shared = Self {
            connection,
            ended: Ended::default(),
            delivery,
            windows,
            idle_timeout,
            max_streams,
            granted_streams: Mutex::new(STRANGER_STREAMS.into_inner()),
            is_watched: AtomicBool::new(false),
            watched: Notify::new(),
            is_admitted: AtomicBool::new(admission.is_none()),
            admission: Mutex::new(admission),
            n_streams: AtomicUsize::new(0),
            is_draining: AtomicBool::new(false),
            peer_drains: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            broken_off: Mutex::default(),
            bytes_sent: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            receive_window: Mutex::new(receive_window),
            send_window: Mutex::new(SendWindow {
                fitted: windows.send.min(MIN_SEND_WINDOW),
                ..SendWindow::default()
            }),
        };
        shared.fit_streams();
        shared
    }

    /// Waits for the end of the connection and notes the reason.
    pub(super) async fn watch(self: Arc<Self>) {
        let error = self.connection.closed().await;
        self.ended.set(self.reason(error));
        self.broken_off.lock().clear();
        self.admission.lock().take();
    }

    /// Sends a little at short intervals while the connection is young.
    ///
    /// A loss is noticed soon when something that was sent later has arrived, and after a timeout
    /// that doubles each time when nothing has. Until there is steady traffic that makes the
    /// difference between a round trip and seconds.
    pub(super) async fn nudge_at_start(self: Arc<Self>) {
        for _ in 0..N_NUDGES {
            tokio::select! {
                () = tokio::time::sleep(NUDGE_INTERVAL) => self.nudge(),
                _ = self.connection.closed() => return,
            }
        }
    }

    /// Asks for a sign of life when there has been none for `interval` (never, if it is zero), and
    /// gives up a peer that has given none for as long as is configured; until others do that.
    pub(super) async fn keep_alive(self: Arc<Self>, interval: Duration) {
        let interval = Some(interval.min(self.idle_timeout / 2)).filter(|it| !it.is_zero());
        let mut n_heard = 0;
        let mut heard_at = Instant::now();
        loop {
            let gives_up_at = heard_at + self.idle_timeout;
            let asks_at = interval.map(|interval| Instant::now() + interval);
            let next = asks_at.map_or(gives_up_at, |at| at.min(gives_up_at));
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.watched.notified() => {}
                _ = self.connection.closed() => return,
            }
            if self.is_watched.load(Ordering::Acquire) {
                return;
            }
            let n_now = carrier::n_heard(&self.connection.stats());
            if n_now != n_heard {
                (n_heard, heard_at) = (n_now, Instant::now());
            } else if Instant::now() >= gives_up_at {
                return self.abandon(CarrierError::Silent(self.idle_timeout));
            } else {
                self.nudge();
            }
        }
    }

    /// Others look after the peer's life from here on.
    pub(super) fn stop_asking(&self) {
        self.is_watched.store(true, Ordering::Release);
        self.watched.notify_one();
    }

    /// A datagram is about to be sent: it gets out although the window may be full of packets of
    /// which nothing is heard.
    pub(super) fn handle_datagram(&self) {
        let now = Instant::now().into_std();
        self.delivery.handle_datagram(now, self.connection.rtt());
    }

    pub(super) fn acked_bytes(&self) -> u64 {
        self.delivery.acked_bytes()
    }

    pub(super) fn acked_packets(&self) -> u64 {
        self.delivery.acked_packets()
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.delivery.in_flight()
    }

    /// Sends a frame that the peer acknowledges: quinn has no word for a PING, but a window that is
    /// larger by a byte has to be told.
    fn nudge(&self) {
        // A stranger's window is what it is.
        if !self.is_admitted.load(Ordering::Acquire) {
            return;
        }
        let mut window = self.receive_window.lock();
        *window += 1;
        self.connection
            .set_receive_window(VarInt::from_u64(*window).unwrap_or(VarInt::MAX));
    }

    /// Lifts the bounds for strangers. Says whether they were there.
    pub(super) fn admit(&self) -> bool {
        if self.is_admitted.swap(true, Ordering::AcqRel) {
            return false;
        }
        if let Some(admission) = &*self.admission.lock() {
            admission.admit();
        }
        self.fit_streams();
        self.fit_receive_window();
        self.fit_send_window();
        true
    }

    /// Counts a stream. False when the carrier takes no new ones.
    pub(super) fn begin_stream(&self) -> bool {
        // Counted before the look, as `drain` looks at the count after its mark is set.
        self.n_streams.fetch_add(1, Ordering::SeqCst);
        if self.is_draining() {
            self.n_streams.fetch_sub(1, Ordering::SeqCst);
            return false;
        }
        self.fit_receive_window();
        self.fit_streams();
        true
    }

    pub(super) fn end_stream(self: &Arc<Self>) {
        if self.n_streams.fetch_sub(1, Ordering::SeqCst) == 1 && self.is_draining() {
            self.close(LINGER_TIMEOUT);
        }
    }

    pub(super) fn drain(self: &Arc<Self>) {
        self.is_draining.store(true, Ordering::SeqCst);
        if self.n_streams.load(Ordering::SeqCst) == 0 {
            self.close(LINGER_TIMEOUT);
        }
    }

    /// Ends the carrier. What was written is sent for as long as `within`.
    pub(super) fn close(self: &Arc<Self>, within: Duration) {
        if !self.ended.set(CarrierError::ClosedHere) {
            return;
        }
        self.is_closing.store(true, Ordering::Release);
        // Outside a runtime there is nothing that could wait.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return self.close_now();
        };
        let shared = Arc::clone(self);
        runtime.spawn(async move {
            let delivered = shared.delivery.wait(&shared.connection);
            let _ = tokio::time::timeout(within, delivered).await;
            shared.close_now();
        });
    }

    /// Gives the connection up, since there is no use in sending.
    pub(super) fn abandon(&self, reason: CarrierError) {
        self.ended.set(reason);
        self.close_now();
    }

    fn close_now(&self) {
        // The end of a session over QUIC in frp.
        self.connection.close(VarInt::from_u32(0), b"");
    }

    pub(super) fn keep_until_closed(&self, send: SendStream) {
        let mut broken_off = self.broken_off.lock();
        if self.connection.close_reason().is_none() {
            broken_off.push(send);
        }
    }

    pub(super) fn note_peer_drains(&self) {
        self.peer_drains.store(true, Ordering::Relaxed);
    }

    /// Why no stream can be opened at the moment, if so.
    pub(super) fn refusal(&self) -> Option<CarrierError> {
        if let Some(reason) = self.ended.get() {
            return Some(reason.clone());
        }
        if self.is_draining() {
            return Some(CarrierError::NoStream("the carrier is being left"));
        }
        if self.peer_drains.load(Ordering::Relaxed) {
            return Some(CarrierError::NoStream("the peer is leaving the carrier"));
        }
        None
    }

    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::SeqCst)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    pub(super) fn n_streams(&self) -> usize {
        self.n_streams.load(Ordering::Relaxed)
    }

    pub(super) fn bytes_sent(&self) -> u64 {
        self.bytes_sent.load(Ordering::Relaxed)
    }

    pub(super) fn bytes_received(&self) -> u64 {
        self.bytes_received.load(Ordering::Relaxed)
    }

    pub(super) fn note_sent(&self, n: usize) {
        let before = self.bytes_sent.fetch_add(n as u64, Ordering::Relaxed);
        if before / FIT_EVERY != (before + n as u64) / FIT_EVERY {
            self.fit_send_window();
        }
    }

    pub(super) fn note_received(&self, n: usize) {
        self.bytes_received.fetch_add(n as u64, Ordering::Relaxed);
    }

    pub(super) fn peer_addr(&self) -> SocketAddr {
        canonical(self.connection.remote_address())
    }

    /// The end of the carrier as an error of one of its streams.
    pub(super) fn gone(&self) -> io::Error {
        let reason = self.ended.get().cloned();
        let reason = reason.unwrap_or(CarrierError::ClosedHere);
        io::Error::new(io::ErrorKind::ConnectionAborted, reason)
    }

    /// The same, when the connection itself tells of its end first.
    pub(super) fn lost(&self, error: ConnectionError) -> io::Error {
        self.ended_by(error);
        self.gone()
    }

    /// Notes the end of the connection and returns the reason for the carrier's.
    pub(super) fn ended_by(&self, error: ConnectionError) -> CarrierError {
        let reason = self.reason(error);
        self.ended.set(reason.clone());
        self.ended.get().cloned().unwrap_or(reason)
    }

    fn reason(&self, error: ConnectionError) -> CarrierError {
        match error {
            ConnectionError::LocallyClosed => CarrierError::ClosedHere,
            ConnectionError::TimedOut => CarrierError::Silent(self.idle_timeout),
            ConnectionError::TransportError(error) => CarrierError::Protocol(error.to_string()),
            ConnectionError::ApplicationClosed(close) if close.error_code.into_inner() == 0 => {
                CarrierError::ClosedByPeer
            }
            ConnectionError::ConnectionClosed(close)
                if close.error_code == TransportErrorCode::NO_ERROR =>
            {
                CarrierError::ClosedByPeer
            }
            error => CarrierError::Lost(error.to_string()),
        }
    }

    /// Has the peer send as much as its streams may.
    ///
    /// A stream that nobody reads keeps its part of the connection's window, and enough of them
    /// would stop all others. So the window grows with the number of streams, up to a bound on
    /// what one peer may have here unread.
    fn fit_receive_window(&self) {
        if !self.is_admitted.load(Ordering::Acquire) {
            return;
        }
        let n_streams = self.n_streams() as u64;
        let wanted = self.windows.stream.saturating_mul(n_streams + 1);
        let wanted = wanted.clamp(self.windows.connection, self.windows.max_connection());
        let mut window = self.receive_window.lock();
        if wanted <= *window {
            return;
        }
        // In steps, since every change is a frame.
        *window = wanted
            .max(window.saturating_mul(2))
            .min(self.windows.max_connection());
        self.connection
            .set_receive_window(VarInt::from_u64(*window).unwrap_or(VarInt::MAX));
    }

    /// Lets the peer open more streams as it uses those that it may.
    ///
    /// quinn has a place ready for each stream that the peer may open, which is some megabytes for
    /// 100,000, touched whether there are any or not.
    fn fit_streams(&self) {
        if !self.is_admitted.load(Ordering::Acquire) {
            return;
        }
        let mut granted = self.granted_streams.lock();
        let (n_streams, max) = (self.n_streams() as u64, self.max_streams.into_inner());
        let Some(more) = more_streams(*granted, n_streams, max) else {
            return;
        };
        *granted = more;
        let granted = VarInt::from_u64(more).unwrap_or(self.max_streams);
        self.connection.set_max_concurrent_bi_streams(granted);
    }

    /// Keeps what waits for sending near to what the path takes.
    ///
    /// More would only wait here instead of in the sender's own buffers: memory, and time until an
    /// interactive stream finds room.
    fn fit_send_window(&self) {
        if !self.is_admitted.load(Ordering::Acquire) {
            return;
        }
        let path = self.connection.stats().path;
        let mut send_window = self.send_window.lock();
        let n_windows = send_window.n_windows(path.sent_packets, path.lost_packets);
        let window = path.cwnd.saturating_mul(n_windows) + MIN_SEND_WINDOW;
        let fitted = window.min(self.windows.send);
        send_window.fitted = fitted;
        send_window.extra = 0;
        self.connection.set_send_window(fitted);
    }

    /// Makes room for a little that is urgent. Says whether there is more now.
    pub(super) fn widen_send_window(&self) -> bool {
        let mut window = self.send_window.lock();
        if window.extra >= MAX_EXTRA_SEND_WINDOW {
            return false;
        }
        window.extra += EXTRA_SEND_WINDOW;
        self.connection
            .set_send_window(window.fitted + window.extra);
        true
    }
}

/// An IPv4 address as such, also on a socket for both families.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// How long a closed carrier goes on sending: the contract's second.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a carrier that has been left goes on sending what its streams have written: as long as
/// a stream of another transport.
const LINGER_TIMEOUT: Duration = Duration::from_secs(300);

/// How many streams a peer that may have `granted` at once, and has `n_streams`, is granted next.
fn more_streams(granted: u64, n_streams: u64, max: u64) -> Option<u64> {
    let wanted = FIRST_STREAMS.max(n_streams.saturating_mul(SPARE_STREAMS));
    // In steps, since every change is a frame.
    (wanted.min(max) > granted).then(|| wanted.max(granted.saturating_mul(2)).min(max))
}

/// Streams that a peer who has proven itself may open at once, to begin with. It may have
/// [`SPARE_STREAMS`] times as many as there are from then on. At the bound it waits for a round trip.
/// quinn's tables of places double their 4 KiB beyond a hundred.
const FIRST_STREAMS: u64 = 96;

/// A stream is there for a round trip, if it is short, and its place is taken for two more: until
/// the peer has heard that it is over, and that another may come. Those are not counted, and some to
/// spare have the word there before it is needed.
const SPARE_STREAMS: u64 = 8;

/// Packets after which the loss is looked at anew.
const LOSS_PACKETS: u64 = 200;

/// Congestion windows that are kept for loss beyond the two for any path: one for every 5 %. With
/// these a loss of 30 % leaves the path full; beyond that it is memory for little.
const MAX_EXTRA_WINDOWS: u64 = 6;

/// What is sent at the start, and how often: a kilobyte a second, for long enough that a login and
/// the first of a transfer are through.
const NUDGE_INTERVAL: Duration = Duration::from_millis(25);
const N_NUDGES: u32 = 60;

/// How many bytes are sent between two looks at the congestion window.
const FIT_EVERY: u64 = 128 * 1024;

/// Room for urgent streams when bulk has filled the send window: more than a message, and a few
/// times that until the window is fitted again.
const EXTRA_SEND_WINDOW: u64 = 64 * 1024;
const MAX_EXTRA_SEND_WINDOW: u64 = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_granted_more_streams_before_it_has_those_that_it_may_and_up_to_the_bound() {
        assert_eq!(more_streams(4, 0, 100_000), Some(FIRST_STREAMS));
        let n_few = FIRST_STREAMS / SPARE_STREAMS;
        assert_eq!(more_streams(FIRST_STREAMS, n_few, 100_000), None);
        // Short streams over a long path: a third of what is granted is there at any time.
        let granted = more_streams(FIRST_STREAMS, FIRST_STREAMS / 3, 100_000);
        assert!(granted >= Some(2 * FIRST_STREAMS));
        assert_eq!(more_streams(65_536, 32_768, 100_000), Some(100_000));
        assert_eq!(more_streams(100_000, 100_000, 100_000), None);
        assert_eq!(more_streams(4, 0, 3), None, "a bound below a stranger's");
    }
}
