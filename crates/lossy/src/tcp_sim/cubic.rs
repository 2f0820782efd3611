//! Cubic that does not notice a growing delay in slow start: it overshoots by as much as can be.

#[derive(Clone, Debug)]
pub(super) struct Cubic {
    pub(super) window: f64,
    threshold: f64,
    max: f64,
    cut_at: f64,
    /// Numbers sent before it belong to the losses that the window was cut for.
    recovered_at: usize,
}

impl Cubic {
    pub(super) fn new() -> Self {
        Self {
            window: 10.0,
            threshold: f64::INFINITY,
            max: 0.0,
            cut_at: 0.0,
            recovered_at: 0,
        }
    }

    /// One that takes over from another, with its window.
    pub(super) fn take_over(window: f64, now: f64) -> Self {
        Self {
            window,
            threshold: 0.0,
            max: window,
            cut_at: now,
            recovered_at: 0,
        }
    }

    pub(super) fn handle_lost(&mut self, now: f64, number: usize, n_sent: usize) {
        if number >= self.recovered_at {
            self.recovered_at = n_sent;
            self.max = self.window;
            self.window = (self.window * 0.7).max(2.0);
            self.threshold = self.window;
            self.cut_at = now;
        }
    }

    pub(super) fn handle_arrived(&mut self, now: f64, srtt: f64) {
        if self.window < self.threshold {
            self.window += 1.0;
            return;
        }
        let to_max = (self.max * 0.3 / 0.4).cbrt();
        let time = now - self.cut_at + srtt;
        let target = 0.4_f64.mul_add((time - to_max).powi(3), self.max);
        let reno = 0.53 / self.window;
        self.window += ((target - self.window) / self.window).clamp(reno, 0.5);
    }
}
