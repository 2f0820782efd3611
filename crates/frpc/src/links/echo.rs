//! A carrier to a server that is no Holdfast, watched without its help.
//!
//! Every implementation of frp reads the first message of a stream, and closes a stream that ends
//! before it. So an empty stream is a question that any server answers at once, whether it has seen
//! a login on this carrier or not. What a [`Prober`] asks is asked that way, and each answer is
//! handed to it as the echo that a Holdfast would have sent.
//!
//! What the server alone could tell is missing: how its end fares, and how much waits there.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use frp_core::hold::watch::WatchEvent;
use frp_core::proto::path::{
    Ask, Counters, Heard, Pace, PathReport, Probe, Prober, ProberConfig, Queues, Role, Tally,
    TcpControl,
};
use frp_core::task;
use frp_core::transports::{Carrier, Class, PathStats};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

/// Watches one carrier. Ends with the carrier, or when it is dropped (which does not close it).
#[derive(Debug)]
pub(super) struct EchoWatch {
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    prober: Prober,
    /// Users' bytes have passed until here, as far as can be told.
    busy_until: Option<Instant>,
}

impl EchoWatch {
    /// Begins to ask. The last event is `Closed`.
    pub(super) fn start(
        carrier: Arc<dyn Carrier>,
        config: &ProberConfig,
        pace: Pace,
    ) -> (Self, mpsc::Receiver<WatchEvent>) {
        let prober = Prober::new(lenient(config), Role::Asking, pace, rand::random(), now());
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                prober,
                busy_until: None,
            }),
            changed: Notify::new(),
        });
        let (events, told) = mpsc::channel(EVENTS_LEN);
        let asking = Asking {
            carrier,
            shared: shared.clone(),
            events,
            echoes: JoinSet::new(),
            answered: Answered::default(),
            origin: now(),
            meter: Meter::default(),
            reported: None,
        };
        let watch = Self {
            shared,
            _task: AbortOnDropHandle::new(task::spawn("carrier echoes", asking.run())),
        };
        (watch, told)
    }

    /// Asks at another pace.
    pub(super) fn set_pace(&self, pace: Pace) {
        self.shared.state.lock().prober.set_pace(now(), pace);
        self.shared.changed.notify_one();
    }

    /// Asks many times in a row.
    pub(super) fn burst(&self, n_probes: u32) {
        self.shared.state.lock().prober.start_burst(now(), n_probes);
        self.shared.changed.notify_one();
    }

    /// What is known of the carrier.
    pub(super) fn report(&self) -> PathReport {
        self.shared.state.lock().prober.report(now(), 0)
    }

    /// Whether somebody uses it.
    pub(super) fn is_busy(&self) -> bool {
        let until = self.shared.state.lock().busy_until;
        until.is_some_and(|until| now() < until)
    }
}

/// Asks once, and says whether there was an answer within `patience`.
pub(crate) async fn knock(carrier: &Arc<dyn Carrier>, patience: Duration) -> bool {
    matches!(timeout(patience, ask(carrier)).await, Ok(Ok(())))
}

/// Opens a stream with nothing in it, and waits for whatever comes of that.
async fn ask(carrier: &Arc<dyn Carrier>) -> io::Result<()> {
    let mut stream = carrier.open_stream().await.map_err(io::Error::other)?;
    stream.set_class(Class::Control);
    stream.shutdown().await?;
    match stream.read(&mut [0]).await {
        Ok(_) => Ok(()),
        // Refused is answered, too.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error),
    }
}

/// A server that is no Holdfast answers behind what it has to send already, in the same order as
/// everything else, and what it keeps for a slow link can be seconds. So less often, and later is
/// not lost yet.
fn lenient(config: &ProberConfig) -> ProberConfig {
    let mut config = config.clone();
    config.cadence.in_use = config.cadence.in_use.max(ASK_EVERY);
    config.lost_after_extra = config.lost_after_extra.max(LATE_AFTER);
    config
}

/// Between two questions on a carrier in use. Silence is suspected after three of them.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// What a server's own queue may add to the round trip: a socket buffer of 4 MiB at 16 Mbit/s.
const LATE_AFTER: Duration = Duration::from_secs(2);

/// Events on their way to the driver. At the bound the watch waits.
const EVENTS_LEN: usize = 16;

/// Questions without an answer. At the bound a further one is not asked, and so counts as lost.
const MAX_ECHOES: usize = 64;

/// How long an answer is waited for. Later it would tell nothing of the path.
const ECHO_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two looks at the carrier's counters, and between two reports.
const LOOK_SPACING: Duration = Duration::from_millis(250);

/// Within this a carrier moves by questions and heartbeats alone.
const OWN_BYTES: u64 = 1024;

/// For so long after its last bytes a connection may be somebody's who reads.
const BUSY_FOR: Duration = Duration::from_secs(60);

/// The least and the most between two turns of the watch.
const TURNS: [Duration; 2] = [Duration::from_millis(1), Duration::from_secs(60)];

struct Asking {
    carrier: Arc<dyn Carrier>,
    shared: Arc<Shared>,
    events: mpsc::Sender<WatchEvent>,
    /// Each ends with its number if it was answered.
    echoes: JoinSet<Option<u32>>,
    answered: Answered,
    origin: Instant,
    meter: Meter,
    /// The last report that the driver has got, and when.
    reported: Option<(Instant, PathReport)>,
}

impl Asking {
    async fn run(mut self) {
        let carrier = self.carrier.clone();
        let shared = self.shared.clone();
        let mut closed = carrier.closed();
        loop {
            let (next, events) = self.turn(now());
            for event in events {
                // A driver that has ended drops this task.
                let _ = self.events.send(event).await;
            }
            tokio::select! {
                () = sleep_until(next.into()) => {}
                () = shared.changed.notified() => {}
                Some(echo) = self.echoes.join_next(), if !self.echoes.is_empty() => {
                    if let Ok(Some(number)) = echo {
                        self.handle_answer(number);
                    }
                }
                error = &mut closed => {
                    let _ = self.events.send(WatchEvent::Closed(error.to_string())).await;
                    return;
                }
            }
        }
    }

    fn handle_answer(&mut self, number: u32) {
        let now = now();
        let micros = now.saturating_duration_since(self.origin).as_micros();
        let echo = Probe {
            number: self.answered.add(number),
            // Differences count, modulo 2^32: this clock runs as the prober's does.
            sent_at: u32::try_from(micros & u128::from(u32::MAX)).unwrap_or_default(),
            ask: Ask::No,
            next_in: Duration::ZERO,
            heard: Some(self.answered.heard()),
            queues: Queues::default(),
        };
        self.shared.state.lock().prober.handle_probe(now, &echo);
    }

    /// Has the prober look at what there is, and asks what it wants asked. Returns when to come
    /// again if nothing happens.
    fn turn(&mut self, now: Instant) -> (Instant, Vec<WatchEvent>) {
        let shared = self.shared.clone();
        let mut state = shared.state.lock();
        let mut events = Vec::new();
        if let Some(look) = self.meter.look(now, || self.carrier.path_stats()) {
            if look.has_heard {
                state.prober.handle_inbound(now);
            }
            if look.is_used {
                state.busy_until = Some(now + BUSY_FOR);
            }
            if look.is_refused {
                events.push(WatchEvent::Refused);
            }
            state.prober.handle_counters(now, look.counters);
        }
        let is_busy = state.busy_until.is_some_and(|until| now < until);
        let prober = &mut state.prober;
        prober.handle_users(now, usize::from(is_busy));
        prober.handle_timeout(now);
        while let Some(probe) = prober.poll_transmit(now) {
            if self.echoes.len() < MAX_ECHOES {
                let carrier = self.carrier.clone();
                self.echoes.spawn(async move {
                    knock(&carrier, ECHO_TIMEOUT).await.then_some(probe.number)
                });
            }
        }
        while let Some(event) = prober.poll_event() {
            events.push(WatchEvent::Prober(event));
        }
        let report = prober.report(now, 0);
        let is_fast = prober.is_fast(now);
        let next = prober.poll_timeout(now);
        drop(state);

        let is_due = self.reported.is_none_or(|(at, last)| {
            let is_new = report.heartbeats != last.heartbeats || report.outbound != last.outbound;
            (is_fast || is_new) && now.saturating_duration_since(at) >= LOOK_SPACING
        });
        if is_due {
            self.reported = Some((now, report));
            events.push(WatchEvent::Path(Box::new(report)));
        }
        let look_at = is_fast.then_some(now + LOOK_SPACING);
        let next = next.into_iter().chain(look_at).min();
        let [least, most] = TURNS;
        let next = next.map_or(now + most, |at| at.clamp(now + least, now + most));
        (next, events)
    }
}

/// Which questions were answered, as a peer would say it.
#[derive(Debug, Default)]
struct Answered {
    n: u32,
    last: u32,
    missing: u64,
}

impl Answered {
    /// Returns the number of the answer.
    fn add(&mut self, number: u32) -> u32 {
        if let Some(step) = number.checked_sub(self.last).filter(|step| *step > 0) {
            self.missing = match step {
                1..=64 => self.missing.checked_shl(step).unwrap_or(0) | ((1 << (step - 1)) - 1),
                _ => u64::MAX,
            };
            self.last = number;
        } else if let back @ 1..=64 = self.last - number {
            self.missing &= !(1 << (back - 1));
        }
        self.n = self.n.saturating_add(1);
        self.n
    }

    fn heard(&self) -> Heard {
        Heard {
            last: self.last,
            held: Duration::ZERO,
            missing: self.missing,
        }
    }
}

/// The carrier's counters, compared with what they were.
#[derive(Debug, Default)]
struct Meter {
    looked_at: Option<Instant>,
    before: PathStats,
    user_bytes: u64,
}

struct Look {
    counters: Counters,
    has_heard: bool,
    is_used: bool,
    is_refused: bool,
}

impl Meter {
    /// `None` when the last look was a moment ago.
    fn look(&mut self, now: Instant, stats: impl FnOnce() -> PathStats) -> Option<Look> {
        let is_due = self
            .looked_at
            .is_none_or(|at| now.saturating_duration_since(at) >= LOOK_SPACING);
        if !is_due {
            return None;
        }
        self.looked_at = Some(now);
        let stats = stats();
        let before = std::mem::replace(&mut self.before, stats);
        let moved = |now: u64, before: u64| now.saturating_sub(before);
        let bytes = moved(stats.bytes_sent, before.bytes_sent)
            + moved(stats.bytes_received, before.bytes_received);
        let is_used = bytes > OWN_BYTES;
        if is_used {
            self.user_bytes += bytes;
        }
        let packets = stats.packets_sent.zip(stats.packets_lost);
        Some(Look {
            counters: Counters {
                acked_bytes: stats.acked_bytes.unwrap_or(0),
                packets: packets.map(|(total, lost)| Tally {
                    total,
                    lost: lost.min(total),
                }),
                queues: Queues::default(),
                in_flight: stats.in_flight.unwrap_or(0),
                user_bytes: self.user_bytes,
                control: match stats.bears_loss() {
                    true => TcpControl::Bbr,
                    false => TcpControl::LossBased,
                },
            },
            has_heard: stats.bytes_received > before.bytes_received
                || stats.n_heard > before.n_heard,
            is_used,
            is_refused: stats.n_refused > before.n_refused,
        })
    }
}

/// The clock of the runtime, which tests can stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_by_the_last_and_by_those_that_are_missing_before_it() {
        let mut answered = Answered::default();
        let mut said = |number| {
            let n = answered.add(number);
            let heard = answered.heard();
            (n, heard.last, heard.missing)
        };
        assert_eq!(said(1), (1, 1, 0));
        assert_eq!(said(2), (2, 2, 0));
        assert_eq!(said(5), (3, 5, 0b11), "3 and 4 have not come");
        assert_eq!(said(4), (4, 5, 0b10), "4 was overtaken");
        assert_eq!(said(6), (5, 6, 0b100));
        assert_eq!(said(4), (6, 6, 0b100), "twice changes nothing");
        assert_eq!(said(70), (7, 70, (1 << 63) - 1), "64 on, 6 itself has come");
        assert_eq!(said(400), (8, 400, u64::MAX));
        assert_eq!(said(3), (9, 400, u64::MAX), "out of sight");
    }

    #[test]
    fn a_carrier_that_moves_by_its_heartbeats_is_not_in_use() {
        let start = now();
        let mut meter = Meter::default();
        let mut look = |n: u32, bytes_sent| {
            let stats = PathStats {
                bytes_sent,
                ..PathStats::default()
            };
            let look = meter.look(start + LOOK_SPACING * n, || stats)?;
            Some((look.is_used, look.counters.user_bytes))
        };
        assert_eq!(look(0, 100), Some((false, 0)));
        assert_eq!(look(0, 9000), None, "a moment later");
        assert_eq!(look(1, 9000), Some((true, 8900)));
        assert_eq!(look(2, 9100), Some((false, 8900)));
    }
}
