//! Whether the peer has everything that was sent, and a way out for what is sent to find that out.
//!
//! quinn tells when a stream that was ended has been acknowledged, but a carrier is closed with
//! streams in the middle, and must not end them in good order. So the congestion controller, which
//! hears of every acknowledgement, is wrapped in one that takes note of what is still in flight.
//!
//! When the link is away the window fills with packets of which nothing is heard. From then on quinn
//! sends nothing but its own loss probes, each after twice the time of the one before, and a carrier
//! whose link is back after some seconds stays mute for seconds more. Heartbeats go at their own
//! pace; the *lifeline* lets one packet for each of them out beyond the window. The acknowledgement
//! of any one ends the silence: with it all before counts as lost, and the window is free again.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quinn::Connection;
use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::RttEstimator;
use tokio::sync::Notify;

use super::congestion::Congestion;

/// What is known about the acknowledgements of one connection.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    is_complete: AtomicBool,
    acked_bytes: AtomicU64,
    acked_packets: AtomicU64,
    in_flight: AtomicU64,
    changed: Notify,
    /// What the window is raised to for the lifeline; 0 while there is none.
    raised_window: AtomicU64,
    mtu: AtomicU64,
    life: Mutex<Life>,
}

/// When something was acknowledged last, and when a packet was last let out in spite of the window.
#[derive(Debug, Default)]
struct Life {
    /// The first packet counts as one, so that a connection that is never answered has a beginning.
    acked_at: Option<Instant>,
    let_out_at: Option<Instant>,
}

/// Without an acknowledgement for so long, or for as many round trips as stand below, nothing comes
/// any more: with loss of a third each way and delayed acknowledgements they still come sooner.
const MUTE_AFTER: Duration = Duration::from_millis(300);
/// See `MUTE_AFTER`.
const MUTE_AFTER_RTTS: u32 = 4;
/// The least between two packets beyond the window: those of a burst of heartbeats, and 40 kB/s at
/// most, whatever else is sent as datagrams. What comes sooner waits for the window.
const LIFELINE_INTERVAL: Duration = Duration::from_millis(30);

impl Delivery {
    /// Waits until the peer has everything that has been written on `connection` so far, which
    /// nobody writes to any more.
    pub(super) async fn wait(&self, connection: &Connection) {
        // A stream of the lowest priority is sent after everything that was there before, so from
        // its acknowledgement on nothing is left that has never been sent. The peer need not take
        // any notice of it.
        let Ok(mut last) = connection.open_uni().await else {
            return;
        };
        let _ = last.set_priority(i32::MIN);
        let _ = last.finish();
        let _ = last.stopped().await;
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.is_complete.load(Ordering::Acquire) || connection.close_reason().is_some() {
                return;
            }
            changed.await;
        }
    }

    /// Bytes that the peer has acknowledged, headers included.
    pub(super) fn acked_bytes(&self) -> u64 {
        self.acked_bytes.load(Ordering::Relaxed)
    }

    /// Packets that the peer has acknowledged.
    pub(super) fn acked_packets(&self) -> u64 {
        self.acked_packets.load(Ordering::Relaxed)
    }

    /// Bytes sent of which nothing is known yet.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// A datagram is about to be sent over a connection with this round trip. Lets one packet out
    /// beyond the window when nothing has been acknowledged for too long.
    pub(super) fn handle_datagram(&self, now: Instant, rtt: Duration) {
        let patience = MUTE_AFTER.max(rtt * MUTE_AFTER_RTTS);
        let has_passed = |since: Option<Instant>, time| {
            since.is_some_and(|at| now.saturating_duration_since(at) >= time)
        };
        let mut life = self.life.lock();
        let is_held_up =
            life.let_out_at.is_some() && !has_passed(life.let_out_at, LIFELINE_INTERVAL);
        if !has_passed(life.acked_at, patience) || is_held_up {
            return;
        }
        life.let_out_at = Some(now);
        // quinn sends while what is in flight and one packet more stay below the window.
        let room = 2 * self.mtu.load(Ordering::Relaxed);
        self.raised_window
            .store(self.in_flight() + room, Ordering::Relaxed);
    }

    fn handle_sent(&self, now: Instant, bytes: u64) {
        let before = self.in_flight.fetch_add(bytes, Ordering::Relaxed);
        if before == 0 {
            self.life.lock().acked_at = Some(now);
        }
    }

    fn handle_acked(&self, now: Instant, in_flight: u64, is_complete: bool) {
        self.in_flight.store(in_flight, Ordering::Relaxed);
        self.raised_window.store(0, Ordering::Relaxed);
        self.life.lock().acked_at = Some(now);
        self.is_complete.store(is_complete, Ordering::Release);
        self.changed.notify_waiters();
    }
}

/// Builds controllers of one connection that report to its [`Delivery`].
pub(super) struct Reporting {
    pub(super) congestion: Congestion,
    pub(super) delivery: Arc<Delivery>,
}

impl ControllerFactory for Reporting {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        self.delivery
            .mtu
            .store(current_mtu.into(), Ordering::Relaxed);
        Box::new(Reporter {
            controller: Arc::clone(&self.congestion.0).build(now, current_mtu),
            delivery: Arc::clone(&self.delivery),
        })
    }
}

/// A controller that does what the wrapped one does.
struct Reporter {
    controller: Box<dyn Controller>,
    delivery: Arc<Delivery>,
}

impl Controller for Reporter {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.delivery.handle_sent(now, bytes);
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
        let acked = &self.delivery.acked_bytes;
        acked.fetch_add(bytes, Ordering::Relaxed);
        self.delivery.acked_packets.fetch_add(1, Ordering::Relaxed);
        self.controller.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        let is_complete = in_flight == 0 && app_limited;
        self.delivery.handle_acked(now, in_flight, is_complete);
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
        self.delivery.mtu.store(new_mtu.into(), Ordering::Relaxed);
        self.controller.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        let raised = self.delivery.raised_window.load(Ordering::Relaxed);
        self.controller.window().max(raised)
    }

    fn metrics(&self) -> ControllerMetrics {
        self.controller.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            controller: self.controller.clone_box(),
            delivery: Arc::clone(&self.delivery),
        })
    }

    fn initial_window(&self) -> u64 {
        self.controller.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self.controller.into_any()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(50);
    const MTU: u64 = 1400;

    fn raised(delivery: &Delivery) -> u64 {
        delivery.raised_window.load(Ordering::Relaxed)
    }

    #[test]
    fn a_datagram_gets_out_beyond_the_window_when_nothing_is_acknowledged_for_long() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let delivery = Delivery::default();
        delivery.mtu.store(MTU, Ordering::Relaxed);
        delivery.handle_sent(after(0), 100_000);
        delivery.handle_datagram(after(299), RTT);
        assert_eq!(raised(&delivery), 0, "an acknowledgement may be on its way");

        delivery.handle_datagram(after(300), RTT);
        assert_eq!(raised(&delivery), 100_000 + 2 * MTU);
        delivery.handle_sent(after(300), MTU);
        delivery.handle_datagram(after(320), RTT);
        assert_eq!(raised(&delivery), 100_000 + 2 * MTU, "one packet at a time");
        delivery.handle_datagram(after(330), RTT);
        assert_eq!(raised(&delivery), 100_000 + 3 * MTU);

        delivery.handle_acked(after(400), 5000, false);
        assert_eq!(raised(&delivery), 0);
        delivery.handle_datagram(after(699), RTT);
        assert_eq!(raised(&delivery), 0, "the peer lives");
        delivery.handle_acked(after(700), 0, true);
        delivery.handle_sent(after(5000), MTU);
        delivery.handle_datagram(after(5100), RTT);
        assert_eq!(raised(&delivery), 0, "a rest is no silence");
    }

    #[test]
    fn a_long_path_is_waited_for() {
        let start = Instant::now();
        let delivery = Delivery::default();
        delivery.handle_sent(start, 100_000);
        delivery.handle_datagram(start + Duration::from_millis(900), RTT * 6);
        assert_eq!(raised(&delivery), 0);
        delivery.handle_datagram(start + Duration::from_millis(1200), RTT * 6);
        assert!(raised(&delivery) > 0);
    }
}
