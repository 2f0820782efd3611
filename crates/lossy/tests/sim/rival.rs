//! The Cubic of a kernel's TCP: RFC 9438 with HyStart's delay signal.

pub struct Cubic {
    /// In packets.
    pub window: f64,
    ssthresh: f64,
    max: f64,
    reno: f64,
    since: f64,
    cut_at: f64,
    lowest_rtt: f64,
    rtt: f64,
}

impl Cubic {
    pub fn new() -> Self {
        Self {
            window: 10.0,
            ssthresh: f64::INFINITY,
            max: 0.0,
            reno: 0.0,
            since: 0.0,
            cut_at: -1.0,
            lowest_rtt: f64::INFINITY,
            rtt: 0.1,
        }
    }

    pub fn on_acked(&mut self, now: f64, rtt: f64) {
        self.lowest_rtt = self.lowest_rtt.min(rtt);
        self.rtt += (rtt - self.rtt) / 8.0;
        if self.window < self.ssthresh {
            self.window += 1.0;
            if rtt > self.lowest_rtt + (self.lowest_rtt / 8.0).clamp(0.004, 0.016) {
                self.ssthresh = self.window;
                (self.max, self.reno, self.since) = (self.window, self.window, now);
            }
            return;
        }
        let to_max = (self.max * 0.3 / 0.4).cbrt();
        let target = 0.4 * (now - self.since + self.rtt - to_max).powi(3) + self.max;
        self.reno += 0.53 / self.window;
        let target = target.max(self.reno).clamp(self.window, self.window * 1.5);
        self.window += (target - self.window) / self.window;
    }

    pub fn on_lost(&mut self, now: f64, sent_at: f64) {
        if sent_at <= self.cut_at {
            return;
        }
        self.cut_at = now;
        self.max = match self.window < self.max {
            true => self.window * 0.85,
            false => self.window,
        };
        self.window = (self.window * 0.7).max(2.0);
        (self.ssthresh, self.reno, self.since) = (self.window, self.window, now);
    }
}
