//! The task of a watch: takes in what comes, asks the prober, and sends what it says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use frp_proto::hold::datagram::{PROBES, PROXIES};
use frp_proto::hold::session::EndReason;
use frp_proto::hold::session_frame::{GoodbyeReason, SessionFrame};
use frp_proto::hold::{CarrierId, Generation};
use frp_proto::path::{Pace, PathPayload, PathReport, Queues, Role};
use tokio::sync::oneshot;
use transports::{BoxStream, Carrier, DatagramError};

use super::drop_oldest::DropOldest;
use super::lines::{Heard, Lines};
use super::loss::LossMeter;
use super::meter::{self, Meter};
use super::{Shared, WatchEvent, padding};
use crate::hold::HeldSession;
use crate::hold::clock::now;

/// See the [module](self).
pub(super) struct Task {
    session: Arc<HeldSession>,
    id: CarrierId,
    carrier: Arc<dyn Carrier>,
    role: Role,
    shared: Arc<Shared>,
    lines: Lines,
    meter: Meter,
    loss: LossMeter,
    events: DropOldest<WatchEvent>,
    looked_at: Option<Instant>,
    /// The last report that the owner has got, and when.
    reported: Option<(Instant, PathReport)>,
    /// When something came that is in no counter yet.
    heard_at: Option<Instant>,
    /// When the peer's host has refused a packet, until it is known what that means.
    refused_at: Option<Instant>,
    goodbye: Option<oneshot::Sender<()>>,
    measuring: Option<oneshot::Receiver<Option<u64>>>,
}

/// Why the task goes on, or does not.
enum Wake {
    /// There is something for the prober to look at.
    Turn,
    /// A datagram for others, which changes nothing here.
    Passed,
    /// Nothing more is to be done, for this reason.
    Over(String),
    /// The session has ended on this side.
    SessionOver(EndReason),
}

impl Task {
    pub(super) fn new(
        (session, id): (Arc<HeldSession>, CarrierId),
        carrier: Arc<dyn Carrier>,
        role: Role,
        stream: BoxStream,
        shared: Arc<Shared>,
        events: DropOldest<WatchEvent>,
    ) -> Self {
        Self {
            session,
            id,
            lines: Lines::new(Arc::clone(&carrier), stream),
            carrier,
            role,
            shared,
            meter: Meter::default(),
            loss: LossMeter::default(),
            events,
            looked_at: None,
            reported: None,
            heard_at: None,
            refused_at: None,
            goodbye: None,
            measuring: None,
        }
    }

    pub(super) async fn run(mut self) {
        let Some(words) = self.watch().await else {
            return;
        };
        let goodbye = {
            let mut orders = self.shared.orders.lock();
            orders.is_over = true;
            orders.goodbye.take()
        };
        // Nothing is kept until the owner has read but its events.
        let Self {
            mut events,
            lines,
            session,
            carrier,
            ..
        } = self;
        drop((lines, session, carrier, goodbye));
        events.push(WatchEvent::Closed(words));
        events.finish().await;
    }

    /// Runs until there is nothing more to be done, and says why; `None` when the owner is gone.
    async fn watch(&mut self) -> Option<String> {
        let (session, carrier) = (Arc::clone(&self.session), Arc::clone(&self.carrier));
        let shared = Arc::clone(&self.shared);
        let mut closed = carrier.closed();
        let mut over = Box::pin(session.over());
        let mut timer = Box::pin(tokio::time::sleep(Duration::ZERO));
        let mut needs_turn = true;
        let mut has_datagrams = true;
        let mut users = session.subscribe_users();
        loop {
            if needs_turn {
                if self.handle_orders() {
                    return None;
                }
                let next = self.turn(now());
                if timer.deadline().into_std() != next {
                    timer.as_mut().reset(next.into());
                }
            }
            let wake = tokio::select! {
                heard = self.lines.run() => self.handle_heard(heard),
                datagram = carrier.recv_datagram(), if has_datagrams => match datagram {
                    Ok(datagram) => self.handle_datagram(datagram),
                    Err(DatagramError::TooLong) => Wake::Passed,
                    Err(DatagramError::Unsupported | DatagramError::Carrier(_)) => {
                        has_datagrams = false;
                        Wake::Passed
                    }
                },
                () = &mut timer => Wake::Turn,
                () = shared.changed.notified() => Wake::Turn,
                // The session, which is borrowed here, has the sender.
                Ok(()) = users.changed() => Wake::Turn,
                rate = measured(&mut self.measuring) => {
                    if let Some(rate) = rate {
                        self.events.push(WatchEvent::MeasuredRate(rate));
                    }
                    Wake::Passed
                }
                () = self.events.run() => Wake::Passed,
                reason = &mut over => Wake::SessionOver(reason),
                error = &mut closed => Wake::Over(error.to_string()),
            };
            match wake {
                Wake::Turn => needs_turn = true,
                Wake::Passed => needs_turn = false,
                Wake::Over(words) => {
                    self.hear_last_words().await;
                    return Some(words);
                }
                Wake::SessionOver(reason) => {
                    let is_left = self.handle_orders();
                    self.say_goodbye_for(reason).await;
                    return (!is_left).then(|| "the session is over".to_owned());
                }
            }
        }
    }
}

// What the owner wants, and what is due.
impl Task {
    /// Reads what came before the carrier was closed: a goodbye, say.
    async fn hear_last_words(&mut self) {
        let hearing = async {
            while self.lines.is_open() {
                let heard = self.lines.run().await;
                self.handle_heard(heard);
            }
        };
        // At the bound the session is kept for its grace time, as after any loss.
        let _ = tokio::time::timeout(LAST_WORDS, hearing).await;
    }

    /// Says whether the owner is gone.
    fn handle_orders(&mut self) -> bool {
        let (use_carrier, goodbye, measure) = {
            let mut orders = self.shared.orders.lock();
            if orders.is_left {
                return true;
            }
            (
                orders.use_carrier.take(),
                orders.goodbye.take(),
                orders.measure.take(),
            )
        };
        if let Some(generation) = use_carrier {
            self.lines.say(&SessionFrame::Use { generation });
        }
        if let Some((reason, said)) = goodbye
            && self.lines.is_open()
        {
            self.lines.say(&SessionFrame::Goodbye { reason });
            self.goodbye = Some(said);
        }
        if let Some(bytes) = measure
            && self.measuring.is_none()
        {
            let (measured, measuring) = oneshot::channel();
            self.measuring = Some(measuring);
            let carrier = Arc::clone(&self.carrier);
            crate::task::spawn("rate of a carrier", async move {
                // A watch that has ended wants no answer.
                let _ = measured.send(padding::measure(&carrier, bytes).await);
            });
        }
        false
    }

    /// Has the prober look at what there is, sends what it wants sent, and returns when to come
    /// again if nothing happens.
    fn turn(&mut self, now: Instant) -> Instant {
        let is_in_use = matches!(self.session.status().in_use, Some((id, _)) if id == self.id);
        let n_users = self.session.n_busy_streams();
        let is_look_due = self
            .looked_at
            .is_none_or(|at| now.saturating_duration_since(at) >= LOOK_SPACING);
        let shared = Arc::clone(&self.shared);
        let mut prober = shared.prober.lock();
        if self.role == Role::Answering {
            // It is the client's decision, which the session knows.
            let pace = if is_in_use {
                Pace::InUse
            } else {
                Pace::Standby
            };
            prober.set_pace(now, pace);
        }
        prober.handle_users(now, n_users);
        if let Some(at) = self.heard_at.take() {
            prober.handle_inbound(at);
        }
        let before = prober.report(now, 0);
        if is_look_due {
            self.looked_at = Some(now);
            let queues = if is_in_use {
                self.session.queues()
            } else {
                Queues::default()
            };
            let stats = self.carrier.path_stats();
            *shared.stats.lock() = stats;
            let rate = before.delivered_rate;
            let user_bytes = self.session.user_bytes();
            if let Some(fates) = meter::fates(&stats) {
                let loss = self.loss.look(fates);
                self.session.set_loss(self.id, loss, stats.send_rate);
            }
            let look = self.meter.look(stats, user_bytes, queues, rate);
            if look.has_heard {
                prober.handle_inbound(now);
            }
            prober.handle_counters(now, look.counters);
            if look.is_refused {
                self.events.push(WatchEvent::Refused);
                if self.role == Role::Asking && self.refused_at.is_none() {
                    self.refused_at = Some(now);
                    prober.start_burst(now, PROBES_AFTER_REFUSAL);
                }
            }
        }
        prober.handle_timeout(now);
        while let Some(probe) = prober.poll_transmit(now) {
            self.lines.tell(&PathPayload::Probe(probe));
        }
        while let Some(event) = prober.poll_event() {
            self.events.push(WatchEvent::Prober(event));
        }
        let report = prober.report(now, shared.generation.0);
        let is_fast = prober.is_fast(now);
        let next = prober.poll_timeout(now);
        drop(prober);

        let refusal_at = self.judge_refusal(now, &report);
        let report_at = self.report(now, report, is_fast, n_users > 0);
        let given_up_at = self.give_up_if_silent(now, &report);
        let next = [next, report_at, given_up_at, refusal_at];
        let next = next.into_iter().flatten().min();
        let soonest = now + MIN_SLEEP;
        next.map_or(now + MAX_SLEEP, |at| at.max(soonest))
    }

    /// A refusal may be a lie, and what is under way still arrives for half a round trip. It is true
    /// when nothing answers what was asked since. Hosts send few refusals a second, so that waiting
    /// for another one would take longer. Returns when to look again.
    fn judge_refusal(&mut self, now: Instant, report: &PathReport) -> Option<Instant> {
        let elapsed = now.saturating_duration_since(self.refused_at?);
        let patience = (report.srtt * 3 / 2).max(REFUSAL_PATIENCE_MIN);
        if elapsed < patience {
            return Some(now + (patience - elapsed));
        }
        if report.inbound_silence >= patience {
            self.events.push(WatchEvent::RefusedForGood);
        } else if elapsed < patience + REFUSAL_MEMORY {
            return Some(now + LOOK_SPACING);
        }
        self.refused_at = None;
        None
    }

    /// Server: the client decides about carriers as long as there is one. A client that is gone
    /// decides nothing, so its carriers are closed, and its session ends with its grace time.
    /// Returns when that is, if nothing happens before.
    fn give_up_if_silent(&self, now: Instant, report: &PathReport) -> Option<Instant> {
        if self.role != Role::Answering || report.inbound_silence.is_zero() {
            return None;
        }
        if report.inbound_silence < SILENCE_MAX {
            return Some(now + (SILENCE_MAX - report.inbound_silence));
        }
        tracing::debug!(
            carrier = self.id.0,
            silence_ms = report.inbound_silence.as_millis(),
            "a client that is silent is taken for gone"
        );
        self.carrier.close();
        None
    }

    /// Hands out a report when it is time, and returns when it will be if nothing happens before.
    fn report(
        &mut self,
        now: Instant,
        report: PathReport,
        is_fast: bool,
        has_users: bool,
    ) -> Option<Instant> {
        let is_due = match &self.reported {
            None => true,
            Some((at, last)) => {
                let is_new = report.heartbeats != last.heartbeats
                    || report.inbound != last.inbound
                    || report.outbound != last.outbound;
                (is_fast || is_new) && now.saturating_duration_since(*at) >= REPORT_INTERVAL
            }
        };
        if is_due {
            let last_rtt = self.reported.map(|(_, last)| last.min_rtt);
            if !report.min_rtt.is_zero() && last_rtt != Some(report.min_rtt) {
                self.session.set_rtt(self.id, report.min_rtt);
            }
            self.count(&report);
            self.reported = Some((now, report));
            self.events.push(WatchEvent::Path(Box::new(report)));
            // What nobody uses has nothing to tell that probes do not.
            if self.role == Role::Answering && (is_fast || has_users) {
                let report = PathPayload::Report(report);
                self.lines.tell(&report);
                self.tell_over_the_one_in_use(&report);
            }
        }
        let (at, _) = self.reported?;
        is_fast.then_some(at + REPORT_INTERVAL)
    }
}

// What goes over others, and what comes.
impl Task {
    /// For the metrics: round trips, stalls as they begin, and silences when they are over.
    fn count(&self, report: &PathReport) {
        let before = self.reported.map(|(_, last)| last).unwrap_or_default();
        let transport = self.carrier.kind().name();
        if report.heartbeats != before.heartbeats && !report.srtt.is_zero() {
            metrics::histogram!("holdfast_heartbeat_rtt_seconds", "transport" => transport)
                .record(report.srtt.as_secs_f64());
        }
        if before.inbound_silence >= SILENCE && report.inbound_silence < before.inbound_silence {
            metrics::histogram!("holdfast_silence_seconds", "transport" => transport)
                .record(before.inbound_silence.as_secs_f64());
        }
        if report.stall >= STALL && before.stall < STALL {
            metrics::counter!("holdfast_stalls_total", "transport" => transport).increment(1);
        }
    }

    /// A report goes over the carrier in use as well, if that has datagrams: the one that it is
    /// about may be dead in the direction in which it would go.
    fn tell_over_the_one_in_use(&self, report: &PathPayload) {
        let Some((id, carrier)) = self.session.carrier_in_use() else {
            return;
        };
        if id != self.id {
            let mut datagram = vec![report.kind()];
            report.encode(&mut datagram);
            // It is one of many.
            let _ = carrier.send_datagram(datagram.into());
        }
    }

    fn handle_heard(&mut self, heard: Heard) -> Wake {
        match heard {
            Heard::Frame(SessionFrame::Probe { kind, body }) => self.handle_payload(kind, &body),
            Heard::Frame(SessionFrame::Use { generation }) => {
                self.handle_use(generation);
                Wake::Turn
            }
            Heard::Frame(SessionFrame::Goodbye { reason }) => {
                self.handle_goodbye(reason);
                Wake::Passed
            }
            Heard::AllSaid => {
                if let Some(said) = self.goodbye.take() {
                    // Who waited may have lost patience.
                    let _ = said.send(());
                }
                Wake::Passed
            }
            Heard::End => {
                // The peer has let go of the carrier, which its streams may still use; or it is
                // closed, which shows at once.
                tracing::debug!(
                    carrier = self.id.0,
                    "the session stream of a carrier has ended"
                );
                self.lines.close();
                self.goodbye = None;
                Wake::Passed
            }
            Heard::Nonsense(error) => {
                refuse("session frame");
                tracing::debug!(carrier = self.id.0, %error, "a carrier is closed");
                self.lines.close();
                self.carrier.close();
                Wake::Passed
            }
        }
    }

    fn handle_datagram(&mut self, datagram: Bytes) -> Wake {
        self.heard_at = Some(now());
        match datagram.first() {
            Some(&kind) if PROBES.contains(&kind) => self.handle_payload(kind, &datagram[1..]),
            Some(kind) if PROXIES.contains(kind) => {
                self.session.handle_user_datagram(&datagram);
                Wake::Passed
            }
            Some(_) => {
                self.session.handle_datagram(datagram);
                Wake::Passed
            }
            None => Wake::Passed,
        }
    }

    fn handle_payload(&mut self, kind: u8, payload: &[u8]) -> Wake {
        match PathPayload::decode(kind, payload) {
            Ok(Some(PathPayload::Probe(probe))) => {
                self.shared.prober.lock().handle_probe(now(), &probe);
                Wake::Turn
            }
            Ok(Some(PathPayload::Report(report))) => {
                let generation = Generation(report.carrier);
                let report = Box::new(report);
                self.events.push(WatchEvent::PeerPath(generation, report));
                Wake::Passed
            }
            // Of a later version.
            Ok(None) => Wake::Passed,
            Err(error) => {
                refuse("path payload");
                tracing::debug!(carrier = self.id.0, %error, "a path payload was refused");
                Wake::Passed
            }
        }
    }

    fn handle_use(&self, generation: Generation) {
        let Err(error) = self.session.handle_use(self.id, generation) else {
            return;
        };
        if error.is_peers_fault() {
            refuse("use of a carrier");
        }
        tracing::debug!(carrier = self.id.0, %error, "a decision for a carrier was refused");
    }

    fn handle_goodbye(&mut self, reason: GoodbyeReason) {
        self.events.push(WatchEvent::Goodbye(reason));
        self.session.end(EndReason::GoodbyeByPeer(reason));
    }

    /// The session has ended on this side: the peer is told, unless it was the peer that ended it.
    async fn say_goodbye_for(&mut self, reason: EndReason) {
        let reason = match reason {
            EndReason::GoodbyeHere(reason) => reason,
            EndReason::TakenOver => GoodbyeReason::TAKEN_OVER,
            EndReason::GoodbyeByPeer(_) | EndReason::GraceExpired => return,
        };
        self.lines.say(&SessionFrame::Goodbye { reason });
        let said =
            async { while !matches!(self.lines.run().await, Heard::AllSaid | Heard::End) {} };
        // A path that takes nothing has a peer that finds out by itself.
        let _ = tokio::time::timeout(GOODBYE_PATIENCE, said).await;
    }
}

/// Waits for the end of a measurement; pending while there is none.
async fn measured(measuring: &mut Option<oneshot::Receiver<Option<u64>>>) -> Option<u64> {
    let Some(receiver) = measuring else {
        return std::future::pending().await;
    };
    let rate = receiver.await;
    *measuring = None;
    rate.ok().flatten()
}

fn refuse(cause: &'static str) {
    metrics::counter!("holdfast_rejected_total", "cause" => cause).increment(1);
}

/// For what came before a carrier's end: it lies here already, and takes the turns of a few tasks.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// At least this long nothing has to come after a refusal, so that a machine that is busy for a
/// moment loses no carrier.
const REFUSAL_PATIENCE_MIN: Duration = Duration::from_millis(75);

/// After this a refusal counts no more, if something came meanwhile.
const REFUSAL_MEMORY: Duration = Duration::from_millis(500);

/// What is asked after a refusal: enough that all are lost by chance on no path that is of use.
const PROBES_AFTER_REFUSAL: u32 = 8;

/// Counters are not read more often: probes of a burst come closer together.
const LOOK_SPACING: Duration = Duration::from_millis(50);

/// Between two reports, at least: the policy's step while a carrier is used or compared.
const REPORT_INTERVAL: Duration = Duration::from_millis(250);

/// A client that has announced a probe and says nothing for so long has had the time to come back
/// over another carrier.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A path that is silent for so long is out, whatever it loses by chance.
const SILENCE: Duration = Duration::from_secs(1);

/// Bulk that waits for so long without an acknowledgement stalls: users see it.
const STALL: Duration = Duration::from_millis(500);

/// The precision of the timer.
const MIN_SLEEP: Duration = Duration::from_millis(1);

/// A prober that wants nothing is looked at now and then all the same.
const MAX_SLEEP: Duration = Duration::from_secs(600);

/// For a goodbye of three bytes on a carrier that works.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(1);
