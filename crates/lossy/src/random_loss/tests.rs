//! Windows as TCP has them, over one link that loses by chance or by a full queue.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;

#[test]
fn random_loss_is_known_within_a_second_of_sending() {
    for loss in [0.01, 0.05, 0.1, 0.3] {
        let mut times: Vec<_> = (0..100)
            .map(|seed| {
                let mut link = Link::new(seed);
                link.loss = loss;
                let found = link.run(vec![Flow::new(0.0)], 30.0);
                found.unwrap_or_else(|| panic!("{loss} is never noticed, seed {seed}"))
            })
            .collect();
        times.sort_by(|a, b| a.at.total_cmp(&b.at));
        let (median, late) = (times[50], times[95]);
        assert!(median.at < 1.2, "{loss}: {median:?}");
        assert!(late.at < 4.0, "{loss}: {late:?}");
    }
}

#[test]
fn a_queue_that_overflows_is_no_random_loss() {
    // A window that doubles until hundreds are dropped at once, and saw teeth for a minute.
    for queue in [200.0, 500.0, 1000.0] {
        for seed in 0..5 {
            let mut link = Link::new(seed);
            link.queue = queue;
            let found = link.run(vec![Flow::new(0.0)], 60.0);
            assert!(found.is_none(), "queue {queue}, seed {seed}: {found:?}");
        }
    }
}

#[test]
fn narrow_links_with_short_queues_are_no_random_loss() {
    for (rate, queue) in [(83.0, 20.0), (830.0, 50.0), (830.0, 100.0)] {
        let mut link = Link::new(1);
        link.rate = rate;
        link.queue = queue;
        let found = link.run(vec![Flow::new(0.0)], 120.0);
        assert!(found.is_none(), "{rate}/s, queue {queue}: {found:?}");
    }
}

#[test]
fn others_who_fill_the_queue_are_no_random_loss() {
    for seed in 0..5 {
        let mut link = Link::new(seed);
        // Whoever comes later meets a standing queue, and its drops.
        let flows = vec![Flow::new(5.0), Flow::new(0.0), Flow::new(1.0)];
        let found = link.run(flows, 60.0);
        assert!(found.is_none(), "seed {seed}: {found:?}");
    }
}

#[test]
fn losses_with_long_rests_between_them_are_no_random_loss() {
    let start = a_time();
    let mut rule = RandomLoss::default();
    let rtt = Duration::from_millis(50);
    for n in 0..100 {
        let look = Look {
            at: start + Duration::from_secs(15) * n,
            sent: u64::from(n) * 2,
            sent_again: u64::from(n),
            srtt: rtt,
            min_rtt: rtt,
        };
        assert!(!rule.handle_look(look));
    }
}

fn a_time() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a time to begin with")]
    Instant::now()
}

/// When it was found, and what had been sent by then.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "a failed test shows it")]
struct Found {
    at: f64,
    sent: u64,
    sent_again: u64,
}

/// One bottleneck; times in seconds, rates in segments a second.
struct Link {
    rate: f64,
    queue: f64,
    loss: f64,
    rtt: f64,
    free_at: f64,
    random: u64,
}

impl Link {
    /// 100 Mbit/s, a round trip of 50 ms and 500 segments of queue.
    fn new(seed: u64) -> Self {
        Self {
            rate: 8333.0,
            queue: 500.0,
            loss: 0.0,
            rtt: 0.05,
            free_at: 0.0,
            random: seed,
        }
    }

    /// Runs the flows, the first of which is watched as the system's numbers of it are read.
    fn run(&mut self, mut flows: Vec<Flow>, seconds: f64) -> Option<Found> {
        let start = a_time();
        let mut rule = RandomLoss::default();
        let mut events = BinaryHeap::new();
        for (flow, begins) in flows.iter().map(|flow| flow.begins).enumerate() {
            events.push(Reverse((nanos(begins), flow, Fate::Begin)));
        }
        let (begins, mut look_at) = (flows[0].begins, flows[0].begins);
        while let Some(Reverse((at, n, fate))) = events.pop() {
            let now = seconds_of(at);
            if now > seconds {
                return None;
            }
            flows[n].handle(now, fate);
            while flows[n].has_room() {
                let (at, fate) = self.carry(now);
                let number = flows[n].send();
                events.push(Reverse((nanos(at), n, fate.of(number, now))));
            }
            let watched = &flows[0];
            if n == 0 && now >= look_at && watched.min_rtt < f64::INFINITY {
                look_at = now + 0.02;
                let is_found = rule.handle_look(Look {
                    at: start + Duration::from_secs_f64(now),
                    sent: watched.sent,
                    sent_again: watched.sent_again,
                    srtt: Duration::from_secs_f64(watched.srtt),
                    min_rtt: Duration::from_secs_f64(watched.min_rtt),
                });
                if is_found {
                    return Some(Found {
                        at: now - begins,
                        sent: watched.sent,
                        sent_again: watched.sent_again,
                    });
                }
            }
        }
        None
    }

    /// When the sender learns what has become of a segment: of a loss by those behind it.
    fn carry(&mut self, now: f64) -> (f64, Outcome) {
        let waiting = (self.free_at - now).max(0.0);
        let is_full = waiting * self.rate > self.queue;
        if !is_full {
            self.free_at = now + waiting + 1.0 / self.rate;
        }
        if is_full || self.chance() < self.loss {
            return (now + waiting + self.rtt * 1.25, Outcome::Lost);
        }
        (self.free_at + self.rtt, Outcome::Arrived)
    }

    /// Between 0 and 1 (SplitMix64).
    #[expect(clippy::cast_precision_loss, reason = "chance needs no more precision")]
    fn chance(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as f64 / u64::MAX as f64
    }
}

#[derive(Clone, Copy)]
enum Outcome {
    Lost,
    Arrived,
}

impl Outcome {
    fn of(self, number: u64, sent_at: f64) -> Fate {
        match self {
            Self::Lost => Fate::Lost(number),
            Self::Arrived => Fate::Arrived(nanos(sent_at)),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Begin,
    Lost(u64),
    Arrived(u64),
}

/// A Cubic sender that always has something to send, and does not notice a growing delay in slow
/// start: it overshoots by as much as can be.
struct Flow {
    begins: f64,
    has_begun: bool,
    window: f64,
    threshold: f64,
    max: f64,
    cut_at: f64,
    in_flight: f64,
    to_repeat: u64,
    /// Numbers sent before it belong to the losses that the window was cut for.
    recovered_at: u64,
    sent: u64,
    sent_again: u64,
    srtt: f64,
    min_rtt: f64,
}

impl Flow {
    fn new(begins: f64) -> Self {
        Self {
            begins,
            has_begun: false,
            window: 10.0,
            threshold: f64::INFINITY,
            max: 0.0,
            cut_at: 0.0,
            in_flight: 0.0,
            to_repeat: 0,
            recovered_at: 0,
            sent: 0,
            sent_again: 0,
            srtt: 0.0,
            min_rtt: f64::INFINITY,
        }
    }

    fn has_room(&self) -> bool {
        self.has_begun && self.in_flight < self.window
    }

    fn send(&mut self) -> u64 {
        if self.to_repeat > 0 {
            self.to_repeat -= 1;
            self.sent_again += 1;
        }
        self.in_flight += 1.0;
        self.sent += 1;
        self.sent
    }

    fn handle(&mut self, now: f64, fate: Fate) {
        match fate {
            Fate::Begin => self.has_begun = true,
            Fate::Lost(number) => {
                self.in_flight -= 1.0;
                self.to_repeat += 1;
                if number > self.recovered_at {
                    self.recovered_at = self.sent;
                    self.max = self.window;
                    self.window = (self.window * 0.7).max(2.0);
                    self.threshold = self.window;
                    self.cut_at = now;
                }
            }
            Fate::Arrived(sent_at) => {
                self.in_flight -= 1.0;
                let rtt = now - seconds_of(sent_at);
                self.min_rtt = self.min_rtt.min(rtt);
                let weight = if self.srtt > 0.0 { 0.125 } else { 1.0 };
                self.srtt += weight * (rtt - self.srtt);
                self.grow(now);
            }
        }
    }

    fn grow(&mut self, now: f64) {
        if self.window < self.threshold {
            self.window += 1.0;
            return;
        }
        let to_max = (self.max * 0.3 / 0.4).cbrt();
        let time = now - self.cut_at + self.srtt;
        let target = 0.4_f64.mul_add((time - to_max).powi(3), self.max);
        let reno = 0.53 / self.window;
        self.window += ((target - self.window) / self.window).clamp(reno, 0.5);
    }
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
