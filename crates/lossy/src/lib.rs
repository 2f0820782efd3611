//! Sending into loss: how much may be under way on a path that loses packets by itself.
//!
//! Loss-based congestion control takes every loss for a full queue and all but stops where a few
//! packets in a hundred are lost. A [`Controller`] is told what was sent, what arrived and what did
//! not. From that it estimates the rate of the path, the round trip of its empty queues and the
//! loss that is there whatever is sent, and it answers with a window and a rate that keep the path
//! full and a queue of a few milliseconds. Loss counts as congestion when it comes with delay, or
//! when it goes away at a lower rate.
//!
//! [`redundancy`] decides how often a small piece of interactive data is sent at once, so that it
//! need not wait for its retransmission. [`Sharing`] tells for senders that are not ours, the
//! system's, whether they had better not take every loss for a full queue, or had better share one.
//!
//! Time is passed in, and a run with the same input is the same run.

mod controller;
mod cubic;
mod delay;
mod look;
mod loss;
mod low;
mod others_queue;
mod random_loss;
mod rates;
pub mod redundancy;
mod rival;
mod round;
mod sharing;
mod startup;
#[cfg(test)]
mod tcp_sim;
mod told;

pub use controller::Controller;
pub use look::Look;
pub use sharing::{Cause, Sharing, Turn};
pub use told::{Acked, Config, LossCause, Lost, Snapshot, State};
