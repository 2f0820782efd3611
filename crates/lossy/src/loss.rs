//! Which loss is the path's own.
//!
//! A link that loses a share of the packets by itself loses the same share at any rate. A full
//! queue makes packets late before it loses any. A policer and a very short queue lose without
//! delay, but only above their rate. So loss that comes without delay is taken for the path's own
//! if it stays when less is sent.

use std::collections::VecDeque;

use crate::rates::count;

/// Packets and how many of them were lost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) n: f64,
    pub(crate) lost: f64,
}

impl Tally {
    pub(crate) fn new(acked: u64, lost: u64, mtu: f64) -> Self {
        Self {
            n: count(acked + lost) / mtu,
            lost: count(lost) / mtu,
        }
    }

    fn add(&mut self, other: Self) {
        self.n += other.n;
        self.lost += other.lost;
    }

    pub(crate) fn share(&self) -> f64 {
        match self.n > 0.0 {
            true => (self.lost / self.n).clamp(0.0, 1.0),
            false => 0.0,
        }
    }
}

/// What is known about loss.
#[derive(Clone, Debug)]
pub(crate) struct Loss {
    /// The share that is lost whatever is sent.
    pub(crate) floor: f64,
    /// The share that is lost lately.
    pub(crate) mean: f64,
    /// How long a lost packet is under way until it is noticed, in round trips.
    pub(crate) detection: f64,
    /// Whether loss without delay has gone away with a lower rate.
    pub(crate) is_policed: bool,
    /// Whether the floor has been tried at a lower rate.
    is_tried: bool,
    total: Tally,
    open: Tally,
    /// The highest rate at which no more than the floor was lost.
    known_rate: f64,
    /// Packets that are lost at once: with more of them chance has a longer reach.
    burst: f64,
    recent: VecDeque<Tally>,
    /// Before, and while less was sent, as long as it is too little to compare.
    tried: (Tally, Tally),
}

/// What a window of packets says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Too little to say anything, or what was expected.
    Nothing,
    /// More than the floor, and packets were late.
    Overflow,
    /// More than the floor, without delay: to be tried at a lower rate.
    Unexplained,
}

/// How long packets wait in queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// Hardly at all.
    None,
    /// About as long as they are meant to: the link is full, and its queue is not.
    Short,
    /// So long that a queue may be full.
    Long,
}

impl Loss {
    pub(crate) fn new() -> Self {
        Self {
            floor: 0.0,
            mean: 0.0,
            detection: 1.0,
            is_policed: false,
            is_tried: false,
            total: Tally::default(),
            open: Tally::default(),
            known_rate: 0.0,
            burst: 1.0,
            recent: VecDeque::new(),
            tried: Default::default(),
        }
    }

    /// Takes note of a round at the full rate: what became of its packets, the rate at which they
    /// were resolved, and how long they waited.
    pub(crate) fn on_round(&mut self, round: Tally, rate: f64, waits: Waits) -> Finding {
        let is_delayed = waits == Waits::Long;
        if round.n <= 0.0 {
            return Finding::Nothing;
        }
        let weight = (round.n / (round.n + MEAN_PACKETS)).min(MAX_WEIGHT);
        self.mean += weight * (round.share() - self.mean);
        if self.recent.len() == RECENT_ROUNDS {
            self.recent.pop_front();
        }
        self.recent.push_back(round);
        if !self.is_tried {
            if !is_delayed {
                self.total.add(round);
            }
            if self.total.n >= FIRST_PACKETS {
                self.floor = self.total.share().min(MAX_FLOOR);
                self.mean = self.mean.max(self.floor);
            }
        }
        self.open.add(round);
        if self.open.n < WINDOW_PACKETS {
            return Finding::Nothing;
        }
        let window = std::mem::take(&mut self.open);
        self.judge(window, rate, waits)
    }

    fn judge(&mut self, window: Tally, rate: f64, waits: Waits) -> Finding {
        let (share, floor) = (window.share(), self.floor);
        let margin = (SIGMAS * self.sigma(floor, 1.0 / window.n)).max(MIN_EXCESS);
        // What is sent faster than ever may be lost for that.
        let may_rise = rate <= self.known_rate * RATE_MARGIN && !self.is_policed;
        if share > floor + margin {
            match waits {
                Waits::Long => return Finding::Overflow,
                Waits::Short if may_rise => self.floor = share,
                _ => return Finding::Unexplained,
            }
        } else if share < floor - margin {
            self.floor = (floor + share) / 2.0;
        } else if share < floor || may_rise {
            self.floor += window.n / (window.n + FLOOR_PACKETS) * (share - floor);
        }
        if share < floor + KNOWN_EXCESS {
            self.known_rate = self.known_rate.max(rate);
        }
        self.floor = self.floor.min(MAX_FLOOR);
        Finding::Nothing
    }

    /// The standard deviation of the share of `share` that is lost out of `1 / inverse_n`.
    fn sigma(&self, share: f64, inverse_n: f64) -> f64 {
        let variance = share.max(0.0005) * (1.0 - share) * inverse_n;
        (variance * self.burst.mul_add(2.0, -1.0)).sqrt()
    }

    /// Takes note of how many packets were lost at once.
    pub(crate) fn on_burst(&mut self, n_packets: f64) {
        let n_packets = n_packets.clamp(1.0, MAX_BURST);
        self.burst += BURST_WEIGHT * (n_packets - self.burst);
    }

    /// The last rounds at the full rate, to compare a lower one with.
    pub(crate) fn recent(&self) -> Tally {
        let mut sum = Tally::default();
        for round in &self.recent {
            sum.add(*round);
        }
        sum
    }

    /// Compares what was lost before with what was lost at a rate that any policer on the path lets
    /// through: there only the path's own loss is left.
    pub(crate) fn on_tried(&mut self, before: Tally, low: Tally, rate: f64, was_delayed: bool) {
        self.tried.0.add(before);
        self.tried.1.add(low);
        let (before, low) = self.tried;
        if before.n < MIN_TRIED_PACKETS || low.n < MIN_TRIED_PACKETS {
            return;
        }
        self.tried = Default::default();
        let (high, low_share) = (before.share(), low.share());
        let mut both = before;
        both.add(low);
        let pooled = both.share();
        let sigma = self.sigma(pooled, 1.0 / before.n + 1.0 / low.n);
        let known = if self.is_tried {
            self.floor.min(high)
        } else {
            0.0
        };
        if self.is_policed && high < self.floor + MIN_EXCESS {
            return;
        }
        let is_much = high - low_share > (TRIED_SIGMAS * sigma).max(MIN_TRIED_EXCESS);
        if low_share < (high + known) / 2.0 && is_much {
            self.floor = low_share;
            self.mean = self.mean.min(high);
            self.is_policed = !was_delayed;
        } else {
            self.floor = pooled.min(MAX_FLOOR);
            self.is_policed = false;
            self.known_rate = rate;
        }
        self.is_tried = true;
        self.open = Tally::default();
    }

    /// How much longer than the round trip packets are under way, those included that are lost.
    pub(crate) fn stretch(&self) -> f64 {
        self.mean.mul_add(self.detection - 1.0, 1.0)
    }

    /// Takes note of how long lost packets were under way, in round trips.
    pub(crate) fn on_detection(&mut self, round_trips: f64) {
        let round_trips = round_trips.clamp(1.0, MAX_DETECTION);
        self.detection += DETECTION_WEIGHT * (round_trips - self.detection);
    }
}

/// Packets that make up a window, so that a share is known to a few points.
const WINDOW_PACKETS: f64 = 200.0;

/// Packets after which a first floor is assumed.
const FIRST_PACKETS: f64 = 20.0;

/// How fast the mean follows: in packets, and for a round at most.
const MEAN_PACKETS: f64 = 400.0;
const MAX_WEIGHT: f64 = 0.25;

/// How fast the floor follows what is not excess, in packets.
const FLOOR_PACKETS: f64 = 2000.0;

/// Standard deviations that are not chance any more ...
const SIGMAS: f64 = 3.0;

/// ... and a share that is worth anything.
const MIN_EXCESS: f64 = 0.04;

/// A rate that is above the known one by this factor has to be tried.
const RATE_MARGIN: f64 = 1.1;

/// A window with this much more than the floor still tells that the rate is harmless.
const KNOWN_EXCESS: f64 = 0.01;

/// More than this is not compensated for: of three packets one arrives, and what it costs others
/// is out of proportion.
const MAX_FLOOR: f64 = 0.65;

const RECENT_ROUNDS: usize = 4;

/// Packets at either rate that a comparison needs.
const MIN_TRIED_PACKETS: f64 = 20.0;

/// A smaller difference is chance.
const MIN_TRIED_EXCESS: f64 = 0.015;

/// Standard deviations by which the two must differ.
const TRIED_SIGMAS: f64 = 2.5;

/// How fast a change of the bursts' length is followed, for each burst.
const BURST_WEIGHT: f64 = 0.05;
const MAX_BURST: f64 = 30.0;

const DETECTION_WEIGHT: f64 = 0.2;

/// A loss that takes longer to notice comes from too little to send.
const MAX_DETECTION: f64 = 4.0;
