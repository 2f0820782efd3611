//! A receive window that is shut, seen from either side.
//!
//! KCP tells the window in every segment, but a receiver without anything to send is silent. So the
//! shut-out sender asks from time to time, and the receiver tells when it has room again.

use super::Micros;

/// When a shut-out sender asks for the first time. kcp-go waits for 7 s; a lost answer should not
/// stop a transfer for so long.
const FIRST_PROBE: Micros = 500_000;

/// How far apart a shut-out sender asks in the end. kcp-go goes up to two minutes.
const LAST_PROBE: Micros = 10_000_000;

/// How often a receiver tells that it has room again, in case some of it gets lost.
const N_TELLS: u32 = 3;

/// The sender's side.
#[derive(Debug, Default)]
pub(super) struct WindowProbe {
    next_at: Option<Micros>,
    wait: Micros,
    /// Whether to ask with the next flush.
    pub(super) is_due: bool,
}

impl WindowProbe {
    /// Starts or stops asking.
    pub(super) fn update(&mut self, is_shut_out: bool, now: Micros) {
        if !is_shut_out {
            *self = Self::default();
        } else if self.next_at.is_none() {
            self.wait = FIRST_PROBE;
            self.next_at = Some(now + self.wait);
        }
    }

    /// Returns whether it is time to ask.
    pub(super) fn handle_timeout(&mut self, now: Micros) -> bool {
        if self.next_at.is_none_or(|at| now < at) {
            return false;
        }
        self.wait = (self.wait + self.wait / 2).min(LAST_PROBE);
        self.next_at = Some(now + self.wait);
        self.is_due = true;
        true
    }

    pub(super) fn poll_timeout(&self) -> Option<Micros> {
        self.next_at
    }
}

/// The receiver's side.
#[derive(Debug)]
pub(super) struct Tell {
    limit: u32,
    /// The window in the segment sent last.
    told: u16,
    n_left: u32,
    next_at: Option<Micros>,
    /// Whether to tell with the next flush.
    pub(super) is_due: bool,
}

impl Tell {
    pub(super) fn new(limit: u32) -> Self {
        let told = u16::try_from(limit).unwrap_or(u16::MAX);
        Self {
            limit,
            told,
            n_left: 0,
            next_at: None,
            is_due: false,
        }
    }

    /// Returns whether the peer should hear of the room that a read has made: when it was told of
    /// an eighth or less, and there is a half.
    pub(super) fn handle_read(&self, free: u16) -> bool {
        u32::from(self.told) <= self.limit / 8 && u32::from(free) >= self.limit.div_ceil(2)
    }

    /// Tells with the next flush, and some times more if the peer has been shut out.
    pub(super) fn begin(&mut self, now: Micros, rto: Micros) {
        self.is_due = true;
        self.n_left = if self.told == 0 { N_TELLS - 1 } else { 0 };
        self.next_at = (self.n_left > 0).then(|| now + rto);
    }

    /// Takes note of the window in a segment that is sent.
    pub(super) fn handle_sent(&mut self, window: u16) {
        self.told = window;
    }

    /// Takes note of new data: the peer knows of the window.
    pub(super) fn handle_data(&mut self) {
        self.n_left = 0;
        self.next_at = None;
    }

    /// Returns whether it is time to tell again.
    pub(super) fn handle_timeout(&mut self, now: Micros, rto: Micros) -> bool {
        if self.next_at.is_none_or(|at| now < at) {
            return false;
        }
        self.n_left = self.n_left.saturating_sub(1);
        self.next_at = (self.n_left > 0).then(|| now + rto);
        self.is_due = true;
        true
    }

    pub(super) fn poll_timeout(&self) -> Option<Micros> {
        self.next_at
    }

    pub(super) fn grow(&mut self, limit: u32) {
        self.limit = limit;
    }
}
