//! A carrier that has joined its session: probes, path reports, decisions, goodbye.

mod drop_oldest;
mod lines;
mod loss;
mod meter;
mod mirror;
mod padding;
mod task;

use std::sync::Arc;
use std::time::{Duration, Instant};

use frp_proto::hold::session_frame::GoodbyeReason;
use frp_proto::hold::{CarrierId, Generation};
use frp_proto::path::{Pace, PathReport, Prober, ProberConfig, ProberEvent};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use transports::{Carrier, PathStats};

use super::HeldSession;
use super::clock::now;
use super::join::SessionStream;
use drop_oldest::DropOldest;
use task::Task;

pub(in crate::hold) use loss::UNKNOWN_LOSS;

pub use mirror::{Allowance, Mirrored, answer_mirror, mirror};
pub use padding::{answer_padding, measure as measure_rate};

/// Which end, and how it probes.
#[derive(Clone, Debug)]
pub struct WatchConfig {
    /// frpc asks, frps answers.
    pub role: frp_proto::path::Role,
    /// When, and what the echoes mean.
    pub prober: ProberConfig,
    /// What the carrier is to the session at first.
    pub pace: Pace,
}

/// What the owner of a watch is told. frpc hands these to its policy.
///
/// Small, since a queue has room for dozens, on each of thousands of carriers.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// What this end knows: every 250 ms while in use or compared, and with each echo otherwise.
    Path(Box<PathReport>),
    /// What the peer knows of one of the session's carriers, by the number both know.
    PeerPath(Generation, Box<PathReport>),
    /// Silence, life again, or a burst that is over.
    Prober(ProberEvent),
    /// ICMP says that nobody listens.
    Refused,
    /// ICMP has said so, and nothing has answered what was asked since.
    RefusedForGood,
    /// A burst of padding arrived at this rate, in bytes a second.
    MeasuredRate(u64),
    /// The peer has said goodbye. The session has been ended.
    Goodbye(GoodbyeReason),
    /// The carrier is closed, or the session over, in these words. The last event.
    Closed(String),
}

/// Runs one carrier of a session beside its streams. Ends with the carrier or the session, or when
/// it is dropped (which does not close the carrier).
#[derive(Debug)]
pub struct CarrierWatch {
    shared: Arc<Shared>,
}

impl CarrierWatch {
    /// Starts it. Events that nobody takes are dropped, the oldest first, but not `Closed`.
    pub fn start(
        session: &Arc<HeldSession>,
        id: CarrierId,
        carrier: &Arc<dyn Carrier>,
        stream: SessionStream,
        config: WatchConfig,
    ) -> (Self, mpsc::Receiver<WatchEvent>) {
        let WatchConfig { role, prober, pace } = config;
        let prober = Prober::new(prober, role, pace, rand::random(), now());
        carrier.handle_watched();
        let shared = Arc::new(Shared {
            generation: stream.generation,
            prober: Mutex::new(prober),
            orders: Mutex::default(),
            stats: Mutex::default(),
            changed: Notify::new(),
        });
        session.set_watched(id, &shared);
        let (events, taken_events) = DropOldest::new(MAX_EVENTS);
        let task = Task::new(
            (Arc::clone(session), id),
            Arc::clone(carrier),
            role,
            stream.stream,
            Arc::clone(&shared),
            events,
        );
        crate::task::spawn("carrier watch", task.run());
        (Self { shared }, taken_events)
    }

    /// Probes at another pace.
    pub fn set_pace(&self, pace: Pace) {
        self.shared.prober.lock().set_pace(now(), pace);
        self.shared.changed.notify_one();
    }

    /// Sends a burst of probes.
    pub fn burst(&self, n_probes: u32) {
        self.shared.prober.lock().start_burst(now(), n_probes);
        self.shared.changed.notify_one();
    }

    /// Sends padding and measures the rate at which it arrives. While one measurement is under
    /// way another is not begun.
    pub fn measure_rate(&self, bytes: u64) {
        self.order(|orders| orders.measure = Some(bytes));
    }

    /// Client: tells the server that this carrier is in use.
    pub fn send_use(&self, generation: Generation) {
        self.order(|orders| orders.use_carrier = Some(generation));
    }

    /// Says goodbye and waits until it is written, for `patience` at most.
    pub async fn goodbye(&self, reason: GoodbyeReason, patience: Duration) {
        let (said, is_said) = oneshot::channel();
        self.order(|orders| {
            // Where the task has ended there is nobody to say it to.
            orders.goodbye = Some((reason, said)).filter(|_| !orders.is_over);
        });
        // Written, given up, or too late: there is nothing more to be done about it.
        let _ = tokio::time::timeout(patience, is_said).await;
    }

    /// What this end knows now.
    pub fn report(&self) -> PathReport {
        self.shared.report(now())
    }

    fn order(&self, give: impl FnOnce(&mut Orders)) {
        give(&mut self.shared.orders.lock());
        self.shared.changed.notify_one();
    }
}

impl Drop for CarrierWatch {
    fn drop(&mut self) {
        self.order(|orders| orders.is_left = true);
    }
}

/// What the owner, the task and the session share.
#[derive(Debug)]
pub(in crate::hold) struct Shared {
    generation: Generation,
    prober: Mutex<Prober>,
    orders: Mutex<Orders>,
    /// What the carrier said of itself last: a closed one may say nothing any more.
    stats: Mutex<PathStats>,
    changed: Notify,
}

impl Shared {
    /// What is known of the path now, and what the carrier has said last.
    pub(in crate::hold) fn numbers(&self) -> (PathReport, PathStats) {
        (self.report(now()), *self.stats.lock())
    }

    fn report(&self, now: Instant) -> PathReport {
        self.prober.lock().report(now, self.generation.0)
    }
}

/// What the owner wants. A later wish takes the place of an earlier one of its kind.
#[derive(Debug, Default)]
struct Orders {
    use_carrier: Option<Generation>,
    goodbye: Option<(GoodbyeReason, oneshot::Sender<()>)>,
    measure: Option<u64>,
    /// The owner is gone.
    is_left: bool,
    /// The task is.
    is_over: bool,
}

/// Events that wait for the owner: those of 16 s at the fastest pace of reports. Beyond it the oldest
/// are dropped.
const MAX_EVENTS: usize = 64;
