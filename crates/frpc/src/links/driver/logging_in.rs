//! How a carrier that has been dialled comes to a session: by a login or a join, and what becomes of
//! attempts that fail.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use frp_core::hold::HeldSession;
use frp_core::hold::join::JoinFailure;
use frp_core::proto::hold::key::SessionId;
use frp_core::proto::hold::session::EndReason;
use frp_core::proto::policy::{CarrierId, DeathCause, DialFailure, State};
use frp_core::session::Session;
use frp_core::task;
use frp_core::transports::{Carrier, DialError};
use tokio_util::task::AbortOnDropHandle;

use super::super::Begun;
use super::super::attempt::{self, JoinOutcome, Opened, Stage};
use super::super::candidates;
use super::link::Link;
use super::{Driver, Event, HeldEnding, Live, plain};
use crate::login::{LoggedIn, LoginError, Over};

impl Driver {
    /// A carrier that has been dialled joins the session that lives, or logs in.
    pub(super) fn proceed(&mut self, id: CarrierId, carrier: Arc<dyn Carrier>) {
        let (stage, task) = match (&self.live, &self.plain) {
            (Some(live), _) => {
                let task = self.tasks.join(id, live.held.clone(), carrier.clone());
                (Stage::Joining(carrier), Some(task))
            }
            (None, Some(_)) => {
                let task = self.tasks.knock(id, carrier.clone());
                (Stage::Joining(carrier), Some(task))
            }
            (None, None) => (Stage::Waiting(carrier), None),
        };
        if matches!(stage, Stage::Joining(_)) {
            self.policy.handle_answered(id);
        }
        if let Some(attempt) = self.attempts.get_mut(&id) {
            attempt.advance(stage, task);
        }
        self.log_in_next();
    }

    pub(super) fn first_waiting(&self) -> Option<CarrierId> {
        let mut attempts = self.attempts.iter();
        let found = attempts.find(|(_, attempt)| matches!(attempt.stage, Stage::Waiting(_)));
        found.map(|(id, _)| *id)
    }

    /// Logs in over the carrier that waits longest, unless a login is on its way. One that has not
    /// been answered for long is given up: were it answered later, it would displace the next.
    pub(super) fn log_in_next(&mut self) {
        let now = Instant::now();
        if self.live.is_some() || self.plain.is_some() || self.paused.is_some() {
            return;
        }
        let Some(id) = self.first_waiting() else {
            return;
        };
        match self.login {
            Some((_, until)) if now < until => return,
            Some((pending, _)) => {
                self.abandon(pending);
                let failure = DialFailure::Timeout;
                self.policy.handle_dial_failed(now, pending, failure);
                // That has begun the next.
                return;
            }
            None => {}
        }
        let Some(attempt) = self.attempts.get_mut(&id) else {
            return;
        };
        let way = self.ways.get(attempt.candidate);
        let Some((kind, addresses, endpoint)) = way else {
            return;
        };
        let transport = self.dialers.get(kind, addresses);
        let (Stage::Waiting(carrier), Some(transport)) = (&attempt.stage, transport) else {
            return;
        };
        let carrier = carrier.clone();
        let over = Over {
            carrier: carrier.clone(),
            id: attempt::hold_id(id),
            kind,
            run_id: self.memory.run_id(),
            previous: self.memory.previous(),
            is_known_holdfast: self.memory.is_holdfast(),
        };
        self.policy.handle_answered(id);
        self.login = Some((id, now + attempt::login_patience(&carrier)));
        let task = self.tasks.log_in(Duration::ZERO, over, transport, endpoint);
        attempt.advance(Stage::LoggingIn(carrier), Some(task));
    }

    /// A login has succeeded.
    pub(super) fn begin(&mut self, id: CarrierId, candidate: usize, opened: Opened) {
        let Opened {
            carrier,
            session,
            logged_in,
        } = opened;
        self.report.logged_in();
        self.is_quiet = false;
        self.first = None;
        let told = logged_in.endpoints();
        if let Some(told) = &told {
            self.ways.learn(candidate, told);
            carrier.handle_holdfast_peer();
        }
        let held = logged_in.held.clone();
        let proof = held
            .as_ref()
            .map(|held| (*held.id(), held.key().resume_key()));
        self.memory.set_session(&logged_in.run_id, proof, told);

        let now = Instant::now();
        let Some(held) = held else {
            let note = match &logged_in.welcome {
                None => "the server is plain frp",
                Some(_) => "the server holds no connections, or the carrier has no TLS",
            };
            if plain::can_change(&carrier, &self.ways) {
                self.serve_plain(id, note, (carrier, session), logged_in);
                return;
            }
            self.policy.handle_dialed(now, id);
            self.save_health();
            self.pause(note);
            self.hand_over(session, logged_in);
            return;
        };
        let grace = logged_in.grace();
        let ending = HeldEnding {
            links: self.handle.clone(),
            session: *held.id(),
        };
        let session = Session::held(held.clone(), grace, Arc::new(ending));
        self.links.insert(id, Link::new(carrier.clone()));
        self.start_join(id, held.clone(), carrier);
        self.live = Some(Live {
            _over: self.tell_end(held.clone()),
            held,
        });
        self.policy.handle_grace(grace);
        self.policy.handle_dialed(now, id);
        self.proceed_with_waiting();
        self.hand_over(session, logged_in);
    }

    /// What was dialled beside a login has a session to join, or to stand by for.
    pub(super) fn proceed_with_waiting(&mut self) {
        let waiting: Vec<_> = self
            .attempts
            .iter()
            .filter_map(|(id, attempt)| match &attempt.stage {
                Stage::Waiting(carrier) => Some((*id, carrier.clone())),
                _ => None,
            })
            .collect();
        for (id, carrier) in waiting {
            self.proceed(id, carrier);
        }
    }

    pub(super) fn start_join(
        &mut self,
        id: CarrierId,
        held: Arc<HeldSession>,
        carrier: Arc<dyn Carrier>,
    ) {
        let task = self.tasks.join(id, held, carrier);
        if let Some(link) = self.links.get_mut(&id) {
            link.joining = Some(task);
        }
    }

    /// Waits for the end of a held session beside the driver.
    pub(super) fn tell_end(&self, held: Arc<HeldSession>) -> AbortOnDropHandle<()> {
        let events = self.tasks.events.clone();
        AbortOnDropHandle::new(task::spawn("session end", async move {
            let reason = held.over().await;
            // A driver that has ended needs not know.
            let _ = events.send(Event::Over(*held.id(), reason)).await;
        }))
    }

    pub(super) fn hand_over(&mut self, session: Session, logged_in: LoggedIn) {
        let begun = Begun {
            session: Arc::new(session),
            logged_in,
        };
        if self.outbox.try_send(Ok(begun)).is_err() {
            // Its runner has not taken the sessions before.
            tracing::error!("nobody runs the new session");
            self.end_live(EndReason::GraceExpired);
        }
    }

    pub(super) fn handle_joined(
        &mut self,
        id: CarrierId,
        session: SessionId,
        outcome: JoinOutcome,
    ) {
        let now = Instant::now();
        let is_live = self.is_live(&session);
        let held = self.live.as_ref().map(|live| live.held.clone());
        match (outcome, held) {
            (Ok(stream), Some(held)) if is_live => {
                let is_login = self.links.contains_key(&id);
                if let Some(attempt) = self.attempts.remove(&id) {
                    let Stage::Joining(carrier) = attempt.stage else {
                        return;
                    };
                    carrier.handle_holdfast_peer();
                    self.links.insert(id, Link::new(carrier));
                }
                let prober = self.context.config.transport.auto.prober.clone();
                let events = &self.tasks.events;
                let Some(link) = self.links.get_mut(&id) else {
                    // Given up in the meantime; its carrier is closed.
                    held.lose_carrier(attempt::hold_id(id));
                    return;
                };
                link.watch(&held, id, stream, prober, events);
                if let Some(transport) = candidates::transport(link.carrier.kind()) {
                    self.report.reached(transport);
                }
                if is_login {
                    // The policy has decided for it before it had joined.
                    if self.policy.in_use() == Some(id) {
                        self.put_in_use(id, false);
                    }
                } else {
                    self.policy.handle_dialed(now, id);
                }
            }
            (Ok(_), _) => self.try_again(id),
            (Err(JoinFailure::Over), _) if !is_live => self.try_again(id),
            (Err(JoinFailure::UnknownSession), _) if is_live && !self.links.contains_key(&id) => {
                self.handle_unknown(id);
            }
            (Err(error), _) => {
                tracing::debug!("{}: {error}", self.name(id));
                if self.links.values().any(Link::has_joined) && self.links.contains_key(&id) {
                    // Others have joined, and carry the session.
                    self.close_link(id);
                    self.policy.handle_died(now, id, DeathCause::Closed);
                } else if self.links.contains_key(&id) {
                    tracing::warn!("the login's carrier cannot join its session: {error}");
                    self.end_live(EndReason::GraceExpired);
                } else {
                    let failure = attempt::join_failure(&error);
                    self.drop_attempt(id);
                    self.policy.handle_dial_failed(now, id, failure);
                }
            }
        }
    }

    /// The session that an attempt was to join has ended: it goes on with what there is.
    pub(super) fn try_again(&mut self, id: CarrierId) {
        let carrier = match self.attempts.get(&id).map(|attempt| &attempt.stage) {
            Some(Stage::Joining(carrier)) => carrier.clone(),
            _ => return,
        };
        self.proceed(id, carrier);
    }

    /// The server does not know the session (any more): it has restarted, or the session's time is
    /// over. That needs no proof, so it counts only while nothing shows that the session lives.
    pub(super) fn handle_unknown(&mut self, id: CarrierId) {
        if matches!(self.policy.state(), State::Connected | State::Switching) {
            tracing::warn!(
                "{} was told that there is no such session, and the session lives: ignored",
                self.name(id)
            );
            metrics::counter!("holdfast_rejected_total", "cause" => "unknown session").increment(1);
            self.drop_attempt(id);
            let now = Instant::now();
            self.policy
                .handle_dial_failed(now, id, DialFailure::Handshake);
            return;
        }
        tracing::warn!("the server does not know the session any more: a new login");
        self.report
            .keep("session", "the server does not know it any more".to_owned());
        self.end_live(EndReason::GraceExpired);
        // Over the carrier that there is.
        self.try_again(id);
    }

    pub(super) fn end_live(&mut self, reason: EndReason) {
        if let Some(live) = &self.live {
            live.held.end(reason);
        }
        self.lose_session();
    }

    /// The session is over. The next one is looked for at once.
    pub(super) fn lose_session(&mut self) {
        self.live = None;
        self.plain = None;
        self.moving = None;
        // Whoever waits to end it has nothing more to end.
        self.leaving = None;
        for link in std::mem::take(&mut self.links).into_values() {
            link.carrier.close();
        }
        self.policy.handle_session_over(Instant::now());
        self.save_health();
        self.log_in_next();
    }

    pub(super) fn drop_attempt(&mut self, id: CarrierId) {
        if let Some(attempt) = self.attempts.remove(&id) {
            attempt.close();
        }
        if self.login.is_some_and(|(pending, _)| pending == id) {
            self.login = None;
        }
    }

    /// An attempt has failed.
    pub(super) fn fail(&mut self, id: CarrierId, failure: DialFailure, error: LoginError) {
        let Some(candidate) = self.attempts.get(&id).map(|attempt| attempt.candidate) else {
            return;
        };
        self.drop_attempt(id);
        self.policy.handle_dial_failed(Instant::now(), id, failure);
        self.complain(candidate, error);
    }

    /// Says why there is no session yet. Ends the program where it is to end for that.
    pub(super) fn complain(&mut self, candidate: usize, error: LoginError) {
        if self.live.is_some() || self.plain.is_some() {
            tracing::debug!("{error}");
            return;
        }
        // The other version of IP has the word.
        let is_minor = self.ways.has_both_ips() && has_no_way(&error);
        if is_minor {
            tracing::debug!("{error}");
        } else {
            self.report.login_failed(Instant::now(), &error);
            self.context.health.login_failed(&error);
        }
        let Some(first) = &mut self.first else {
            return;
        };
        if !self.context.config.login_fail_exit {
            return;
        }
        let is_final = matches!(
            error,
            LoginError::Refused(_) | LoginError::NotHoldfast(_) | LoginError::RunId
        );
        first.failed.insert(candidate, error);
        if is_final || first.failed.len() == self.ways.len() {
            // What is pinned is what the user asked for; else the last word counts. Whoever has no
            // address, or no way to it, has said the least.
            let pinned = self.context.config.transport.protocol.pinned();
            let which = (first.failed.iter())
                .min_by_key(|(index, error)| {
                    let way = self.ways.get(**index);
                    let is_pinned = pinned.is_some() && way.map(|way| way.0) == pinned;
                    (
                        !is_pinned || is_final,
                        has_no_way(error),
                        **index != candidate,
                    )
                })
                .map(|(index, _)| *index);
            let which = if is_final { Some(candidate) } else { which };
            let error = which.and_then(|which| first.failed.remove(&which));
            self.pause("the first login has failed");
            if let Some(error) = error {
                // A runner that is gone needs no answer.
                let _ = self.outbox.try_send(Err(error));
            }
        }
    }

    pub(super) fn timeout_error(&self, id: CarrierId) -> LoginError {
        let attempt = self.attempts.get(&id);
        let way = attempt.and_then(|attempt| self.ways.get(attempt.candidate));
        let addr = way.map_or_else(String::new, |(_, _, endpoint)| endpoint.to_string());
        let after = self.context.config.transport.dial_server_timeout;
        DialError::Timeout { addr, after }.into()
    }
}

/// Whether there is no address of the kind that was to be dialled, or this host has no way to any.
fn has_no_way(error: &LoginError) -> bool {
    let (LoginError::Dial(DialError::Connect { source, .. })
    | LoginError::Dial(DialError::ConnectUdp { source, .. })) = error
    else {
        return false;
    };
    let kind = source.kind();
    matches!(
        kind,
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::NetworkUnreachable
    )
}
