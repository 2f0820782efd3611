//! How frpc gets itself out of trouble.
//!
//! [`Recovery`] is what outlives a client: the history of the configuration ([`history`]), which
//! version runs and what it would go back to, which parts are on ([`parts`]), who is told
//! ([`crate::alerts`]).
//!
//! 1. A version is applied at the start ([`service`]) or by a reload ([`Recovery::reload`]), and is
//!    on trial from there ([`trial`]).
//! 2. [`guard`] runs beside the client. It looks at the trial, and every half a minute at
//!    everything else ([`sights`], [`watch`]), and does what these decide.
//! 3. What works is confirmed in the history. What does not is taken back: services in the running
//!    client, anything else by a client that begins anew in the same process.
//!
//! All decisions are in [`trial`] and [`watch`], which know no clock and no network.

pub mod guard;
pub mod health;
pub mod history;
pub mod parts;
pub mod service;
pub mod sights;
pub mod status;
pub mod trial;
pub mod watch;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use frp_core::config::{
    AlertLevel, ClientConfig, ClientTexts, LoadOptions, ProxyConfig, RecoveryConfig, RecoveryPart,
    load_client_from_texts,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::alerts::Alerts;
use crate::client::Client;
use crate::context::unix_now;
use crate::control::Services;
use history::{History, Version, Why};
use parts::Parts;
use status::StepStatus;
use trial::Trial;
use watch::CaseView;

/// What outlives the clients of one configuration file.
#[derive(Debug)]
pub struct Recovery {
    pub(crate) history: Arc<History>,
    pub(crate) parts: Parts,
    pub(crate) alerts: Alerts,
    settings: RecoveryConfig,
    options: LoadOptions,
    state: Mutex<State>,
    /// Something for the guard to do.
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    running: Option<Arc<Applied>>,
    is_confirmed: bool,
    applied_at: Option<Instant>,
    /// The last version that worked, before the one that runs.
    fallback: Option<Arc<Applied>>,
    trial: Option<OnTrial>,
    /// Somebody wants a client that begins anew with this.
    next: Option<Arc<Applied>>,
    /// The file has other settings for all than the client that runs.
    restart_needed: bool,
    /// What became of the last version, in a sentence.
    note: String,
    steps: VecDeque<StepStatus>,
    cases: Vec<CaseView>,
}

/// A version with everything in it.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Its number in the history; 0 is none.
    pub number: u64,
    /// What it says.
    pub config: ClientConfig,
    /// How it says it.
    pub texts: ClientTexts,
}

#[derive(Clone, Debug)]
struct OnTrial {
    trial: Trial,
    /// Sessions that had begun before.
    n_sessions: u32,
    /// The proxies whose local service has to answer: it did before it was moved.
    probed: BTreeSet<String>,
    stage: Stage,
}

/// When a version is on trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It was reloaded.
    Reload,
    /// The program was started with it.
    Start {
        /// There is another version that has its turn when this one cannot log in.
        has_fallback: bool,
    },
    /// It worked once, and has its turn because the one that the program was started with does not
    /// log in.
    Fallback,
}

/// What a reload has read.
#[derive(Debug)]
pub struct Given {
    /// What it says.
    pub config: ClientConfig,
    /// How it says it.
    pub texts: ClientTexts,
    /// Whether it was read strictly.
    pub strict: bool,
    /// Why it is applied.
    pub why: Why,
}

/// The key of alerts about the configuration.
const CONFIG_KEY: &str = "config";

/// Steps that are shown. At the bound the oldest is dropped.
const MAX_STEPS: usize = 64;

/// How long a version that was applied may be what is wrong: later, it is something else.
const BLAME: Duration = Duration::from_secs(3600);

/// How long the old place of a local service has to answer before a reload goes on.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a confirmation may take to be written before it is said.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Local services that are asked at a reload. Those beyond are not waited for by the trial.
const MAX_PROBES: usize = 16;

impl Recovery {
    /// For the configuration `config`, whose file is kept in `history` and read with `options`.
    /// Needs a runtime.
    pub fn new(config: &ClientConfig, history: Arc<History>, options: LoadOptions) -> Arc<Self> {
        Arc::new(Self {
            history,
            parts: Parts::new(&config.recovery.off),
            alerts: Alerts::new(config, &config.alerts),
            settings: config.recovery.clone(),
            options,
            state: Mutex::default(),
            wake: Notify::new(),
        })
    }

    /// For a client without a file: there is nothing to go back to.
    pub fn without_file(config: &ClientConfig) -> Arc<Self> {
        Self::new(config, History::in_memory(), LoadOptions::default())
    }

    /// Turns a part on or off.
    pub fn set_part(&self, part: RecoveryPart, is_on: bool) {
        self.parts.set(part, is_on);
        let word = if is_on { "on" } else { "off" };
        tracing::info!("recovery: {} is turned {word}", part.name());
        self.wake.notify_one();
    }

    /// A program begins with what its file says. Returns what would be gone back to.
    fn start(&self, given: Given) -> (Arc<Applied>, Option<Arc<Applied>>) {
        let working = self.history.last_working();
        let hash = history::hash(&given.texts);
        let is_known = |version: &Version| version.hash == hash && version.strict == given.strict;
        let versions = self.history.versions();
        // The same file again is no new version, and neither is one that has failed before.
        let known = versions.iter().rev().find(|version| {
            is_known(version) && (Some(*version) == working.as_ref() || version.why == Why::Start)
        });
        let is_confirmed = known.is_some() && known == working.as_ref();
        let known = known.map(|version| version.number);
        let number = match known {
            _ if !self.parts.is_on(RecoveryPart::History) || given.texts.is_empty() => 0,
            Some(number) => {
                if !is_confirmed {
                    self.history.change(number, |version| {
                        version.applied_at = seconds_now();
                        version.taken_back = None;
                    });
                }
                number
            }
            None => self.keep(&given, false, None),
        };
        let applied = Arc::new(Applied {
            number,
            config: given.config,
            texts: given.texts,
        });
        let may_fall_back = !is_confirmed && self.settings.rollback_at_start;
        let fallback = match (may_fall_back, working) {
            (true, Some(working)) => self.load(working.number).map(Arc::new),
            _ => None,
        };
        let mut state = self.state.lock();
        state.running = Some(applied.clone());
        state.is_confirmed = is_confirmed;
        state.applied_at = Some(Instant::now());
        state.fallback.clone_from(&fallback);
        (applied, fallback)
    }

    /// Applies what was read, from here on. What is equal is left alone.
    pub async fn reload(&self, client: &Client, given: Given) {
        let running = self.state.lock().running.clone();
        let rest = rest(&given.config);
        let restart_needed = rest != self.rest_of(client);
        let is_same = running.as_ref().is_some_and(|running| {
            running.texts == given.texts && services(&given.config) == *client.services()
        });
        if given.config.recovery.off != self.settings.off {
            RecoveryPart::ALL.into_iter().for_each(|part| {
                self.parts
                    .set(part, !given.config.recovery.off.contains(&part));
            });
        }
        if is_same {
            let is_confirmed = {
                let mut state = self.state.lock();
                state.restart_needed = restart_needed;
                state.is_confirmed
            };
            if is_confirmed {
                self.resolve(CONFIG_KEY, "over: the file is what runs, and that works");
            }
            return;
        }
        let wanted = services(&given.config);
        let (required, probed) = self.requirements(client, &wanted.proxies).await;
        let number = match self.parts.is_on(RecoveryPart::History) && !given.texts.is_empty() {
            true => self.keep(&given, restart_needed, None),
            false => 0,
        };
        // What runs in this client is the services of one version beside the rest of another.
        let config = ClientConfig {
            proxies: wanted.proxies.clone(),
            visitors: wanted.visitors.clone(),
            ..self.rest_of(client)
        };
        let applied = Arc::new(Applied {
            number,
            config,
            texts: given.texts,
        });
        self.put_on_trial(client, applied, required, probed, restart_needed);
        client.update(wanted).await;
        self.wake.notify_one();
    }

    /// Goes back to version `number` because somebody wants to. What runs is what was asked for, so
    /// it is not on trial.
    pub async fn roll_back_to(&self, client: &Client, number: u64) -> Result<String, String> {
        let applied = self
            .load(number)
            .ok_or_else(|| format!("there is no version {number} that can be read"))?;
        let known = self.history.version(number);
        let given = Given {
            config: applied.config.clone(),
            texts: applied.texts.clone(),
            strict: known.as_ref().is_none_or(|version| version.strict),
            why: Why::Rollback,
        };
        let new = self.keep(&given, false, Some(number));
        let is_confirmed = known.is_some_and(|version| version.confirmed_at.is_some());
        if is_confirmed {
            self.confirm_in_history(new, client);
        }
        let applied = Arc::new(Applied {
            number: new,
            ..applied
        });
        let is_whole = rest(&applied.config) != self.rest_of(client);
        {
            let mut state = self.state.lock();
            state.trial = None;
            state.fallback = None;
            state.is_confirmed = is_confirmed;
            state.applied_at = Some(Instant::now());
            state.restart_needed = false;
            state.note = format!("version {number} was gone back to by hand");
            match is_whole {
                true => state.next = Some(applied.clone()),
                false => state.running = Some(applied.clone()),
            }
        }
        count_rollback("hand");
        tracing::warn!("configuration: gone back to version {number}, as version {new}, by hand");
        if !is_whole {
            client.update(services(&applied.config)).await;
        }
        self.wake.notify_one();
        let how = match is_whole {
            true => "; the client begins anew, since more than its proxies and visitors differs",
            false => "",
        };
        Ok(format!(
            "gone back to version {number}, as version {new}{how}"
        ))
    }

    /// Takes the running version back. Returns what a client has to begin anew with, if more than
    /// services differs; `None` when nothing is left to do.
    async fn take_back(
        &self,
        client: &Client,
        reason: &str,
        cause: &'static str,
    ) -> Option<Arc<Applied>> {
        let (running, fallback) = {
            let mut state = self.state.lock();
            state.trial = None;
            (state.running.clone(), state.fallback.take())
        };
        let (Some(running), Some(fallback)) = (running, fallback) else {
            return None;
        };
        let (from, to) = (running.number, fallback.number);
        let text = format!("configuration version {from} is taken back for version {to}: {reason}");
        tracing::error!(
            "{text}; the file is left as it is, and `frpc config diff {to} {from}` shows what differs"
        );
        count_rollback(cause);
        self.history
            .change(from, |version| version.taken_back = Some(reason.to_owned()));
        self.raise(CONFIG_KEY, AlertLevel::Warning, &text);
        let is_whole = rest(&fallback.config) != rest(&running.config);
        {
            let mut state = self.state.lock();
            state.note = text;
            state.is_confirmed = true;
            state.applied_at = Some(Instant::now());
            state.restart_needed = false;
            state.running = Some(fallback.clone());
        }
        if is_whole {
            return Some(fallback);
        }
        client.update(services(&fallback.config)).await;
        None
    }

    /// The running version has shown that it works.
    async fn confirm(&self, client: &Client) {
        let number = {
            let mut state = self.state.lock();
            state.trial = None;
            state.is_confirmed = true;
            state.note.clear();
            state.running.as_ref().map_or(0, |running| running.number)
        };
        if number != 0 {
            self.confirm_in_history(number, client);
            // What is said is so for the next process as well, unless the disk hangs.
            let _ = tokio::time::timeout(WRITE_TIMEOUT, self.history.written()).await;
            tracing::info!("configuration version {number} works, and is confirmed");
        }
        self.resolve(CONFIG_KEY, "over: the configuration that runs works");
    }

    fn confirm_in_history(&self, number: u64, client: &Client) {
        let running = running_proxies(client);
        self.history.change(number, |version| {
            version.confirmed_at = Some(seconds_now());
            version.taken_back = None;
            version.running = running.into_iter().collect();
        });
    }

    fn put_on_trial(
        &self,
        client: &Client,
        applied: Arc<Applied>,
        required: BTreeSet<String>,
        probed: BTreeSet<String>,
        restart_needed: bool,
    ) {
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.is_confirmed {
            state.fallback = state.running.take();
        }
        state.running = Some(applied);
        state.is_confirmed = false;
        state.applied_at = Some(now);
        state.restart_needed = restart_needed;
        state.note.clear();
        let patience = self.patience();
        state.trial = patience.map(|patience| OnTrial {
            trial: Trial::reload(now, patience, required, client.session().is_some()),
            n_sessions: client.health().n_sessions(),
            probed,
            stage: Stage::Reload,
        });
    }

    /// How long a version is on trial, if it is.
    fn patience(&self) -> Option<Duration> {
        let is_on = self.parts.is_on(RecoveryPart::Confirm);
        self.settings.confirm.filter(|_| is_on)
    }

    /// The proxies that run and are still wanted, and those of them whose local service answers now
    /// and will be somewhere else.
    async fn requirements(
        &self,
        client: &Client,
        wanted: &[ProxyConfig],
    ) -> (BTreeSet<String>, BTreeSet<String>) {
        let mut required = running_proxies(client);
        if let Some(on_trial) = &self.state.lock().trial {
            required.extend(on_trial.trial.required().iter().cloned());
        }
        required.retain(|name| wanted.iter().any(|proxy| proxy.name == *name));
        let before = client.services();
        let moved = wanted.iter().filter_map(|new| {
            let old = before.proxies.iter().find(|old| old.name == new.name)?;
            let is_moved = (&old.local_ip, old.local_port) != (&new.local_ip, new.local_port);
            (is_moved && required.contains(&new.name) && sights::is_dialled(new)).then_some(old)
        });
        let mut answers = tokio::task::JoinSet::new();
        for proxy in moved.take(MAX_PROBES).cloned() {
            answers.spawn(async move {
                let answer = sights::probe(&proxy, PROBE_TIMEOUT).await;
                answer.is_ok().then_some(proxy.name)
            });
        }
        let probed = answers.join_all().await.into_iter().flatten().collect();
        (required, probed)
    }

    /// Keeps a version, and returns its number.
    fn keep(&self, given: &Given, only_services: bool, of: Option<u64>) -> u64 {
        let version = Version {
            number: 0,
            applied_at: seconds_now(),
            why: given.why,
            of,
            confirmed_at: None,
            taken_back: None,
            only_services,
            strict: given.strict,
            running: Vec::new(),
            bytes: 0,
            hash: 0,
        };
        self.history.add(version, given.texts.clone())
    }

    /// Reads a version, as a file is read.
    fn load(&self, number: u64) -> Option<Applied> {
        let kept = self.history.get(number)?;
        let options = kept.version.options(&self.options);
        match load_client_from_texts(&kept.texts, &options) {
            Ok(loaded) => Some(Applied {
                number,
                config: loaded.config,
                texts: kept.texts,
            }),
            Err(errors) => {
                tracing::warn!("configuration version {number} cannot be used any more: {errors}");
                None
            }
        }
    }

    /// Tells those who want to know, if anybody is to be told.
    fn raise(&self, key: &str, level: AlertLevel, text: &str) {
        if self.parts.is_on(RecoveryPart::Alerts) {
            self.alerts.raise(key, level, text);
        }
    }

    fn resolve(&self, key: &str, text: &str) {
        // Who was told of it is told that it is over, whatever was turned off since.
        self.alerts.resolve(key, text);
    }

    /// Logs, counts and keeps a step.
    fn note_step(&self, step: RecoveryPart, key: &str, text: &str) {
        metrics::counter!("holdfast_recovery_steps_total", "step" => step.name()).increment(1);
        tracing::warn!("recovery: {} because of {key}: {text}", step.name());
        let mut state = self.state.lock();
        if state.steps.len() == MAX_STEPS {
            state.steps.pop_front();
        }
        state.steps.push_back(StepStatus {
            at: unix_now(),
            step: step.name().to_owned(),
            trouble: key.to_owned(),
            text: text.to_owned(),
        });
    }
}

fn count_rollback(cause: &'static str) {
    metrics::counter!("holdfast_config_rollbacks_total", "cause" => cause).increment(1);
}

/// The names of the proxies that frps hands over users of.
fn running_proxies(client: &Client) -> BTreeSet<String> {
    use crate::proxy::state::Phase;
    let names = client.look_at_proxies(|proxies| {
        let running = proxies
            .iter()
            .filter(|(_, state)| state.phase() == Phase::Running);
        running.map(|(config, _)| config.name.clone()).collect()
    });
    names.unwrap_or_default()
}

/// What a reload can change.
fn services(config: &ClientConfig) -> Services {
    Services {
        proxies: config.proxies.clone(),
        visitors: config.visitors.clone(),
    }
}

/// What it cannot.
fn rest(config: &ClientConfig) -> ClientConfig {
    ClientConfig {
        proxies: Vec::new(),
        visitors: Vec::new(),
        ..config.clone()
    }
}

/// Seconds since 1970, as the history has them.
fn seconds_now() -> u64 {
    u64::try_from(unix_now()).unwrap_or_default()
}
