//! What the rest of the program asks of the driver.

use std::time::{Duration, Instant};

use frp_core::proto::policy::{DialFailure, Transport};
use frp_core::task;
use tokio::sync::oneshot;

use super::super::report::state_name;
use super::super::{Command, LinksStatus, SwitchError};
use super::{Driver, Leaving, Paused, link};

impl Driver {
    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::End { session, done } => {
                let now = Instant::now();
                match self.is_live(&session) {
                    true => {
                        let until = now + JOIN_PATIENCE;
                        self.leaving = Some(Leaving { done, until });
                        self.leave(now);
                    }
                    false => drop(done.send(())),
                }
            }
            Command::EndPlain { carrier, done } => {
                self.handle_plain_end(carrier);
                // Who asked may have ended since.
                let _ = done.send(());
            }
            Command::Next { wait } => self.go_on(wait),
            Command::Switch { to, done } => drop(done.send(self.switch(to))),
            Command::Status { done } => drop(done.send(self.status())),
        }
    }

    /// Goes on with what a session that is to end here waited for.
    pub(super) fn leave(&mut self, now: Instant) {
        let is_told_of = self.links.is_empty() || self.links.values().any(link::Link::has_joined);
        let leaving = self.leaving.take_if(|it| is_told_of || it.until <= now);
        if let Some(Leaving { done, .. }) = leaving {
            self.say_goodbye(done);
        }
    }

    /// The session ends here, and nothing is done until the next one is asked for.
    pub(super) fn say_goodbye(&mut self, done: oneshot::Sender<()>) {
        let Some(live) = self.live.take() else {
            return;
        };
        let links = std::mem::take(&mut self.links);
        self.save_health();
        self.pause("the session was ended");
        task::spawn("goodbye", async move {
            link::say_goodbye(&live.held, links.into_values().collect()).await;
            let _ = done.send(());
        });
    }

    pub(super) fn pause(&mut self, note: &'static str) {
        self.login = None;
        self.moving = None;
        let mut given_up = Vec::new();
        for (id, attempt) in std::mem::take(&mut self.attempts) {
            attempt.close();
            given_up.push(id);
        }
        self.paused = Some(Paused { given_up, note });
    }

    pub(super) fn go_on(&mut self, wait: Duration) {
        let Some(paused) = self.paused.take() else {
            return;
        };
        let now = Instant::now();
        for id in paused.given_up {
            self.policy
                .handle_dial_failed(now, id, DialFailure::Timeout);
        }
        self.policy.handle_session_over(now);
        self.policy.handle_server_hint(now, wait);
    }

    pub(super) fn switch(&mut self, to: Option<Transport>) -> Result<(), SwitchError> {
        if let Some(paused) = &self.paused {
            return Err(SwitchError::Nothing(paused.note));
        }
        let now = Instant::now();
        let Some(to) = to else {
            self.policy.release(now);
            return Ok(());
        };
        let candidates = self.ways.candidates();
        if !candidates.iter().any(|way| way.transport == to) {
            let mut names: Vec<_> = candidates.iter().map(|way| way.transport.name()).collect();
            names.dedup();
            return Err(SwitchError::NotACandidate(to, names.join(", ")));
        }
        self.policy.switch_to(now, to);
        Ok(())
    }

    pub(super) fn status(&self) -> LinksStatus {
        let state = state_name(self.policy.state());
        let (state, note) = match (&self.paused, &self.plain) {
            (Some(paused), _) => ("plain", paused.note),
            (None, Some(plain)) => (state, plain.note),
            (None, None) => (state, ""),
        };
        let in_use = self.policy.in_use();
        let carriers = self.links.iter().filter_map(|(id, link)| {
            let transport = self.policy.transport_of(*id)?;
            Some(link.status(*id, transport, in_use == Some(*id)))
        });
        let stats = self.live.as_ref().map(|live| live.held.stats());
        let stats = stats.unwrap_or_default();
        let mut status = LinksStatus {
            state: state.to_owned(),
            note: note.to_owned(),
            by_hand: self.policy.by_hand().map_or("", Transport::name).to_owned(),
            carriers: carriers.collect(),
            held_streams: stats.n_streams,
            held_bytes: stats.kept_bytes,
            replayed_bytes: stats.replayed_bytes,
            copies_sent: stats.n_copies_sent,
            copies_used: stats.n_copies_used,
            ..LinksStatus::default()
        };
        self.report.fill(&mut status);
        status
    }
}

/// How long the end of a session waits for a first carrier that is about to join it. Then its users
/// wait for the grace time, as after any loss.
const JOIN_PATIENCE: Duration = Duration::from_millis(250);
