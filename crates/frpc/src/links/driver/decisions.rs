//! What the policy has decided is done.

use std::time::{Duration, Instant};

use frp_core::proto::policy::{CarrierId, DeathCause, Decision};
use frp_core::task;

use super::super::attempt::{self, Attempt};
use super::Driver;
use super::link::Link;

/// How long streams are taken to be moving after a switch that was planned: the old carrier
/// may deliver what it has for a quarter of a second.
const MOVING: Duration = Duration::from_millis(250);

impl Driver {
    pub(super) fn perform(&mut self, decision: Decision) {
        match decision {
            Decision::Dial {
                carrier, candidate, ..
            } => self.dial(carrier, candidate),
            Decision::Abandon { carrier } => self.abandon(carrier),
            Decision::Burst { carrier, n_probes } => {
                if let Some(link) = self.links.get_mut(&carrier) {
                    link.burst(n_probes);
                }
            }
            Decision::Probe { carrier, pace } => {
                if let Some(link) = self.links.get_mut(&carrier) {
                    link.set_pace(pace);
                }
            }
            Decision::MeasureRate { carrier, bytes } => {
                if let Some(link) = self.links.get(&carrier) {
                    link.measure_rate(bytes);
                }
            }
            Decision::AdaptToLoss { carrier, loss_pct } => {
                // Congestion control and copies do, at both ends, as soon as something is lost.
                tracing::debug!("{}: adapts to {loss_pct} % loss", self.name(carrier));
            }
            Decision::Promote { carrier, .. } if self.plain.is_some() => self.use_plain(carrier),
            Decision::Promote { carrier, from, .. } => {
                // A login's carrier that has not joined yet is put in use when it has.
                if self.links.get(&carrier).is_some_and(Link::has_joined) {
                    self.put_in_use(carrier, from.is_some());
                }
            }
            Decision::Rebind { carrier } => self.rebind(carrier),
            Decision::Rest { carrier } => self.rest(carrier),
        }
    }

    pub(super) fn dial(&mut self, id: CarrierId, candidate: usize) {
        let Some((kind, addresses, endpoint)) = self.ways.get(candidate) else {
            return;
        };
        let ways = &self.ways;
        let opened = self
            .opened
            .take_if(|opened| ways.is_of_pinned(candidate, opened.carrier.peer_addr().ip()));
        if let Some(opened) = opened {
            self.begin(id, candidate, opened);
            return;
        }
        let Some(transport) = self.dialers.get(kind, addresses) else {
            return;
        };
        if self.live.is_none() && self.plain.is_none() && !self.is_quiet {
            self.is_quiet = true;
            tracing::info!("try to connect to server...");
        }
        let task = self.tasks.dial(id, transport, endpoint);
        self.attempts.insert(id, Attempt::new(candidate, task));
    }

    /// The policy has given an attempt up.
    pub(super) fn abandon(&mut self, id: CarrierId) {
        let error = self.timeout_error(id);
        let candidate = self.attempts.get(&id).map(|attempt| attempt.candidate);
        self.drop_attempt(id);
        self.log_in_next();
        // Fresh attempts run beside it: the first login has not failed before a dial's own time.
        let limit = self.context.config.transport.dial_server_timeout;
        let is_due = self
            .first
            .as_ref()
            .is_none_or(|first| first.began.elapsed() >= limit);
        if let Some(candidate) = candidate.filter(|_| is_due) {
            self.complain(candidate, error);
        }
    }

    pub(super) fn put_in_use(&mut self, id: CarrierId, is_planned: bool) {
        let (Some(live), Some(link)) = (&self.live, self.links.get(&id)) else {
            return;
        };
        match live.held.use_carrier(attempt::hold_id(id), is_planned) {
            Ok(generation) => {
                link.send_use(generation);
                let now = Instant::now();
                if is_planned {
                    self.moving = Some((id, now + MOVING + link.report.srtt));
                } else {
                    self.policy.handle_promoted(now, id);
                }
            }
            Err(error) => {
                // It closed a moment ago, and its watch has not said so yet.
                tracing::debug!("{}: cannot be used: {error}", self.name(id));
                self.close_link(id);
                let now = Instant::now();
                self.policy.handle_died(now, id, DeathCause::Closed);
            }
        }
    }

    pub(super) fn rebind(&self, id: CarrierId) {
        if let Some(link) = self.links.get(&id) {
            let carrier = link.carrier.clone();
            task::spawn("rebind", async move {
                // Where it did not work, silence tells.
                if let Err(error) = carrier.rebind().await {
                    tracing::debug!("cannot follow the change of address: {error}");
                }
            });
        }
    }

    /// A carrier is not needed. The one that was in use is dead; another one may still deliver what
    /// it has.
    pub(super) fn rest(&mut self, id: CarrierId) {
        self.drop_attempt(id);
        if self.plain.is_some() {
            self.rest_plain(id);
            return;
        }
        let in_use = self
            .live
            .as_ref()
            .and_then(|live| live.held.status().in_use);
        let is_dead = in_use.is_some_and(|(in_use, _)| in_use == attempt::hold_id(id));
        if is_dead {
            self.close_link(id);
        } else if let (Some(link), Some(live)) = (self.links.remove(&id), &self.live) {
            link.rest(id, live.held.clone());
        } else {
            self.close_link(id);
        }
    }

    /// The carrier is gone, or taken for it.
    pub(super) fn close_link(&mut self, id: CarrierId) {
        if let Some(link) = self.links.remove(&id) {
            if let Some(live) = &self.live {
                live.held.lose_carrier(attempt::hold_id(id));
            }
            link.carrier.close();
        }
    }
}
