//! A congestion controller that another one's window is cut by, so that a rate is not exceeded.
//!
//! quinn paces by window and round-trip time, so a window of `rate x round-trip time` is that rate:
//! no more than one window is sent within a round trip, however long that becomes.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::RttEstimator;

use super::congestion::Congestion;
use super::settings::INITIAL_RTT;

/// Builds controllers that send at most `max_rate` bytes a second.
pub(super) struct Capped {
    pub(super) congestion: Congestion,
    pub(super) max_rate: u64,
}

impl ControllerFactory for Capped {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Cap {
            controller: Arc::clone(&self.congestion.0).build(now, current_mtu),
            max_rate: self.max_rate,
            mtu: current_mtu,
            window: window_at(self.max_rate, INITIAL_RTT, current_mtu),
        })
    }
}

/// A controller that does what the wrapped one does, within its own window.
struct Cap {
    controller: Box<dyn Controller>,
    max_rate: u64,
    mtu: u16,
    window: u64,
}

impl Controller for Cap {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.controller.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.window = window_at(self.max_rate, rtt.get(), self.mtu);
        self.controller.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.controller
            .on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.controller
            .on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu;
        self.controller.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.controller.window().min(self.window)
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.controller.metrics();
        metrics.congestion_window = self.window();
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            controller: self.controller.clone_box(),
            ..*self
        })
    }

    fn initial_window(&self) -> u64 {
        self.controller.initial_window().min(self.window)
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self.controller.into_any()
    }
}

/// What may be in flight at `rate`. Never less than [`MIN_PACKETS`], so that acknowledgements keep
/// coming: where the round trip is so short that these are more than the rate, it is exceeded.
pub(crate) fn window_at(rate: u64, rtt: Duration, mtu: u16) -> u64 {
    let nanos = u128::from(rate) * rtt.as_nanos();
    let window = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
    window.max(MIN_PACKETS * u64::from(mtu))
}

/// As RFC 9002 section 7.2 has it for the smallest window.
const MIN_PACKETS: u64 = 2;

#[cfg(test)]
mod tests {
    use super::super::congestion::QuicCongestion;
    use super::*;

    #[test]
    fn the_window_is_the_rate_over_one_round_trip() {
        let rtt = Duration::from_millis(80);
        assert_eq!(window_at(1_000_000, rtt, 1200), 80_000);
        assert_eq!(window_at(u64::MAX, rtt, 1200), u64::MAX / 1000 * 80 + 49);
    }

    #[test]
    fn two_packets_are_always_allowed() {
        let rtt = Duration::from_micros(10);
        assert_eq!(window_at(10_000, rtt, 1200), 2400);
    }

    #[test]
    fn a_cap_only_ever_makes_the_window_smaller() {
        let now = Instant::now();
        let cubic = QuicCongestion::Cubic.build(None);
        let uncapped = Arc::clone(&cubic.0).build(now, 1200).window();
        for (max_rate, expected) in [(1, 2400), (u64::MAX, uncapped)] {
            let capped = Arc::new(Capped {
                congestion: cubic.clone(),
                max_rate,
            });
            assert_eq!(capped.build(now, 1200).window(), expected);
        }
    }
}
