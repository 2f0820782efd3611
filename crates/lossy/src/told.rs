//! What a controller is told, and what it tells.

use std::time::{Duration, Instant};

/// What a controller is started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bytes of a full packet.
    pub mtu: u64,
    /// The most that is ever sent, in bytes per second.
    pub max_rate: Option<u64>,
}

/// A packet that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acked {
    /// When it was sent.
    pub sent_at: Instant,
    /// Its bytes.
    pub bytes: u64,
    /// Whether there was nothing more to send.
    pub is_app_limited: bool,
    /// Whether it is certain that it is this packet that arrived just in time to be acknowledged
    /// now. Otherwise nothing is concluded from the time it took.
    pub is_exact: bool,
}

/// Packets that are taken for lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// When the last of them was sent.
    pub sent_at: Instant,
    /// Their bytes.
    pub bytes: u64,
    /// What tells that they are lost.
    pub cause: LossCause,
}

/// What tells that packets are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossCause {
    /// Later ones have been acknowledged.
    Overtaken,
    /// No acknowledgement came in time.
    TimedOut,
}

/// What a controller is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Finding the rate of the path.
    Startup,
    /// Keeping the path full.
    Cruise,
    /// Sending less for a moment.
    Low,
    /// Keeping up with somebody else who fills the queue.
    Crowded,
}

/// Numbers for metrics and logs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snapshot {
    /// What it is at.
    pub state: State,
    /// The estimated rate of the path, in bytes per second.
    pub rate: u64,
    /// The share of packets that is lost whatever is sent.
    pub floor: f64,
    /// The share of packets that is lost lately.
    pub loss: f64,
    /// Whether the path drops what is above some rate, without delay.
    pub is_policed: bool,
    /// The round trip of the path itself.
    pub base_rtt: Duration,
    /// The mean time in queues in the last round trip.
    pub queue: Duration,
    /// How much round trips differ from their mean, on the average.
    pub jitter: Duration,
    /// How much round trips differ from one packet to the next, on the average. Unlike the jitter it
    /// hardly grows when a queue grows or drains.
    pub roughness: Duration,
    /// Bytes that may be under way.
    pub window: u64,
}
