//! One sender, that always has something to send.

use std::time::{Duration, Instant};

use super::{Bbr, Control, Cubic};
use crate::look::Look;

#[derive(Clone, Debug)]
pub(crate) struct Flow {
    pub(super) begins: f64,
    control: Control,
    in_flight: f64,
    to_repeat: u64,
    segments: Vec<Sent>,
    sent_again: u64,
    pub(crate) arrived: f64,
    arrived_at: f64,
    srtt: f64,
    variation: f64,
    pub(super) min_rtt: f64,
    /// When its pace lets it send again.
    next_at: f64,
    /// The most it sends.
    at_most: f64,
    /// When that was sent which arrived last.
    arrived_was_sent_at: f64,
    pub(super) is_waiting: bool,
}

/// What is known of a segment that was sent.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: f64,
    arrived: f64,
    arrived_at: f64,
    arrived_was_sent_at: f64,
}

impl Flow {
    pub(crate) fn cubic(begins: f64) -> Self {
        Self::by(Control::Cubic(Cubic::new()), begins)
    }

    pub(crate) fn bbr(begins: f64) -> Self {
        Self::by(Control::Bbr(Bbr::new()), begins)
    }

    fn by(control: Control, begins: f64) -> Self {
        Self {
            begins,
            control,
            in_flight: 0.0,
            to_repeat: 0,
            segments: Vec::new(),
            sent_again: 0,
            arrived: 0.0,
            arrived_at: begins,
            srtt: 0.0,
            variation: 0.0,
            min_rtt: f64::INFINITY,
            next_at: begins,
            at_most: f64::INFINITY,
            arrived_was_sent_at: begins,
            is_waiting: true,
        }
    }

    /// It sends so many bytes a second at most from now on.
    #[expect(clippy::cast_precision_loss, reason = "rates need no more precision")]
    pub(crate) fn bound(&mut self, at_most: u64) {
        self.at_most = match at_most {
            u64::MAX => f64::INFINITY,
            at_most => at_most as f64 / 1000.0,
        };
    }

    /// Cubic takes over.
    pub(crate) fn turn_to_cubic(&mut self) {
        let cubic = Cubic::take_over(self.window(), self.arrived_at);
        self.control = Control::Cubic(cubic);
    }

    /// BBR takes over.
    pub(crate) fn turn_to_bbr(&mut self) {
        self.control = Control::Bbr(Bbr::new());
    }

    fn window(&self) -> f64 {
        match &self.control {
            Control::Cubic(cubic) => cubic.window,
            Control::Bbr(bbr) => bbr.window(),
        }
    }

    fn pace(&self) -> f64 {
        let pace = match &self.control {
            Control::Cubic(_) => f64::INFINITY,
            Control::Bbr(bbr) => bbr.pace(),
        };
        pace.min(self.at_most)
    }

    pub(super) fn has_room(&self, now: f64) -> bool {
        now >= self.begins && self.in_flight < self.window() && now >= self.next_at
    }

    /// When it is to be asked again, if only its pace keeps it from sending.
    pub(super) fn wakes_at(&self, now: f64) -> Option<f64> {
        let is_paced = self.in_flight < self.window() && self.next_at > now;
        (is_paced && !self.is_waiting).then_some(self.next_at)
    }

    /// Returns the segment's number.
    pub(super) fn send(&mut self, now: f64) -> usize {
        if self.to_repeat > 0 {
            self.to_repeat -= 1;
            self.sent_again += 1;
        }
        if self.in_flight == 0.0 {
            self.arrived_at = now;
            self.arrived_was_sent_at = now;
        }
        self.in_flight += 1.0;
        self.next_at = self.next_at.max(now) + 1.0 / self.pace();
        self.segments.push(Sent {
            at: now,
            arrived: self.arrived,
            arrived_at: self.arrived_at,
            arrived_was_sent_at: self.arrived_was_sent_at,
        });
        self.segments.len() - 1
    }

    pub(super) fn handle_lost(&mut self, now: f64, number: usize) {
        self.in_flight -= 1.0;
        self.to_repeat += 1;
        match &mut self.control {
            Control::Cubic(cubic) => cubic.handle_lost(now, number, self.segments.len()),
            Control::Bbr(bbr) => bbr.handle_lost(),
        }
    }

    pub(super) fn handle_arrived(&mut self, now: f64, number: usize) {
        let was_full = self.in_flight * 1.25 >= self.window();
        self.in_flight -= 1.0;
        self.arrived += 1.0;
        self.arrived_at = now;
        let sent = self.segments[number];
        self.arrived_was_sent_at = self.arrived_was_sent_at.max(sent.at);
        let rtt = now - sent.at;
        self.min_rtt = self.min_rtt.min(rtt);
        if self.srtt > 0.0 {
            self.variation += 0.25 * ((rtt - self.srtt).abs() - self.variation);
            self.srtt += 0.125 * (rtt - self.srtt);
        } else {
            (self.srtt, self.variation) = (rtt, rtt / 2.0);
        }
        match &mut self.control {
            Control::Cubic(cubic) if was_full => cubic.handle_arrived(now, self.srtt),
            Control::Cubic(_) => {}
            Control::Bbr(bbr) => {
                let sending = sent.at - sent.arrived_was_sent_at;
                let time = (now - sent.arrived_at).max(sending).max(1e-6);
                let rate = (self.arrived - sent.arrived) / time;
                let arrived = (sent.arrived, self.arrived);
                bbr.handle_arrived(now, rtt, rate, arrived, self.in_flight);
            }
        }
    }

    /// What the system would tell, with segments of a kilobyte.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "numbers of a test are small and positive"
    )]
    pub(super) fn look(&self, at: Instant) -> Look {
        let n_sent = u64::try_from(self.segments.len()).unwrap_or(u64::MAX);
        Look {
            at,
            sent: n_sent,
            sent_again: self.sent_again,
            acked: self.arrived as u64 * 1000,
            srtt: Duration::from_secs_f64(self.srtt),
            variation: Duration::from_secs_f64(self.variation),
            min_rtt: Duration::from_secs_f64(self.min_rtt),
            in_flight: self.in_flight as u32,
            window: self.window() as u64 * 1000,
            has_more: true,
            peer_full: Duration::ZERO,
            timeouts: 0,
        }
    }
}
