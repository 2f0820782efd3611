//! A rate that is given, and copies of what somebody waits for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use transports::kcp::Fast;
use transports::kcp::control::{LossDetection, SendControl};
use transports::kcp::copies::{Copies, CopyPolicy, Piece};

/// Sessions that send at `rate` bytes per second, whatever happens.
pub fn at_rate(rate: u64) -> Fast {
    Fast {
        control: Arc::new(move |_| Box::new(FixedRate { rate })),
        copies: Some(Arc::new(|_| Box::new(Two))),
    }
}

#[derive(Debug)]
struct FixedRate {
    rate: u64,
}

impl SendControl for FixedRate {
    fn window(&self) -> u32 {
        8192
    }

    fn pacing_rate(&self) -> Option<u64> {
        Some(self.rate)
    }

    fn loss_detection(&self) -> LossDetection {
        LossDetection::Rack {
            n_reordered: 3,
            reorder_time: Duration::from_millis(15),
        }
    }
}

#[derive(Debug)]
struct Two;

impl CopyPolicy for Two {
    fn copies(&mut self, _: Instant, _: Piece) -> Copies {
        Copies {
            n_extra: 2,
            spacing: Duration::from_millis(2),
        }
    }
}
