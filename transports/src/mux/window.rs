//! The receive window of one stream, and how it grows.

use std::time::{Duration, Instant};

use super::frame::Violation;

/// What every stream starts with, in both directions (yamux).
pub(super) const INITIAL_WINDOW: u32 = 256 * 1024;

/// Half a window that is read within a round trip, or within this time, limits the stream. On a
/// short path the tasks that read take longer to get their turn than the bytes travel, and a window
/// for the path alone would stall them.
const LIMITING_MIN: Duration = Duration::from_millis(1);

/// On a path longer than this it may take more round trips by [`LIMITING_RTTS`]. A sender that waits
/// for updates sends in bursts of half a window, which are a round trip apart, and a little; below,
/// a carrier that puts losses in order needs several for each.
const LONG_PATH: Duration = Duration::from_millis(4);

/// See [`LONG_PATH`]. A segment that is lost three times in a row is the fifth to travel.
const LIMITING_RTTS: u32 = 7;

/// Taken for the round trip before one was measured.
const RTT_ASSUMED: Duration = Duration::from_millis(50);

/// What a stream's window is to carry from the beginning, in bytes per second: 100 Mbit/s, twice,
/// because updates come for halves. Growing there takes many round trips of a long path.
const FIRST_RATE: u64 = 25_000_000;

/// The largest window to begin with: what the reader of a new stream may leave lying.
const FIRST_WINDOW_MAX: u64 = 2 * 1024 * 1024;

/// Returns the window for a new stream on a path with this round trip.
pub(super) fn first_window(rtt: Option<Duration>) -> u32 {
    let rtt_us = rtt.map_or(0, |rtt| rtt.as_micros()).min(1_000_000) as u64;
    let window = (rtt_us * FIRST_RATE / 1_000_000).min(FIRST_WINDOW_MAX);
    u32::try_from(window).map_or(INITIAL_WINDOW, |window| window.max(INITIAL_WINDOW))
}

/// What the peer may send, and what it has been promised.
#[derive(Debug)]
pub(super) struct RecvWindow {
    /// What the peer may send when everything has been read. Only grows.
    size: u32,
    /// What the peer may still send.
    credit: u32,
    /// What has been read since the last update.
    owed: u32,
    /// When the last update was sent.
    updated_at: Instant,
}

impl RecvWindow {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            size: INITIAL_WINDOW,
            credit: INITIAL_WINDOW,
            owed: 0,
            updated_at: now,
        }
    }

    /// Grows to `size` at once, by `max_growth` at most. Returns by how much, for an update.
    pub(super) fn grow_to(&mut self, size: u32, max_growth: u32) -> u32 {
        let growth = size.saturating_sub(self.size).min(max_growth);
        self.size += growth;
        self.credit += growth;
        growth
    }

    /// The peer sends `len` bytes.
    pub(super) fn handle_data(&mut self, stream_id: u32, len: u32) -> Result<(), Violation> {
        let left = self.credit.checked_sub(len);
        self.credit = left.ok_or(Violation::WindowOverrun(stream_id))?;
        Ok(())
    }

    /// The application has read `len` bytes.
    pub(super) fn consume(&mut self, len: u32) {
        self.owed += len;
    }

    /// Whether it is time for an update: half of the window has been read. Earlier would cost
    /// frames, later would let the peer run dry.
    pub(super) fn is_update_due(&self) -> bool {
        self.owed >= self.size / 2
    }

    /// Takes the update to send: what was read, and growth if the application has read it within a
    /// few round trips. The window then limits the stream. `max_growth` is what the carrier still
    /// has for growth. Returns the update and how much of it is growth.
    pub(super) fn take_update(
        &mut self,
        now: Instant,
        rtt: Option<Duration>,
        max_growth: u32,
    ) -> (u32, u32) {
        let rtt = rtt.unwrap_or(RTT_ASSUMED);
        let limit = rtt.max(LIMITING_MIN) + rtt.saturating_sub(LONG_PATH) * LIMITING_RTTS;
        let is_limiting = now.saturating_duration_since(self.updated_at) <= limit;
        let growth = if is_limiting {
            self.size.min(max_growth)
        } else {
            0
        };
        let update = self.owed + growth;
        self.size += growth;
        self.credit += update;
        self.owed = 0;
        self.updated_at = now;
        (update, growth)
    }

    /// How much the window has grown.
    pub(super) fn growth(&self) -> u32 {
        self.size - INITIAL_WINDOW
    }

    /// The window when everything has been read.
    pub(super) fn size(&self) -> u32 {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u32 = 1024 * 1024;
    const RTT: Duration = Duration::from_millis(20);

    #[test]
    fn a_window_grows_only_while_half_of_it_is_read_within_a_few_round_trips() {
        let start = Instant::now();
        let mut window = RecvWindow::new(start);
        let half = INITIAL_WINDOW / 2;

        window.handle_data(1, half).expect("within the window");
        window.consume(half);
        assert!(window.is_update_due());
        let (update, growth) = window.take_update(start + RTT * 2, Some(RTT), MIB);
        assert_eq!((update, growth), (half + INITIAL_WINDOW, INITIAL_WINDOW));

        window
            .handle_data(1, INITIAL_WINDOW)
            .expect("within the window");
        window.consume(INITIAL_WINDOW);
        let (update, growth) = window.take_update(start + RTT * 12, Some(RTT), MIB);
        assert_eq!((update, growth), (INITIAL_WINDOW, 0));
        assert_eq!(window.size(), 2 * INITIAL_WINDOW, "it never shrinks");
    }

    #[test]
    fn a_long_path_gets_a_larger_window_from_the_beginning() {
        let ms = |ms| first_window(Some(Duration::from_millis(ms)));
        assert_eq!([first_window(None), ms(1)], [INITIAL_WINDOW; 2]);
        assert_eq!([ms(50), ms(1000)], [1_250_000, 2 * MIB]);

        let mut window = RecvWindow::new(Instant::now());
        assert_eq!(window.grow_to(2 * MIB, MIB), MIB);
        assert_eq!(window.handle_data(1, INITIAL_WINDOW + MIB), Ok(()));
        assert_eq!(window.handle_data(1, 1), Err(Violation::WindowOverrun(1)));
    }

    #[test]
    fn more_than_was_promised_is_refused() {
        let mut window = RecvWindow::new(Instant::now());
        assert_eq!(window.handle_data(1, INITIAL_WINDOW), Ok(()));
        assert_eq!(window.handle_data(1, 1), Err(Violation::WindowOverrun(1)));
    }
}
