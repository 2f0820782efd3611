//! A server that is plain frp, or holds nothing, where there is more than one way to it.
//!
//! The policy does here what it does elsewhere; what differs is how its decisions are done:
//!
//! - A carrier that has been dialled stands by *without a login*, and shows by an answer that the
//!   server is there (`echo`).
//! - To put a carrier in use is to log in over it, with the same run id. frp's server ends the
//!   control of the login before and gives its ports to the new one, and it leaves work streams
//!   alone that have a user. So they go on over the old carrier, and new ones come over the new.
//! - A carrier that is left is closed when the last of its streams has ended, or when it is dead.
//!   It is not used again: a Holdfast that holds nothing takes no new streams on it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use frp_core::proto::path::ProberEvent;
use frp_core::proto::policy::{CarrierId, DeathCause, DialFailure};
use frp_core::session::{Ending, Session};
use frp_core::task;
use frp_core::transports::{BoxFuture, Carrier, TransportKind};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::super::LinksHandle;
use super::super::attempt::{self, Opened, Stage};
use super::super::candidates;
use super::Driver;
use super::link::Link;
use crate::login::{LoggedIn, LoginError, Over};

/// The session with such a server.
#[derive(Debug)]
pub(super) struct Plain {
    /// The carrier with the control of the session.
    serving: CarrierId,
    /// When its login was answered.
    since: Instant,
    /// That control has ended. It does when the next one takes its place.
    is_over: bool,
    changing: Option<Change>,
    /// Why connections are not held.
    pub(super) note: &'static str,
}

/// A login over another carrier is on its way.
#[derive(Debug)]
struct Change {
    to: CarrierId,
    _task: AbortOnDropHandle<()>,
}

impl Driver {
    /// Goes on with a session whose streams stay where they are.
    pub(super) fn serve_plain(
        &mut self,
        id: CarrierId,
        note: &'static str,
        (carrier, session): (Arc<dyn Carrier>, Session),
        logged_in: LoggedIn,
    ) {
        self.plain = Some(Plain {
            serving: id,
            since: Instant::now(),
            is_over: false,
            changing: None,
            note,
        });
        self.watch_plain(id, carrier);
        self.policy.handle_grace(Duration::ZERO);
        self.policy.handle_dialed(Instant::now(), id);
        self.save_health();
        self.hand_over(session.kept_by(self.keeper(id)), logged_in);
        self.proceed_with_waiting();
    }

    /// The policy wants this carrier used.
    pub(super) fn use_plain(&mut self, id: CarrierId) {
        let Some(plain) = &mut self.plain else {
            return;
        };
        // Another login that is on its way is not waited for: the next displaces it.
        plain.changing = None;
        if plain.serving == id && !plain.is_over {
            self.policy.handle_promoted(Instant::now(), id);
            return;
        }
        let candidate = self.policy.candidate_of(id);
        let way = candidate.and_then(|candidate| self.ways.get(candidate));
        let (Some((kind, addresses, endpoint)), Some(link)) = (way, self.links.get(&id)) else {
            return;
        };
        let Some(transport) = self.dialers.get(kind, addresses) else {
            return;
        };
        let over = self.plain_login(id, link.carrier.clone(), kind);
        let since = self.plain.as_ref().map(|plain| plain.since.elapsed());
        let wait = LOGIN_SPACING.saturating_sub(since.unwrap_or_default());
        let task = self.tasks.log_in(wait, over, transport, endpoint);
        if let Some(plain) = &mut self.plain {
            plain.changing = Some(Change {
                to: id,
                _task: task,
            });
        }
    }

    fn plain_login(&self, id: CarrierId, carrier: Arc<dyn Carrier>, kind: TransportKind) -> Over {
        Over {
            carrier,
            id: attempt::hold_id(id),
            kind,
            run_id: self.memory.run_id(),
            previous: self.memory.previous(),
            is_known_holdfast: self.memory.is_holdfast(),
        }
    }

    /// Whether a login over this carrier is to take the place of the one before.
    pub(super) fn is_changing_to(&self, id: CarrierId) -> bool {
        let change = self
            .plain
            .as_ref()
            .and_then(|plain| plain.changing.as_ref());
        change.is_some_and(|change| change.to == id)
    }

    /// That login has been answered.
    pub(super) fn handle_changed(
        &mut self,
        id: CarrierId,
        outcome: Result<Box<Opened>, LoginError>,
    ) {
        let Some(plain) = &mut self.plain else {
            return;
        };
        plain.changing = None;
        let now = Instant::now();
        match outcome {
            Ok(opened) if opened.logged_in.held.is_some() => {
                tracing::info!("the server holds connections now: a new session");
                self.lose_plain();
                self.policy.handle_session_over(now);
            }
            Ok(opened) => {
                let left = std::mem::replace(&mut plain.serving, id);
                plain.is_over = false;
                plain.since = now;
                self.report.logged_in();
                let told = opened.logged_in.endpoints();
                self.memory
                    .set_session(&opened.logged_in.run_id, None, told);
                self.policy.handle_promoted(now, id);
                self.rest_plain(left);
                self.policy.handle_left(now, left);
                let session = opened.session.kept_by(self.keeper(id));
                self.hand_over(session, opened.logged_in);
            }
            Err(error) => {
                let is_over = plain.is_over;
                tracing::warn!("cannot go over to {}: {error}", self.name(id));
                if is_over {
                    // The next one is looked for as after any loss.
                    self.lose_plain();
                    self.policy.handle_session_over(now);
                } else {
                    // The login before may still stand.
                    self.close_link(id);
                    self.policy.handle_died(now, id, DeathCause::Closed);
                }
            }
        }
    }

    /// A carrier that has been dialled has been asked whether the server is there.
    pub(super) fn handle_knocked(&mut self, id: CarrierId, is_answered: bool) {
        if self.plain.is_none() {
            self.try_again(id);
            return;
        }
        let Some(Stage::Joining(carrier)) = self.attempts.get(&id).map(|entry| &entry.stage) else {
            return;
        };
        let carrier = carrier.clone();
        let now = Instant::now();
        if is_answered {
            self.attempts.remove(&id);
            self.watch_plain(id, carrier);
            self.policy.handle_dialed(now, id);
        } else {
            self.drop_attempt(id);
            self.policy
                .handle_dial_failed(now, id, DialFailure::Timeout);
        }
    }

    fn watch_plain(&mut self, id: CarrierId, carrier: Arc<dyn Carrier>) {
        let mut link = Link::new(carrier);
        let prober = &self.context.config.transport.auto.prober;
        link.watch_echoes(id, prober, &self.tasks.events);
        self.links.insert(id, link);
    }

    /// A carrier that stood by has closed. A server may do that to one without a login, again and
    /// again: it is dialled anew with growing pauses.
    pub(super) fn lose_plain_standby(&mut self, now: Instant, id: CarrierId) {
        if self.plain.is_some() && self.policy.in_use() != Some(id) {
            let unanswered = ProberEvent::BurstOver { n_answered: 0 };
            self.policy.handle_prober_event(now, id, unanswered);
        }
    }

    /// The control that went over this carrier has ended.
    pub(super) fn handle_plain_end(&mut self, id: CarrierId) {
        let Some(plain) = &mut self.plain else {
            return;
        };
        if plain.serving != id {
            // Another has taken its place, and users may still be on it.
            return;
        }
        plain.is_over = true;
        if plain.changing.is_none() {
            self.lose_plain();
            self.pause("between two sessions");
        }
    }

    /// The session is over, and so are the connections on all of its carriers: as in frp, and no
    /// user waits for a program that has been stopped.
    fn lose_plain(&mut self) {
        self.plain = None;
        for link in std::mem::take(&mut self.links).into_values() {
            link.carrier.close();
        }
        self.resting.close();
        self.save_health();
    }

    /// A carrier is not needed any more, but maybe by those whose connections go over it.
    pub(super) fn rest_plain(&mut self, id: CarrierId) {
        if let Some(link) = self.links.remove(&id) {
            self.resting.add(link.carrier.clone());
        }
    }

    fn keeper(&self, carrier: CarrierId) -> Arc<PlainEnding> {
        Arc::new(PlainEnding {
            links: self.handle.clone(),
            carrier,
        })
    }
}

/// Between two logins. They say their time in seconds, and a Holdfast refuses one that says nothing
/// newer than the last.
const LOGIN_SPACING: Duration = Duration::from_millis(1100);

/// Tells the driver that the control over a carrier has ended.
#[derive(Debug)]
struct PlainEnding {
    links: LinksHandle,
    carrier: CarrierId,
}

impl Ending for PlainEnding {
    fn end(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.links.end_plain(self.carrier))
    }
}

/// Whether sessions with a server that holds nothing can change their carrier.
pub(super) fn can_change(carrier: &Arc<dyn Carrier>, ways: &candidates::Ways) -> bool {
    // Without multiplexing every work stream has a carrier of its own, and none can stand by.
    carrier.is_multiplexed() && ways.len() > 1
}

/// Carriers that were left and still have users.
#[derive(Debug, Default)]
pub(super) struct Resting(VecDeque<(Arc<dyn Carrier>, JoinHandle<()>)>);

/// So many at most: each has sockets and buffers. At the bound the one that was left first is
/// closed, with the connections that are still on it.
const MAX_RESTING: usize = 16;

/// Between two looks at whether a carrier has streams.
const REST_LOOK: Duration = Duration::from_millis(250);

impl Resting {
    fn close(&mut self) {
        for (carrier, _) in self.0.drain(..) {
            carrier.close();
        }
    }

    fn add(&mut self, carrier: Arc<dyn Carrier>) {
        self.0.retain(|(_, task)| !task.is_finished());
        if self.0.len() == MAX_RESTING
            && let Some((oldest, _)) = self.0.pop_front()
        {
            oldest.close();
        }
        let resting = carrier.clone();
        let task = task::spawn("carrier that was left", async move {
            // A peer that is gone is noticed by the carrier itself.
            while resting.path_stats().n_streams > 0 {
                if timeout(REST_LOOK, resting.closed()).await.is_ok() {
                    return;
                }
            }
            resting.close();
        });
        self.0.push_back((carrier, task));
    }
}
