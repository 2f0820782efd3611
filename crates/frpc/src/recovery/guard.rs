//! What runs beside a client: feeds the trial and the watch with what is seen, and does what they
//! decide.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use frp_core::config::{Protocol, RecoveryPart};
use tokio::time::{sleep_until, timeout};

use super::sights::{self, Eyes};
use super::trial::Trial;
use super::trial::{ProxySeen, Seen, Verdict};
use super::watch::{Act, Means, Watch};
use super::{Applied, BLAME, OnTrial, Recovery, Stage, rest};
use crate::client::Client;
use crate::proxy::state::Phase;

/// Why a client ends before the program does.
#[derive(Clone, Debug)]
pub(crate) enum Next {
    /// It is to begin anew with what runs.
    Again,
    /// It is to begin anew with this.
    Use(Arc<Applied>),
    /// A start has not logged in within its time.
    NoLogin,
}

/// How often a version on trial is looked at.
const TRIAL_TICK: Duration = Duration::from_millis(500);

/// What is left of a trial when local services that were moved are asked: once, at its end, so that
/// they are bothered as little as can be.
const PROBE_AT: Duration = Duration::from_secs(1);

/// How long a local service then has to answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a step may take. What takes longer hangs, and the next step is for that.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long nobody looks where looking is off. Turning it on wakes the guard.
const OFF: Duration = Duration::from_secs(3600);

/// What is known of trouble. It outlives clients: one that begins anew must neither forget what it
/// was done for, nor what was done within the hour.
#[derive(Debug)]
pub(crate) struct Watching {
    watch: Watch,
    eyes: Eyes,
}

impl Watching {
    /// Nothing is known yet.
    pub(crate) fn new(recovery: &Recovery) -> Self {
        let interval = recovery.settings.watch.unwrap_or(OFF);
        Self {
            watch: Watch::new(interval, recovery.settings.actions_per_hour),
            eyes: Eyes::default(),
        }
    }
}

/// Looks after `client` until it has to be replaced.
pub(crate) async fn guard(recovery: &Recovery, client: &Client, watching: &mut Watching) -> Next {
    let interval = recovery.settings.watch.unwrap_or(OFF);
    let mut guard = Guard {
        recovery,
        client,
        interval,
        watching,
        switched: false,
    };
    let mut look_at = Instant::now() + interval;
    loop {
        let is_on_trial = recovery.state.lock().trial.is_some();
        let wake_at = match is_on_trial {
            true => look_at.min(Instant::now() + TRIAL_TICK),
            false => look_at,
        };
        tokio::select! {
            () = sleep_until(wake_at.into()) => {}
            () = recovery.wake.notified() => {}
        }
        let wanted = recovery.state.lock().next.take();
        if let Some(applied) = wanted {
            return Next::Use(applied);
        }
        if let Some(next) = guard.look_at_trial().await {
            return next;
        }
        if Instant::now() >= look_at {
            look_at = Instant::now() + interval;
            if recovery.settings.watch.is_some()
                && let Some(next) = guard.look_at_all().await
            {
                return next;
            }
        }
    }
}

struct Guard<'a> {
    recovery: &'a Recovery,
    client: &'a Client,
    interval: Duration,
    watching: &'a mut Watching,
    /// A step has chosen the transport, which is to be left to the policy again.
    switched: bool,
}

impl Guard<'_> {
    async fn look_at_trial(&mut self) -> Option<Next> {
        let (recovery, client) = (self.recovery, self.client);
        let mut on_trial = recovery.state.lock().trial.clone()?;
        if recovery.patience().is_none() {
            // Turned off meanwhile: what runs stays, and is not known to work.
            recovery.state.lock().trial = None;
            return None;
        }
        let stage = on_trial.stage;
        if stage == Stage::Fallback && client.session().is_some() {
            recovery.settle_on_fallback();
            return None;
        }
        let seen = self.see(&on_trial).await;
        let verdict = on_trial.trial.look(Instant::now(), &seen);
        {
            let mut state = recovery.state.lock();
            // A reload has come in between: what was seen is of another version.
            let began_at = on_trial.trial.began_at();
            let is_same = state
                .trial
                .as_ref()
                .is_some_and(|known| known.trial.began_at() == began_at);
            if !is_same {
                return None;
            }
            state.trial = Some(on_trial);
        }
        match verdict {
            Verdict::Wait => None,
            Verdict::Works => {
                recovery.confirm(client).await;
                None
            }
            Verdict::NoLogin
                if stage
                    == (Stage::Start {
                        has_fallback: false,
                    }) =>
            {
                // There is nothing else to be tried: it has all the time that it needs.
                if let (Some(on_trial), Some(patience)) =
                    (&mut recovery.state.lock().trial, recovery.patience())
                {
                    on_trial.trial = Trial::start(Instant::now(), patience, Default::default());
                }
                None
            }
            Verdict::NoLogin => {
                recovery.state.lock().trial = None;
                Some(Next::NoLogin)
            }
            Verdict::Lost(reason) => {
                let cause = match stage {
                    Stage::Reload => "reload",
                    Stage::Start { .. } | Stage::Fallback => "start",
                };
                let next = recovery.take_back(client, &reason, cause).await;
                next.map(Next::Use)
            }
        }
    }

    async fn see(&self, on_trial: &OnTrial) -> Seen {
        let client = self.client;
        let n_begun = client
            .health()
            .n_sessions()
            .saturating_sub(on_trial.n_sessions);
        let entries = client.look_at_proxies(|proxies| {
            let entries = proxies.iter();
            let entries = entries.map(|(config, state)| {
                let seen = match state.phase() {
                    Phase::Running => ProxySeen::Running,
                    Phase::StartError => ProxySeen::Refused(state.error().to_owned()),
                    Phase::New | Phase::WaitStart | Phase::Closed => ProxySeen::Waiting,
                };
                (config.clone(), seen)
            });
            entries.collect::<Vec<_>>()
        });
        let mut proxies = BTreeMap::new();
        let is_ending = on_trial.trial.left() <= PROBE_AT;
        for (config, mut seen) in entries.unwrap_or_default() {
            if is_ending && seen == ProxySeen::Running && on_trial.probed.contains(&config.name) {
                let answer = sights::probe(&config, PROBE_TIMEOUT).await;
                seen = answer.map_or_else(ProxySeen::LocalDown, |()| ProxySeen::Running);
            }
            proxies.insert(config.name, seen);
        }
        Seen {
            has_session: client.session().is_some(),
            // The first session of a start is no break.
            n_breaks: n_begun.saturating_sub(u32::from(on_trial.stage != Stage::Reload)),
            proxies,
        }
    }

    async fn look_at_all(&mut self) -> Option<Next> {
        let recovery = self.recovery;
        self.release().await;
        let sights = match recovery.parts.is_on(RecoveryPart::Watch) {
            true => {
                let observed = sights::observe(&mut self.watching.eyes, self.client).await;
                sights::judge(&observed, self.interval)
            }
            false => Vec::new(),
        };
        let means = self.means().await;
        let watch = &mut self.watching.watch;
        let acts = watch.look(Instant::now(), &sights, &means);
        recovery.state.lock().cases = watch.cases();
        for act in acts {
            match act {
                Act::Raise { key, level, text } => recovery.raise(&key, level, &text),
                Act::Resolve { key, text } => {
                    tracing::info!("recovery: {key}: {text}");
                    recovery.resolve(&key, &text);
                }
                Act::Step {
                    step,
                    trouble,
                    subject,
                    text,
                } => {
                    let key = match subject.as_str() {
                        "" => trouble.name().to_owned(),
                        subject => format!("{}:{subject}", trouble.name()),
                    };
                    recovery.note_step(step, &key, &text);
                    if let Some(next) = self.take(step, &text).await {
                        return Some(next);
                    }
                }
            }
        }
        None
    }

    /// What can be done at the moment.
    async fn means(&self) -> Means {
        let (recovery, client) = (self.recovery, self.client);
        let mut means = Means::default();
        let transport = &client.config().transport;
        let has_choice =
            transport.protocol == Protocol::Auto || !transport.auto.fallback.is_empty();
        let links = timeout(STEP_TIMEOUT, client.links()).await;
        let is_by_hand = links.is_ok_and(|links| !links.by_hand.is_empty());
        let (fallback, applied_at, takes_turns) = {
            let state = recovery.state.lock();
            let stage = state.trial.as_ref().map(|on_trial| on_trial.stage);
            // What does not log in is replaced when its time is over: nothing helps it but that.
            let takes_turns = matches!(
                stage,
                Some(Stage::Fallback | Stage::Start { has_fallback: true })
            );
            (state.fallback.clone(), state.applied_at, takes_turns)
        };
        let is_recent = applied_at.is_some_and(|at| at.elapsed() < BLAME);
        let fallback = fallback.filter(|_| is_recent);
        for (step, is_possible) in [
            (RecoveryPart::Reprobe, true),
            (RecoveryPart::Switch, has_choice && !is_by_hand),
            (RecoveryPart::Login, client.session().is_some()),
            (RecoveryPart::Restart, true),
            (RecoveryPart::Rollback, fallback.is_some()),
        ] {
            let is_felt = step != RecoveryPart::Reprobe;
            if is_possible && recovery.parts.is_on(step) && !(is_felt && takes_turns) {
                means.steps.insert(step);
            }
        }
        if let Some(fallback) = fallback {
            means.rollback_changes_all = rest(&fallback.config) != recovery.rest_of(client);
            let before = &fallback.config.proxies;
            let now = client.services();
            let changed = now.proxies.iter().filter(|proxy| !before.contains(proxy));
            means.rollback_changes = changed.map(|proxy| proxy.name.clone()).collect();
        }
        means
    }

    async fn take(&mut self, step: RecoveryPart, text: &str) -> Option<Next> {
        let client = self.client;
        match step {
            RecoveryPart::Reprobe => {
                let _ = timeout(STEP_TIMEOUT, client.retry()).await;
            }
            RecoveryPart::Switch => self.switch().await,
            RecoveryPart::Login => {
                let _ = timeout(STEP_TIMEOUT, client.log_in_again()).await;
            }
            RecoveryPart::Restart => return Some(Next::Again),
            RecoveryPart::Rollback => {
                let next = self.recovery.take_back(client, text, "watch").await;
                return next.map(Next::Use);
            }
            RecoveryPart::History
            | RecoveryPart::Confirm
            | RecoveryPart::Watch
            | RecoveryPart::Alerts => {}
        }
        None
    }

    /// Goes over to another transport, the standby's first.
    async fn switch(&mut self) {
        let client = self.client;
        let Ok(links) = timeout(STEP_TIMEOUT, client.links()).await else {
            return;
        };
        let in_use = links.carriers.iter().find(|carrier| carrier.in_use);
        let in_use = in_use.map_or("", |carrier| carrier.transport.as_str());
        let standby = links
            .carriers
            .iter()
            .map(|carrier| carrier.transport.as_str());
        let all = ["quic", "tcp", "kcp", "wss", "websocket"];
        for name in standby.chain(all).filter(|name| *name != in_use) {
            let switched = timeout(STEP_TIMEOUT, client.switch(name)).await;
            if matches!(switched, Ok(Ok(()))) {
                self.switched = true;
                return;
            }
        }
    }

    /// Leaves the choice of a transport to the policy again.
    async fn release(&mut self) {
        if std::mem::take(&mut self.switched) {
            let _ = timeout(STEP_TIMEOUT, self.client.switch("auto")).await;
        }
    }
}
