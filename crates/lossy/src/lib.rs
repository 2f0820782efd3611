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
//! need not wait for its retransmission. [`RandomLoss`] tells for senders that are not ours, the
//! system's, whether they had better not take every loss for a full queue.
//!
//! Time is passed in, and a run with the same input is the same run.

mod controller;
mod cubic;
mod delay;
mod loss;
mod low;
mod random_loss;
mod rates;
pub mod redundancy;
mod rival;
mod round;
mod startup;
mod told;

pub use controller::Controller;
pub use random_loss::{Look, RandomLoss};
pub use told::{Acked, Config, LossCause, Lost, Snapshot, State};
