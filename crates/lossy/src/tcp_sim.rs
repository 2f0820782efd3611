//! The system's TCP on paper, for tests: senders by Cubic and by BBR over one bottleneck.
//!
//! Times are in seconds and rates in segments a second. What is left out makes no difference to who
//! fills which queue: repairs are segments like others, and nothing is ever silent for long enough
//! for a timeout.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use crate::look::Look;

mod bbr;
mod cubic;
mod flow;

use bbr::Bbr;
use cubic::Cubic;
pub(crate) use flow::Flow;

/// One bottleneck with a queue that drops what finds it full.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) rate: f64,
    pub(crate) queue: f64,
    /// The part that is lost by chance.
    pub(crate) loss: f64,
    /// The round trip through an empty queue.
    pub(crate) rtt: f64,
    /// By how much each round trip is longer or shorter, on its own.
    pub(crate) jitter: f64,
    /// Acknowledgements come together, so often.
    pub(crate) grid: f64,
    /// From when on there is another rate.
    pub(crate) change: Option<(f64, f64)>,
    free_at: f64,
    random: u64,
}

impl Link {
    /// 100 Mbit/s, a round trip of 50 ms and 500 segments of queue.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rate: 8333.0,
            queue: 500.0,
            loss: 0.0,
            rtt: 0.05,
            jitter: 0.0,
            grid: 0.0,
            change: None,
            free_at: 0.0,
            random: seed,
        }
    }

    /// A fifth of it in rate and queue.
    pub(crate) fn slower(seed: u64) -> Self {
        Self {
            rate: 1667.0,
            queue: 100.0,
            ..Self::new(seed)
        }
    }

    /// Runs the flows. Of the first `watch` gets what the system tells every 20 ms, and the flow to
    /// change; it ends the run by returning something, which is returned with the time since that
    /// flow's beginning.
    pub(crate) fn run<T>(
        &mut self,
        flows: &mut [Flow],
        seconds: f64,
        mut watch: impl FnMut(Look, &mut Flow) -> Option<T>,
    ) -> Option<(f64, T)> {
        let start = a_time();
        let mut events = BinaryHeap::new();
        for (flow, begins) in flows.iter().map(|flow| flow.begins).enumerate() {
            events.push(Reverse((nanos(begins), flow, Event::Wake)));
        }
        let begins = flows[0].begins;
        let mut look_at = begins;
        while let Some(Reverse((at, n, event))) = events.pop() {
            let now = seconds_of(at);
            if now > seconds {
                return None;
            }
            if let Some((from, rate)) = self.change.filter(|(from, _)| now >= *from) {
                self.rate = rate;
                self.change = None;
                self.free_at = self.free_at.max(from);
            }
            let flow = &mut flows[n];
            match event {
                Event::Wake => flow.is_waiting = false,
                Event::Lost(number) => flow.handle_lost(now, number),
                Event::Arrived(number) => flow.handle_arrived(now, number),
            }
            while flow.has_room(now) {
                let number = flow.send(now);
                let (at, is_lost) = self.carry(now);
                let event = match is_lost {
                    true => Event::Lost(number),
                    false => Event::Arrived(number),
                };
                events.push(Reverse((nanos(at), n, event)));
            }
            if let Some(at) = flow.wakes_at(now) {
                flow.is_waiting = true;
                // Rounded up: then it is time.
                events.push(Reverse((nanos(at) + 1, n, Event::Wake)));
            }
            if n == 0 && now >= look_at && flow.min_rtt < f64::INFINITY {
                look_at = now + 0.02;
                let at = start + Duration::from_secs_f64(now);
                if let Some(outcome) = watch(flow.look(at), flow) {
                    return Some((now - begins, outcome));
                }
            }
        }
        None
    }

    /// When the sender learns what has become of a segment, and whether it is lost: of that it
    /// learns by those behind it.
    fn carry(&mut self, now: f64) -> (f64, bool) {
        let waiting = (self.free_at - now).max(0.0);
        let is_full = waiting * self.rate > self.queue;
        if !is_full {
            self.free_at = now + waiting + 1.0 / self.rate;
        }
        if is_full || self.chance() < self.loss {
            return (now + waiting + self.rtt * 1.25, true);
        }
        let jitter = self.jitter * 2.0f64.mul_add(self.chance(), -1.0);
        let mut at = self.free_at + self.rtt + jitter;
        if self.grid > 0.0 {
            at = (at / self.grid).ceil() * self.grid;
        }
        (at, false)
    }

    /// Between 0 and 1 (SplitMix64).
    #[expect(clippy::cast_precision_loss, reason = "chance needs no more precision")]
    pub(crate) fn chance(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as f64 / u64::MAX as f64
    }
}

/// What happens to a flow; segments by their number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// It begins, or its pace lets it send more.
    Wake,
    Lost(usize),
    Arrived(usize),
}

/// What decides how much is sent.
#[derive(Clone, Debug)]
enum Control {
    Cubic(Cubic),
    Bbr(Bbr),
}

pub(crate) fn a_time() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a time to begin with")]
    Instant::now()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times of a test are small and positive"
)]
fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

#[expect(clippy::cast_precision_loss, reason = "times of a test are small")]
fn seconds_of(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
