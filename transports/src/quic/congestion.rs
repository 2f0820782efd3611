//! How fast a connection sends: which congestion controllers there are, and `lossy` as one of them.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use lossy::{Acked, LossCause, Lost};
use quinn::congestion::{BbrConfig, Controller, ControllerFactory, ControllerMetrics, CubicConfig};
use quinn_proto::RttEstimator;

use super::capped::Capped;

/// Decides how fast a connection may send.
#[derive(Clone)]
pub struct Congestion(pub Arc<dyn ControllerFactory + Send + Sync>);

impl Congestion {
    /// Keeps a path full that loses packets by itself ([`lossy`]), with `max_rate` bytes per second
    /// at most.
    pub fn lossy(max_rate: Option<u64>) -> Self {
        Self(Arc::new(LossyConfig { max_rate }))
    }
}

impl Default for Congestion {
    /// [`Congestion::lossy`], without a limit.
    fn default() -> Self {
        Self::lossy(None)
    }
}

impl fmt::Debug for Congestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Congestion").finish_non_exhaustive()
    }
}

/// The congestion controllers that can be chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuicCongestion {
    /// Ours, which keeps its rate where packets are lost.
    #[default]
    Lossy,
    /// RFC 9438: what the kernel's TCP does. It gives way to any loss.
    Cubic,
    /// The first version of BBR, as quinn has it. It keeps queues full.
    Bbr,
}

impl QuicCongestion {
    /// Makes what connections are started with: at most `max_rate` bytes per second.
    pub fn build(self, max_rate: Option<u64>) -> Congestion {
        let uncapped = match self {
            Self::Lossy => return Congestion::lossy(max_rate),
            Self::Cubic => Congestion(Arc::new(CubicConfig::default())),
            Self::Bbr => Congestion(Arc::new(BbrConfig::default())),
        };
        match max_rate {
            None => uncapped,
            Some(max_rate) => Congestion(Arc::new(Capped {
                congestion: uncapped,
                max_rate,
            })),
        }
    }
}

/// Starts controllers.
#[derive(Clone, Copy, Debug)]
struct LossyConfig {
    max_rate: Option<u64>,
}

impl ControllerFactory for LossyConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let config = lossy::Config {
            mtu: current_mtu.into(),
            max_rate: self.max_rate,
        };
        let controller = lossy::Controller::new(config, now);
        Box::new(Lossy {
            initial_window: controller.window(),
            controller,
        })
    }
}

/// Tells a [`lossy::Controller`] what quinn tells.
#[derive(Clone, Debug)]
struct Lossy {
    controller: lossy::Controller,
    initial_window: u64,
}

impl Controller for Lossy {
    fn on_sent(&mut self, now: Instant, bytes: u64, _last_packet_number: u64) {
        self.controller.on_sent(now, bytes);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        _rtt: &RttEstimator,
    ) {
        let acked = Acked {
            sent_at: sent,
            bytes,
            is_app_limited: app_limited,
            is_exact: true,
        };
        self.controller.on_acked(now, acked);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        _app_limited: bool,
        _largest_packet_num_acked: Option<u64>,
    ) {
        self.controller.on_acks_end(now, in_flight);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        _is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        // Without bytes it is a mark of ECN. What sets marks also delays, and that is noticed.
        if lost_bytes == 0 {
            return;
        }
        let lost = Lost {
            sent_at: sent,
            bytes: lost_bytes,
            cause: LossCause::Overtaken,
        };
        self.controller.on_lost(now, lost);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.controller.on_mtu(new_mtu.into());
    }

    fn window(&self) -> u64 {
        self.controller.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = ControllerMetrics::default();
        metrics.congestion_window = self.controller.window();
        metrics.pacing_rate = Some(self.controller.pacing_rate() * 8);
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.initial_window
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        Box::new(self.controller)
    }
}
