//! What a link is like: rate, queue, delay, and what happens to packets on the way.
//!
//! A packet passes the parts of a link in this order, in each direction on its own:
//!
//! 1. the **queue** in front of the bottleneck, first in, first out, `queue_packets` long with the
//!    packet being sent; a packet that finds it full is dropped (*overflowed*),
//! 2. the **bottleneck**, which takes a packet's length in IP bytes divided by the rate,
//! 3. **loss**: a lost packet has used up its part of the rate, so (1 - loss) x rate arrive,
//! 4. **duplication** and **corruption**,
//! 5. the **delay** with its jitter. Jitter is evenly distributed over delay +- jitter, for each
//!    packet on its own, so packets overtake each other: what `netem` does in a stage without rate.
//!    A *reordered* packet skips the delay, as `netem`'s do.

use std::time::Duration;

pub use file::ProfileError;

mod file;

/// A link in both directions.
///
/// Starts from [`Profile::unlimited`], [`Profile::delay_ms`] or the default (the link that
/// measurements use unless they say otherwise: 100 Mbit/s, 25 ms each way, a queue of 500 packets),
/// or from a file with [`Profile::load`]. Methods change both directions; [`Profile::to_near`] and
/// [`Profile::to_far`] change one.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    pub(crate) to_far: Way,
    pub(crate) to_near: Way,
}

/// One direction of a link.
#[derive(Clone, Debug, PartialEq)]
pub struct Way {
    /// The rate of the bottleneck in IP bits, or nothing for a link that is only as slow as the
    /// machine.
    pub rate_mbit: Option<f64>,
    /// How long a packet travels after the bottleneck.
    pub delay: Duration,
    /// How far the delay varies to either side.
    pub jitter: Duration,
    /// How many packets fit into the queue, with the one that is being sent.
    pub queue_packets: usize,
    /// Which packets get lost.
    pub loss: Loss,
    /// How many percent of the packets skip the delay.
    pub reorder_pct: f64,
    /// How many percent of the packets arrive twice.
    pub duplicate_pct: f64,
    /// How many percent of the packets with payload have one bit of it flipped.
    pub corrupt_pct: f64,
    /// What a corrupted packet's checksum says.
    pub corrupt_checksum: CorruptChecksum,
}

/// Which packets get lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// Each packet on its own with this probability.
    Random {
        /// The probability.
        pct: f64,
    },
    /// Bursts, after Gilbert and Elliott: the link is good or bad, and what is sent while it is
    /// bad gets lost. The state changes with packets and not with time, as `netem`'s does: on a
    /// quiet link a burst lasts long.
    GilbertElliott {
        /// How likely a packet turns the good link bad.
        p_pct: f64,
        /// How likely a packet turns the bad link good.
        r_pct: f64,
    },
}

impl Loss {
    /// No loss.
    pub const NONE: Self = Self::Random { pct: 0.0 };

    /// Returns how many percent of the packets get lost in the long run.
    pub fn mean_pct(&self) -> f64 {
        match *self {
            Self::Random { pct } => pct,
            Self::GilbertElliott { p_pct, r_pct } if p_pct + r_pct > 0.0 => {
                100.0 * p_pct / (p_pct + r_pct)
            }
            Self::GilbertElliott { .. } => 0.0,
        }
    }
}

/// What the checksum of a corrupted packet says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CorruptChecksum {
    /// That the packet is corrupt: the receiver's kernel drops it.
    #[default]
    Wrong,
    /// That all is well, for UDP: the corrupt bytes reach the program, as they do when a router
    /// with bad memory computes the checksum anew. Packets other than UDP stay whole.
    Right,
}

impl Profile {
    /// A link with no limit and no delay.
    pub fn unlimited() -> Self {
        let way = Way {
            rate_mbit: None,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            queue_packets: DEFAULT_QUEUE_PACKETS,
            loss: Loss::NONE,
            reorder_pct: 0.0,
            duplicate_pct: 0.0,
            corrupt_pct: 0.0,
            corrupt_checksum: CorruptChecksum::Wrong,
        };
        Self {
            to_far: way.clone(),
            to_near: way,
        }
    }

    /// A link that only delays, by so many milliseconds each way.
    pub fn delay_ms(delay_ms: impl Into<f64>) -> Self {
        Self::unlimited().one_way_delay_ms(delay_ms)
    }

    /// Sets the delay of each direction.
    pub fn one_way_delay_ms(self, delay_ms: impl Into<f64>) -> Self {
        let delay = milliseconds(delay_ms);
        self.each(|way| way.delay = delay)
    }

    /// Sets the rate of the bottleneck.
    pub fn rate_mbit(self, rate_mbit: impl Into<f64>) -> Self {
        let rate_mbit = rate_mbit.into();
        self.each(|way| way.rate_mbit = Some(rate_mbit))
    }

    /// Sets the length of the queue in front of the bottleneck.
    pub fn queue_packets(self, queue_packets: usize) -> Self {
        self.each(|way| way.queue_packets = queue_packets)
    }

    /// Loses packets at random.
    pub fn loss_pct(self, pct: impl Into<f64>) -> Self {
        let pct = pct.into();
        self.each(|way| way.loss = Loss::Random { pct })
    }

    /// Loses packets in bursts ([`Loss::GilbertElliott`]).
    pub fn gilbert_elliott(self, p_pct: impl Into<f64>, r_pct: impl Into<f64>) -> Self {
        let (p_pct, r_pct) = (p_pct.into(), r_pct.into());
        self.each(|way| way.loss = Loss::GilbertElliott { p_pct, r_pct })
    }

    /// Varies the delay by so much to either side.
    pub fn jitter_ms(self, jitter_ms: impl Into<f64>) -> Self {
        let jitter = milliseconds(jitter_ms);
        self.each(|way| way.jitter = jitter)
    }

    /// Lets packets skip the delay.
    pub fn reorder_pct(self, pct: impl Into<f64>) -> Self {
        let pct = pct.into();
        self.each(|way| way.reorder_pct = pct)
    }

    /// Delivers packets twice.
    pub fn duplicate_pct(self, pct: impl Into<f64>) -> Self {
        let pct = pct.into();
        self.each(|way| way.duplicate_pct = pct)
    }

    /// Flips a bit in the payload of packets, which their checksum then betrays.
    pub fn corrupt_pct(self, pct: impl Into<f64>) -> Self {
        let pct = pct.into();
        self.each(|way| way.corrupt_pct = pct)
    }

    /// Makes the UDP checksums of corrupted packets right again.
    pub fn with_right_checksums(self) -> Self {
        self.each(|way| way.corrupt_checksum = CorruptChecksum::Right)
    }

    /// Changes only what travels to the near side: downloads, seen from a user.
    pub fn to_near(mut self, change: impl FnOnce(Self) -> Self) -> Self {
        self.to_near = change(self.clone()).to_near;
        self
    }

    /// Changes only what travels to the far side: uploads, seen from a user.
    pub fn to_far(mut self, change: impl FnOnce(Self) -> Self) -> Self {
        self.to_far = change(self.clone()).to_far;
        self
    }

    /// Returns one direction.
    pub fn way(&self, direction: crate::lab::Direction) -> &Way {
        match direction {
            crate::lab::Direction::ToFar => &self.to_far,
            crate::lab::Direction::ToNear => &self.to_near,
        }
    }

    /// Returns the time there and back of a small packet on an empty link.
    pub fn round_trip(&self) -> Duration {
        self.to_far.delay + self.to_near.delay
    }

    fn each(mut self, change: impl Fn(&mut Way)) -> Self {
        change(&mut self.to_far);
        change(&mut self.to_near);
        self
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self::delay_ms(25).rate_mbit(100)
    }
}

fn milliseconds(value: impl Into<f64>) -> Duration {
    // A negative or endless delay is a slip in a test, and no delay shows it soon enough.
    Duration::try_from_secs_f64(value.into() / 1000.0).unwrap_or_default()
}

/// The queue of a link that says nothing: 60 ms at 100 Mbit/s, as in small routers.
pub(crate) const DEFAULT_QUEUE_PACKETS: usize = 500;
