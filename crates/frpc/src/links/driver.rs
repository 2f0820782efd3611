//! Tells the policy what happens, and does what it decides.
//!
//! One loop takes events of attempts and watches, commands, and the clock. It never waits for the
//! network: what takes time is a task that sends an event.
//!
//! `logging_in` is how a carrier comes to a session, `decisions` what the policy wants done,
//! `commands` what the program asks, `link` one carrier of the session, `plain` what is different
//! with a server that holds nothing.

mod commands;
mod decisions;
mod link;
mod logging_in;
mod plain;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use frp_core::hold::HeldSession;
use frp_core::hold::watch::WatchEvent;
use frp_core::proto::hold::key::SessionId;
use frp_core::proto::hold::session::EndReason;
use frp_core::proto::policy::{CarrierId, DeathCause, Policy, State};
use frp_core::session::Ending;
use frp_core::transports::{BoxFuture, Carrier, DialError};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use super::attempt::{self, Attempt, JoinOutcome, Opened, Tasks};
use super::candidates::Ways;
use super::memory::Memory;
use super::network::{self, Changes};
use super::report::{Names, Report};
use super::{Begun, Command, LinksHandle};
use crate::context::Context;
use crate::login::LoginError;
use crate::transport::Dialers;
use link::Link;
use plain::{Plain, Resting};

/// What a task of the driver's has to say.
#[derive(Debug)]
pub(super) enum Event {
    Dialed(CarrierId, Result<Arc<dyn Carrier>, DialError>),
    LoggedIn(CarrierId, Result<Box<Opened>, LoginError>),
    Joined(CarrierId, SessionId, JoinOutcome),
    /// Whether a server that holds nothing answers on this carrier.
    Knocked(CarrierId, bool),
    Watch(CarrierId, WatchEvent),
    Over(SessionId, EndReason),
}

/// Events on their way. At the bound the tasks wait, each with one event.
const EVENTS_LEN: usize = 256;

/// The least between two looks at the clock: whatever the policy says, it does not spin.
const MIN_TURN: Duration = Duration::from_millis(2);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Driver {
    context: Arc<Context>,
    dialers: Dialers,
    memory: Memory,
    ways: Ways,
    policy: Policy,
    tasks: Tasks,
    events: mpsc::Receiver<Event>,
    handle: LinksHandle,
    outbox: mpsc::Sender<Result<Begun, LoginError>>,
    attempts: BTreeMap<CarrierId, Attempt>,
    links: BTreeMap<CarrierId, Link>,
    /// The login that is unanswered, and until when no other is made.
    login: Option<(CarrierId, Instant)>,
    live: Option<Live>,
    /// Instead, with a server that holds nothing.
    plain: Option<Plain>,
    resting: Resting,
    /// The streams move to this carrier, and are taken to have moved then.
    moving: Option<(CarrierId, Instant)>,
    /// Nothing is done until the session's runner asks for the next one.
    paused: Option<Paused>,
    /// The session is to end here, and no carrier has joined it yet.
    leaving: Option<Leaving>,
    /// Until the first session.
    first: Option<FirstLogin>,
    /// A login that was made before.
    opened: Option<Opened>,
    /// The next attempt is worth a line.
    is_quiet: bool,
    report: Report,
}

/// The held session, and the task that waits for its end.
#[derive(Debug)]
struct Live {
    held: Arc<HeldSession>,
    _over: AbortOnDropHandle<()>,
}

/// Whoever ends a session waits until its first carrier has joined: the server knows of none before
/// on which it could be told, and would keep the users' connections for the grace time.
#[derive(Debug)]
struct Leaving {
    done: oneshot::Sender<()>,
    until: Instant,
}

/// What the policy is told when it goes on.
#[derive(Debug)]
struct Paused {
    /// Attempts that were under way.
    given_up: Vec<CarrierId>,
    note: &'static str,
}

/// The failures before the first session.
#[derive(Debug)]
struct FirstLogin {
    began: Instant,
    failed: BTreeMap<usize, LoginError>,
}

impl Driver {
    pub(super) fn new(
        context: Arc<Context>,
        dialers: Dialers,
        memory: Memory,
        handle: LinksHandle,
        outbox: mpsc::Sender<Result<Begun, LoginError>>,
        opened: Option<Opened>,
    ) -> Self {
        let ways = Ways::new(&context.config, &memory.endpoints());
        let config = context.config.transport.auto.policy.clone();
        let mut health = memory.health(&config);
        if let Some(opened) = &opened {
            // The attempt that finds it is the first, whatever was known.
            health.failures.clear();
            health.last_used = ways.candidates().first().map(|way| way.transport);
            let peer = opened.carrier.peer_addr().ip().to_canonical();
            health.last_used_ipv6 = ways.has_both_ips() && peer.is_ipv6();
        }
        let now = Instant::now();
        let policy = Policy::new(config, &ways.candidates(), &health, rand::random(), now);
        let (events_tx, events) = mpsc::channel(EVENTS_LEN);
        Self {
            tasks: Tasks {
                context: context.clone(),
                events: events_tx,
            },
            first: opened.is_none().then(|| FirstLogin {
                began: now,
                failed: BTreeMap::new(),
            }),
            context,
            dialers,
            memory,
            ways,
            policy,
            events,
            handle,
            outbox,
            attempts: BTreeMap::new(),
            links: BTreeMap::new(),
            login: None,
            live: None,
            plain: None,
            resting: Resting::default(),
            moving: None,
            paused: None,
            leaving: None,
            opened,
            is_quiet: false,
            report: Report::default(),
        }
    }

    /// Works until it is dropped.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut network = Changes::watch();
        let mut last_timeout = Instant::now();
        loop {
            self.follow();
            let due = self.due().map(|at| at.max(last_timeout + MIN_TURN));
            tokio::select! {
                Some(event) = self.events.recv() => self.handle(event),
                Some(command) = commands.recv() => self.obey(command),
                () = network.next() => self.handle_network_change(),
                () = at(due) => {
                    last_timeout = Instant::now();
                    self.handle_timeout(last_timeout);
                }
            }
        }
    }

    fn due(&self) -> Option<Instant> {
        if self.paused.is_some() {
            return None;
        }
        let next_login = self.login.map(|(_, until)| until);
        let next_login = next_login.filter(|_| self.first_waiting().is_some());
        let moved = self.moving.map(|(_, at)| at);
        let leaving = self.leaving.as_ref().map(|leaving| leaving.until);
        let policy = self.policy.poll_timeout(Instant::now());
        let all = [next_login, moved, leaving, policy];
        all.into_iter().flatten().min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        if let Some((id, _)) = self.moving.filter(|(_, at)| *at <= now) {
            self.moving = None;
            self.policy.handle_promoted(now, id);
        }
        self.leave(now);
        self.log_in_next();
        self.policy.handle_timeout(now);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Dialed(id, Ok(carrier)) => match self.attempts.contains_key(&id) {
                true => self.proceed(id, carrier),
                false => carrier.close(),
            },
            Event::Dialed(id, Err(error)) => {
                let failure = attempt::dial_failure(&error);
                self.fail(id, failure, error.into());
            }
            Event::LoggedIn(id, outcome) if self.is_changing_to(id) => {
                self.handle_changed(id, outcome);
            }
            Event::LoggedIn(id, outcome) => {
                if self.login.is_some_and(|(pending, _)| pending == id) {
                    self.login = None;
                }
                match (outcome, self.attempts.remove(&id)) {
                    (Ok(opened), Some(attempt)) => self.begin(id, attempt.candidate, *opened),
                    // Given up in the meantime: a later login is on its way, or has been made.
                    (Ok(opened), None) => opened.carrier.close(),
                    (Err(error), attempt) => {
                        let failure = attempt::login_failure(&error);
                        if let Some(attempt) = attempt {
                            self.attempts.insert(id, attempt);
                            self.fail(id, failure, error);
                        }
                    }
                }
                self.log_in_next();
            }
            Event::Joined(id, session, outcome) => {
                self.handle_joined(id, session, outcome);
                self.leave(Instant::now());
            }
            Event::Knocked(id, is_answered) => self.handle_knocked(id, is_answered),
            Event::Watch(id, event) => self.handle_watch(id, event),
            Event::Over(session, reason) => {
                if self.is_live(&session) {
                    self.report
                        .keep("session", format!("the session is over: {reason:?}"));
                    self.lose_session();
                }
            }
        }
    }

    fn is_live(&self, session: &SessionId) -> bool {
        let live = self.live.as_ref();
        live.is_some_and(|live| live.held.id() == session)
    }

    /// On a host with containers, addresses and routes change all the time. What is in use is left
    /// alone while the server is reached from the same address; that a route has become another one
    /// is then noticed by silence.
    fn handle_network_change(&mut self) {
        if self.paused.is_some() {
            return;
        }
        let moved: Vec<_> = self
            .links
            .iter_mut()
            .filter_map(|(id, link)| link.has_moved().then_some(*id))
            .collect();
        let is_settled = matches!(self.policy.state(), State::Connected | State::Switching);
        if is_settled && moved.is_empty() {
            return;
        }
        tracing::debug!("this host's addresses or routes have changed");
        let now = Instant::now();
        let in_use = self.policy.in_use();
        let mut gone: Vec<_> = self
            .links
            .iter()
            .filter(|(_, link)| {
                let addr = link.carrier.local_addr().map(|addr: SocketAddr| addr.ip());
                !link.can_rebind() && addr.is_some_and(|addr| !network::is_local(addr))
            })
            .map(|(id, _)| *id)
            .collect();
        // The one in use is the last, so that the session does not move to one that is next.
        gone.sort_by_key(|id| in_use == Some(*id));
        for id in gone {
            self.close_link(id);
            self.policy.handle_died(now, id, DeathCause::AddressGone);
        }
        self.policy.handle_network_change(now, &moved);
    }

    fn handle_watch(&mut self, id: CarrierId, event: WatchEvent) {
        let now = Instant::now();
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let held = self.live.as_ref().map(|live| live.held.clone());
        match event {
            WatchEvent::Path(report) => {
                link.report = *report;
                if let Some(held) = &held {
                    held.set_rtt(attempt::hold_id(id), report.min_rtt);
                    self.policy.handle_users(now, held.n_busy_streams());
                } else if self.policy.in_use() == Some(id) {
                    let is_busy = link.is_busy();
                    self.policy.handle_users(now, usize::from(is_busy));
                }
                self.policy.handle_path(now, id, &report);
            }
            WatchEvent::PeerPath(generation, report) => {
                let mut links = self.links.iter();
                let found = links.find(|(_, link)| link.generation == Some(generation));
                if let Some((about, _)) = found {
                    let about = *about;
                    self.policy.handle_peer_path(now, about, &report);
                }
            }
            WatchEvent::Prober(event) => self.policy.handle_prober_event(now, id, event),
            WatchEvent::Refused => self.policy.handle_refused(now, id),
            WatchEvent::RefusedForGood => self.policy.handle_died(now, id, DeathCause::Refused),
            WatchEvent::MeasuredRate(rate) => self.policy.handle_measured_rate(now, id, rate),
            // The session has been ended; its end is an event of its own.
            WatchEvent::Goodbye(_) => {}
            WatchEvent::Closed(text) => {
                tracing::debug!("{}: closed: {text}", self.name(id));
                self.close_link(id);
                self.lose_plain_standby(now, id);
                self.policy.handle_died(now, id, DeathCause::Closed);
            }
        }
        // What is refused is dead: the policy has forgotten it. So it has one that it leaves, and what
        // is not held may still come to its end there.
        if self.policy.transport_of(id).is_none() {
            match self.plain {
                Some(_) => self.rest_plain(id),
                None => self.close_link(id),
            }
        }
    }

    /// Does what the policy has decided, and tells what it tells.
    fn follow(&mut self) {
        if self.paused.is_some() {
            return;
        }
        while let Some(decision) = self.policy.poll_decision() {
            self.perform(decision);
            if self.paused.is_some() {
                break;
            }
        }
        let names = Names {
            candidates: self.ways.names(),
            has_both_ips: self.ways.has_both_ips(),
        };
        let mut has_switched = false;
        while let Some(notice) = self.policy.poll_notice() {
            use frp_core::proto::policy::Notice;
            has_switched |= matches!(notice, Notice::Switched { .. });
            self.report.notice(&notice, &names);
        }
        if has_switched {
            self.save_health();
        }
    }

    fn save_health(&self) {
        self.memory.set_health(&self.policy.health());
    }

    fn name(&self, id: CarrierId) -> String {
        match self.policy.transport_of(id) {
            Some(transport) => format!("{id} ({transport})"),
            None => id.to_string(),
        }
    }
}

/// Ends one held session, whichever lives by then.
#[derive(Debug)]
struct HeldEnding {
    links: LinksHandle,
    session: SessionId,
}

impl Ending for HeldEnding {
    fn end(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.links.end(self.session))
    }
}

/// Waits for `instant`, or for ever.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}
