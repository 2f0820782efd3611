//! A simulated bottleneck with what networks do to packets.

use std::collections::VecDeque;

/// xorshift64*: a stream of numbers from a seed.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub fn range(&mut self, from: f64, to: f64) -> f64 {
        from + (to - from) * self.unit()
    }

    /// Between the two, as likely in each octave.
    pub fn octaves(&mut self, from: f64, to: f64) -> f64 {
        self.range(from.ln(), to.ln()).exp()
    }
}

/// How packets are lost behind the bottleneck.
#[derive(Clone, Copy, Debug)]
pub enum LossModel {
    Iid(f64),
    /// Gilbert and Elliott: all are lost in the bad state.
    Bursts {
        to_bad: f64,
        to_good: f64,
    },
}

impl LossModel {
    pub fn mean(self) -> f64 {
        match self {
            Self::Iid(share) => share,
            Self::Bursts { to_bad, to_good } => to_bad / (to_bad + to_good),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Bytes per second.
    pub rate: f64,
    /// One way, in seconds.
    pub delay: f64,
    /// Up to this much more, for each packet on its own, so that they overtake each other.
    pub jitter: f64,
    pub queue_packets: usize,
    pub loss: LossModel,
    /// Of acknowledgements.
    pub ack_loss: f64,
    /// Drops what exceeds this rate and a small burst, without delay.
    pub police: Option<f64>,
}

impl Profile {
    pub fn new(mbit: f64, rtt_ms: f64) -> Self {
        Self {
            rate: mbit * 1e6 / 8.0,
            delay: rtt_ms / 2000.0,
            jitter: 0.0,
            queue_packets: 500,
            loss: LossModel::Iid(0.0),
            ack_loss: 0.0,
            police: None,
        }
    }

    /// A link as there are many: its seed decides.
    pub fn random(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let rate = random.octaves(1.0, 40.0);
        let rtt = random.octaves(10.0, 300.0);
        let mut profile = Self::new(rate, rtt);
        // From a quarter of what is under way to four times that.
        let held = profile.rate * profile.delay * 2.0 / 1452.0;
        profile.queue_packets = (held * random.octaves(0.25, 4.0)).max(10.0) as usize;
        if random.unit() < 0.7 {
            let share = random.octaves(0.001, 0.35);
            profile.ack_loss = share * random.unit();
            profile.loss = match random.unit() < 0.7 {
                true => LossModel::Iid(share),
                false => {
                    let to_good = random.range(0.1, 0.5);
                    let to_bad = to_good * share / (1.0 - share);
                    LossModel::Bursts { to_bad, to_good }
                }
            };
        }
        if random.unit() < 0.25 {
            profile.jitter = profile.delay * random.range(0.0, 0.4);
        }
        if held > 30.0 && random.unit() < 0.15 {
            profile.police = Some(profile.rate * random.range(0.3, 0.9));
        }
        profile
    }

    /// Lost at random, in both directions.
    pub fn loss_pct(self, pct: f64) -> Self {
        Self {
            loss: LossModel::Iid(pct / 100.0),
            ack_loss: pct / 100.0,
            ..self
        }
    }

    /// The rate that is left for what arrives.
    pub fn goodput(&self) -> f64 {
        self.rate.min(self.police.unwrap_or(f64::INFINITY)) * (1.0 - self.loss.mean())
    }
}

pub struct Link {
    pub profile: Profile,
    random: Random,
    departures: VecDeque<f64>,
    is_bad: bool,
    last_at: f64,
    tokens: f64,
    tokens_at: f64,
    pub n_overflowed: u64,
    pub n_sent: u64,
    /// Seconds of queue that packets met, summed.
    pub queued: f64,
}

impl Link {
    pub fn new(profile: Profile, seed: u64) -> Self {
        Self {
            profile,
            random: Random::new(seed),
            departures: VecDeque::new(),
            is_bad: false,
            last_at: 0.0,
            tokens: POLICER_BURST,
            tokens_at: 0.0,
            n_overflowed: 0,
            n_sent: 0,
            queued: 0.0,
        }
    }

    /// Takes a packet. Returns when it arrives, if it does.
    pub fn send(&mut self, now: f64, bytes: f64) -> Option<f64> {
        let profile = self.profile;
        self.n_sent += 1;
        if let Some(rate) = profile.police {
            self.tokens += (now - self.tokens_at) * rate;
            self.tokens = self.tokens.min(POLICER_BURST);
            self.tokens_at = now;
            if self.tokens < bytes {
                self.n_overflowed += 1;
                return None;
            }
            self.tokens -= bytes;
        }
        while self.departures.front().is_some_and(|at| *at <= now) {
            self.departures.pop_front();
        }
        if self.departures.len() > profile.queue_packets {
            self.n_overflowed += 1;
            return None;
        }
        let free_at = self.departures.back().copied().unwrap_or(now);
        let queued = free_at - now;
        self.queued += queued;
        let departure = free_at + bytes / profile.rate;
        self.departures.push_back(departure);
        if self.is_lost(now) {
            return None;
        }
        Some(departure + profile.delay + profile.jitter * self.random.unit())
    }

    fn is_lost(&mut self, now: f64) -> bool {
        match self.profile.loss {
            LossModel::Iid(share) => self.random.unit() < share,
            LossModel::Bursts { to_bad, to_good } => {
                let turn = if self.is_bad { to_good } else { to_bad };
                self.is_bad ^= self.random.unit() < turn;
                // A burst goes on in time too, not only while somebody sends.
                self.is_bad &= now - self.last_at < 0.05;
                self.last_at = now;
                self.is_bad
            }
        }
    }

    /// Sends an acknowledgement the other way, where there is room.
    pub fn send_ack(&mut self, now: f64) -> Option<f64> {
        if self.random.unit() < self.profile.ack_loss {
            return None;
        }
        Some(now + self.profile.delay + self.profile.jitter * self.random.unit())
    }
}

/// Bytes that a policer lets through at once.
const POLICER_BURST: f64 = 30_000.0;
