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
    /// Mean square of what a window differs from the floor by: losses may come in bursts.
    variance: f64,
    recent: VecDeque<Tally>,
    n_undecided: u32,
    n_windows_calm: u32,
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
            variance: 0.0,
            recent: VecDeque::new(),
            n_undecided: 0,
            n_windows_calm: 0,
        }
    }

    /// Takes note of a round at the full rate.
    pub(crate) fn on_round(&mut self, round: Tally, is_delayed: bool) -> Finding {
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
        self.judge(window, is_delayed)
    }

    fn judge(&mut self, window: Tally, is_delayed: bool) -> Finding {
        let (share, floor) = (window.share(), self.floor);
        let sigma = self.sigma(window.n);
        let is_excess = share > floor + (SIGMAS * sigma).max(MIN_EXCESS);
        let square = (share - floor).powi(2);
        self.variance += VARIANCE_WEIGHT * (square - self.variance);
        if is_excess {
            self.n_windows_calm = 0;
            return match is_delayed {
                true => Finding::Overflow,
                false => Finding::Unexplained,
            };
        }
        self.n_windows_calm = self.n_windows_calm.saturating_add(1);
        if share < floor - (SIGMAS * sigma).max(MIN_EXCESS) {
            self.floor = (floor + share) / 2.0;
        } else {
            self.floor += window.n / (window.n + FLOOR_PACKETS) * (share - floor);
        }
        self.floor = self.floor.min(MAX_FLOOR);
        Finding::Nothing
    }

    fn sigma(&self, n: f64) -> f64 {
        let floor = self.floor.max(0.0005);
        (floor * (1.0 - floor) / n).max(self.variance).sqrt()
    }

    /// The last rounds at the full rate, to compare a lower one with.
    pub(crate) fn recent(&self) -> Tally {
        let mut sum = Tally::default();
        for round in &self.recent {
            sum.add(*round);
        }
        sum
    }

    /// Compares what was lost before with what was lost at `gain` times that rate.
    pub(crate) fn on_tried(&mut self, before: Tally, low: Tally, gain: f64, was_delayed: bool) {
        if before.n < MIN_TRIED_PACKETS || low.n < MIN_TRIED_PACKETS {
            return;
        }
        let (high, low_share) = (before.share(), low.share());
        // A policer lets the same through at either rate.
        let if_policed = (1.0 - (1.0 - high) / gain).max(0.0);
        let expected = high - if_policed;
        let difference = high - low_share;
        let pooled = {
            let mut sum = before;
            sum.add(low);
            sum.share()
        };
        let iid = pooled * (1.0 - pooled) * (1.0 / before.n + 1.0 / low.n);
        let sigma = iid.sqrt();
        if high < MIN_TRIED_LOSS && self.floor < MIN_TRIED_LOSS {
            self.settle();
            return;
        }
        if difference > 0.5 * expected && difference > 2.0 * sigma {
            self.floor = self.floor.min(low_share);
            self.mean = self.mean.min(high);
            self.is_policed = !was_delayed;
            self.settle();
        } else if difference < 0.5 * expected || self.n_undecided >= MAX_UNDECIDED {
            self.floor = pooled.min(MAX_FLOOR);
            self.is_policed = false;
            self.settle();
        } else {
            self.n_undecided += 1;
        }
    }

    fn settle(&mut self) {
        self.is_tried = true;
        self.n_undecided = 0;
        self.open = Tally::default();
    }

    /// Takes note that there is a queue: the bottleneck is no policer.
    pub(crate) fn on_queue(&mut self) {
        self.is_policed = false;
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

const VARIANCE_WEIGHT: f64 = 0.1;

/// Standard deviations that are not chance any more ...
const SIGMAS: f64 = 3.0;

/// ... and a share that is worth anything.
const MIN_EXCESS: f64 = 0.04;

/// More than this is not compensated for: of three packets one arrives, and what it costs others
/// is out of proportion.
const MAX_FLOOR: f64 = 0.65;

const RECENT_ROUNDS: usize = 4;

/// Packets at either rate that a comparison needs.
const MIN_TRIED_PACKETS: f64 = 20.0;

/// Less loss than this is not worth a comparison.
const MIN_TRIED_LOSS: f64 = 0.015;

/// After as many comparisons in a row that tell nothing, the loss is taken for the path's own.
const MAX_UNDECIDED: u32 = 2;

const DETECTION_WEIGHT: f64 = 0.2;

/// A loss that takes longer to notice comes from too little to send.
const MAX_DETECTION: f64 = 4.0;
