//! Whether the peer has everything that was sent.
//!
//! quinn tells when a stream that was ended has been acknowledged, but a carrier is closed with
//! streams in the middle, and must not end them in good order. So the congestion controller, which
//! hears of every acknowledgement, is wrapped in one that takes note of what is still in flight.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

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
}

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

    fn note(&self, is_complete: bool) {
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
        self.delivery.in_flight.fetch_add(bytes, Ordering::Relaxed);
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
        self.delivery.in_flight.store(in_flight, Ordering::Relaxed);
        self.delivery.note(in_flight == 0 && app_limited);
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
        self.controller.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.controller.window()
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
