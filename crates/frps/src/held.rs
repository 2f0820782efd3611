//! One client's streams, held beyond the carriers that they come over.
//!
//! 1. [`welcome`]: a login is answered with what it takes to hold its streams, or it is not.
//! 2. [`answer_join`]: further carriers come to the session, that of the login being the first.
//!    [`serve_route`] is for the streams over them.
//! 3. [`Held::follow`]: what the client decides, and what becomes of the session, goes to the log,
//!    the metrics and the API.
//!
//! A held session and the [`Session`] of its login end together, whichever ends first.

mod carriers;
mod follow;
mod join;
mod login;
mod registry;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Weak};

use frp_core::hold::watch::Allowance;
use frp_core::hold::{CarrierId, HeldSession, HoldStats};
use frp_core::proto::hold::key::ResumeKey;
use frp_core::proto::hold::session::EndReason;
use frp_core::proto::hold::session_frame::GoodbyeReason;
use frp_core::transports::{BoxStream, Carrier};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::link::Link;
use crate::session::{EndCause, Session};

pub(crate) use carriers::{CarrierState, Carriers};
pub(crate) use follow::{Switch, SwitchCount, Way};
pub(crate) use join::{answer_join, answer_mirror, answer_padding, serve_route};
pub(crate) use login::{take_over, welcome};
pub(crate) use registry::{HeldSessions, MAX_BYTES};

/// The held session of one client.
pub(crate) struct Held {
    /// Its streams and carriers.
    pub(crate) session: Arc<HeldSession>,
    /// What its login led to.
    owner: Weak<Session>,
    resume: ResumeKey,
    /// The control stream is held: joins that come earlier wait for it.
    is_begun: CancellationToken,
    /// The carriers that have joined.
    pub(crate) carriers: Carriers,
    /// What the client may still ask for to measure its carriers.
    allowance: Allowance,
    switches: Mutex<VecDeque<Switch>>,
    switch_counts: Mutex<BTreeMap<Way, SwitchCount>>,
    /// Has [`Held::follow`] look again.
    recheck: Notify,
}

impl Held {
    /// Has the control stream go on as a held one, and lets carriers join.
    pub(crate) fn begin(&self, link: &Link, stream: BoxStream) -> BoxStream {
        let stream = self.session.hold_control(link.id, &link.carrier, stream);
        self.is_begun.cancel();
        stream
    }

    /// Ends the session on both sides: the users' connections are closed at once, and the client
    /// is told over every carrier.
    pub(crate) async fn close(&self, reason: GoodbyeReason) {
        self.end(reason);
        self.carriers.goodbye(reason).await;
    }

    /// The same without waiting until the client has been told.
    pub(crate) fn end(&self, reason: GoodbyeReason) {
        self.session.end(EndReason::GoodbyeHere(reason));
        // Joins that wait learn that there is nothing to wait for.
        self.is_begun.cancel();
    }

    /// The carrier in use. `None` while there is none.
    pub(crate) fn carrier_in_use(&self) -> Option<(CarrierId, Arc<dyn Carrier>)> {
        self.session.carrier_in_use()
    }

    /// Whether the streams are kept without a carrier.
    pub(crate) fn is_holding(&self) -> bool {
        self.session.status().holding_until.is_some()
    }

    /// Waits until there is a carrier again, or nothing to wait for.
    pub(crate) async fn reachable(&self) {
        let mut status = self.session.subscribe();
        // The sender lives as long as the session, which is held here.
        let _ = status.wait_for(|now| now.holding_until.is_none()).await;
    }

    /// Why the session of the login ends, once this one is over.
    pub(crate) fn end_cause(&self) -> Option<EndCause> {
        self.session.status().over.map(|reason| match reason {
            EndReason::GraceExpired => EndCause::GraceExpired,
            EndReason::TakenOver => EndCause::TakenOver,
            EndReason::GoodbyeByPeer(_) | EndReason::GoodbyeHere(_) => EndCause::Closed,
        })
    }

    /// Numbers for status and metrics.
    pub(crate) fn stats(&self) -> HoldStats {
        self.session.stats()
    }

    /// How often there was which switch.
    pub(crate) fn switch_counts(&self) -> BTreeMap<Way, SwitchCount> {
        self.switch_counts.lock().clone()
    }

    /// The last switches, the latest last.
    pub(crate) fn switches(&self) -> Vec<Switch> {
        self.switches.lock().iter().cloned().collect()
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("status", &self.session.status())
            .finish_non_exhaustive()
    }
}
