//! A link in one direction, with faults drawn from a seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use bytes::Bytes;

/// What a link does to datagrams.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    pub delay: Duration,
    /// Added to each datagram's delay at random: above the distance of datagrams it reorders them.
    pub jitter: Duration,
    /// Probability that a datagram is lost. Corrupted ones count in: checksums make them losses.
    pub loss: f64,
    /// Mean length of the bursts in which losses come; 1 for independent losses.
    pub burst: f64,
    pub duplicates: f64,
    /// Bytes per second, and datagrams that wait for their turn at most. `None` has no limit.
    pub rate: Option<(u64, usize)>,
}

impl Profile {
    pub fn clean(delay_ms: u64) -> Self {
        Self {
            delay: Duration::from_millis(delay_ms),
            jitter: Duration::ZERO,
            loss: 0.0,
            burst: 1.0,
            duplicates: 0.0,
            rate: None,
        }
    }

    pub fn loss(self, loss: f64) -> Self {
        Self { loss, ..self }
    }

    pub fn burst(self, burst: f64) -> Self {
        Self { burst, ..self }
    }

    pub fn jitter_ms(self, jitter_ms: u64) -> Self {
        Self {
            jitter: Duration::from_millis(jitter_ms),
            ..self
        }
    }

    pub fn duplicates(self, duplicates: f64) -> Self {
        Self { duplicates, ..self }
    }

    pub fn rate_mbit(self, mbit: u64, n_queued: usize) -> Self {
        Self {
            rate: Some((mbit * 125_000, n_queued)),
            ..self
        }
    }

    /// Any link, as long as something gets through it.
    pub fn random(random: &mut Random) -> Self {
        let mut profile = Self::clean(random.below(120));
        if random.chance(0.7) {
            profile = profile.loss(random.unit() * 0.35);
        }
        if random.chance(0.3) {
            profile = profile.burst(1.0 + random.unit() * 7.0);
        }
        if random.chance(0.4) {
            profile = profile.jitter_ms(random.below(60));
        }
        if random.chance(0.3) {
            profile = profile.duplicates(random.unit() * 0.2);
        }
        if random.chance(0.4) {
            let n_queued = usize::try_from(random.below(200)).unwrap();
            profile = profile.rate_mbit(1 + random.below(50), 20 + n_queued);
        }
        profile
    }
}

/// Datagrams under way, by the time at which they arrive. Times are since the start of the run.
pub struct Link {
    pub profile: Profile,
    pub is_down: bool,
    random: Random,
    is_in_burst: bool,
    free_at: Duration,
    n_sent: u64,
    under_way: BinaryHeap<Reverse<(Duration, u64, Bytes)>>,
    pub n_bytes: u64,
    pub n_overflown: u64,
}

impl Link {
    pub fn new(profile: Profile, seed: u64) -> Self {
        Self {
            profile,
            is_down: false,
            random: Random::new(seed),
            is_in_burst: false,
            free_at: Duration::ZERO,
            n_sent: 0,
            under_way: BinaryHeap::new(),
            n_bytes: 0,
            n_overflown: 0,
        }
    }

    pub fn send(&mut self, datagram: &[u8], now: Duration) {
        self.n_bytes += datagram.len() as u64;
        let sent_at = match self.profile.rate {
            None => now,
            Some((rate, n_queued)) => {
                let spacing = |n_bytes: u64| Duration::from_nanos(n_bytes * 1_000_000_000 / rate);
                let longest_wait = spacing(n_queued as u64 * 1400);
                if self.free_at > now + longest_wait {
                    self.n_overflown += 1;
                    return;
                }
                self.free_at = self.free_at.max(now) + spacing(datagram.len() as u64 + 28);
                self.free_at
            }
        };
        if self.is_lost() || self.is_down {
            return;
        }
        let n_copies = 1 + u64::from(self.random.chance(self.profile.duplicates));
        for _ in 0..n_copies {
            let at = sent_at + self.profile.delay + self.profile.jitter.mul_f64(self.random.unit());
            self.n_sent += 1;
            let datagram = Bytes::copy_from_slice(datagram);
            self.under_way.push(Reverse((at, self.n_sent, datagram)));
        }
    }

    pub fn receive(&mut self, now: Duration) -> Option<Bytes> {
        if self.next_at()? > now {
            return None;
        }
        self.under_way
            .pop()
            .map(|Reverse((_, _, datagram))| datagram)
    }

    pub fn next_at(&self) -> Option<Duration> {
        self.under_way.peek().map(|Reverse((at, ..))| *at)
    }

    /// Gilbert's model: in a burst everything is lost, and the mean over all time is the loss.
    fn is_lost(&mut self) -> bool {
        let Profile { loss, burst, .. } = self.profile;
        let p_end = 1.0 / burst;
        let p_begin = if burst > 1.0 {
            loss * p_end / (1.0 - loss)
        } else {
            loss
        };
        self.is_in_burst = if burst > 1.0 && self.is_in_burst {
            !self.random.chance(p_end)
        } else {
            self.random.chance(p_begin)
        };
        self.is_in_burst
    }
}

/// Numbers from a seed: splitmix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.next() % end }
    }

    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.unit() < probability
    }
}
