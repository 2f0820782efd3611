//! Keeping up with somebody else who fills the queue.

use std::time::Instant;

use crate::cubic::CubicWindow;
use crate::loss::Tally;

/// The Cubic window against somebody else's.
#[derive(Clone, Debug)]
pub(crate) struct Rival {
    cubic: CubicWindow,
    /// The loss before, which is not congestion.
    loss_before: f64,
}

impl Rival {
    /// Begins with `held` bytes under way, after a window of `lately`.
    pub(crate) fn new(now: Instant, held: f64, lately: f64, loss_before: f64) -> Self {
        let window = lately.clamp(held * RIVAL_START, held * MAX_RIVAL_START);
        Self {
            cubic: CubicWindow::new(now, window, lately),
            loss_before,
        }
    }

    pub(crate) fn on_round(
        &mut self,
        now: Instant,
        tally: Tally,
        rtt: f64,
        base: f64,
        mtu: f64,
        is_app_limited: bool,
    ) {
        let before = self.loss_before;
        let sigma = (before.max(0.0005) * (1.0 - before) / tally.n.max(1.0)).sqrt();
        let is_excess = tally.share() > before + (3.0 * sigma).max(RIVAL_EXCESS);
        if is_excess && tally.lost >= 2.0 && rtt > RIVAL_DELAY * base {
            self.cubic.on_congestion(now, rtt);
        } else if !is_app_limited {
            self.cubic.on_round(now, rtt, mtu);
        }
    }

    pub(crate) fn window(&self) -> f64 {
        self.cubic.window()
    }
}

/// Where the Cubic window begins: with what there was before we were pushed back, between these in
/// units of what is under way.
const RIVAL_START: f64 = 1.05;
const MAX_RIVAL_START: f64 = 1.15;

/// Loss above that of before is congestion from this share on ...
const RIVAL_EXCESS: f64 = 0.005;

/// ... if round trips are longer than the path's by this factor.
const RIVAL_DELAY: f64 = 1.2;
