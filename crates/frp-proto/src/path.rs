//! What the path of one carrier is like: probes, what is made of them, and how it is told.
//!
//! In the order in which it happens:
//!
//! 1. A [`Prober`] at each end of a carrier sends numbered [`Probe`]s. One that *asks* is answered
//!    at once by a probe of the other end, so one exchange tells both ends that both directions
//!    live. [`Cadence`] says how often to ask: often while the tunnel is used, rarely while not.
//! 2. Each probe says which of the other end's probes have come. From that a prober has the
//!    round-trip time, the loss of each direction, and the heartbeats that came late or never.
//! 3. Silence in either direction for longer than the path explains is a [`ProberEvent`]. The owner
//!    answers with a burst of probes, and the prober says what came of it.
//! 4. A [`PathReport`] is all of that in numbers: for the switch policy of this end, or, encoded,
//!    for that of the other.
//!
//! Everything here is pure. Probes and reports are payloads; the frames around them are not
//! defined here.

mod cadence;
mod mirror;
mod padding;
mod payload;
mod probe;
mod prober;
mod random;
mod report;
mod rtt;
mod wire;

pub use cadence::{Cadence, CadenceConfig, Pace};
pub use mirror::{MirrorAnswer, MirrorAsk, begins_mirror};
pub use padding::{PaddingAnswer, PaddingHead, begins_padding};
pub use payload::PathPayload;
pub use probe::{Ask, Heard, Probe, Queues};
pub use prober::{Counters, Direction, Prober, ProberConfig, ProberEvent, Role};
pub use random::Random;
pub use report::{PathReport, Tally, TcpControl};
pub use wire::PathDecodeError;

/// Where a test's time begins. Pure code takes the time from its caller, and so do its tests.
#[cfg(test)]
pub(crate) fn test_start() -> std::time::Instant {
    #[expect(clippy::disallowed_methods, reason = "the only look at the clock")]
    std::time::Instant::now()
}
