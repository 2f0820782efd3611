//! Where recovery stands: `/api/recovery`, and what `frpc recovery` prints.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use frp_core::config::RecoveryPart;
use serde::{Deserialize, Serialize};

use super::Recovery;
use super::history::Version;
use crate::alerts::{ActiveStatus, SinkStatus};

/// Where recovery stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecoveryStatus {
    /// The version of the configuration that runs; 0 when none is kept.
    pub version: u64,
    /// `confirmed`, `on trial`, or `unconfirmed` where nothing judges it.
    pub version_state: String,
    /// How long it is on trial yet, in seconds.
    pub trial_seconds: u64,
    /// The version that would be gone back to.
    pub fallback: Option<u64>,
    /// The file has settings that only a restart applies.
    pub restart_needed: bool,
    /// What became of the last version, in a sentence.
    pub note: String,
    /// Which parts are on.
    pub parts: BTreeMap<String, bool>,
    /// What is wrong at the moment.
    pub troubles: Vec<TroubleStatus>,
    /// What was done, the newest last.
    pub steps: Vec<StepStatus>,
    /// The versions that are kept.
    pub history: HistoryStatus,
    /// Who is told, and what became of that.
    pub alerts: Vec<SinkStatus>,
    /// What they were told of and is not over.
    pub active: Vec<ActiveStatus>,
}

/// Something that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TroubleStatus {
    /// What kind.
    pub trouble: String,
    /// Which proxy, or empty.
    pub subject: String,
    /// In a sentence.
    pub text: String,
    /// Looks in a row at which it was seen.
    pub seen: u32,
}

/// Something that was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepStatus {
    /// In seconds since 1970.
    pub at: i64,
    /// Which step.
    pub step: String,
    /// What for.
    pub trouble: String,
    /// What was wrong.
    pub text: String,
}

/// How the history does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryStatus {
    /// How many versions there are.
    pub versions: usize,
    /// What could not be read or written so far.
    pub failures: u64,
    /// What is wrong at the moment, or empty.
    pub error: String,
}

impl Recovery {
    /// Where recovery stands.
    pub fn status(&self) -> RecoveryStatus {
        let (failures, error) = self.history.failures();
        let history = HistoryStatus {
            versions: self.history.versions().len(),
            failures,
            error: error.unwrap_or_default(),
        };
        let parts = RecoveryPart::ALL.map(|part| (part.name().to_owned(), self.parts.is_on(part)));
        let state = self.state.lock();
        let version_state = match (&state.trial, state.is_confirmed) {
            (Some(_), _) => "on trial",
            (None, true) => "confirmed",
            (None, false) => "unconfirmed",
        };
        let troubles = state.cases.iter().map(|case| TroubleStatus {
            trouble: case.trouble.name().to_owned(),
            subject: case.subject.clone(),
            text: case.text.clone(),
            seen: case.n_seen,
        });
        RecoveryStatus {
            version: state.running.as_ref().map_or(0, |running| running.number),
            version_state: version_state.to_owned(),
            trial_seconds: state
                .trial
                .as_ref()
                .map_or(0, |on_trial| on_trial.trial.left().as_secs()),
            fallback: state.fallback.as_ref().map(|fallback| fallback.number),
            restart_needed: state.restart_needed,
            note: state.note.clone(),
            parts: parts.into(),
            troubles: troubles.collect(),
            steps: state.steps.iter().cloned().collect(),
            history,
            alerts: self.alerts.sinks(),
            active: self.alerts.active(),
        }
    }
}

/// What `frpc recovery` prints.
pub fn render(status: &RecoveryStatus) -> String {
    let mut text = format!(
        "configuration  version {} ({})",
        status.version, status.version_state
    );
    // Writing to a String cannot fail.
    if status.trial_seconds > 0 {
        let _ = write!(text, ", {} s left", status.trial_seconds);
    }
    if let Some(fallback) = status.fallback {
        let _ = write!(text, ", version {fallback} is kept to go back to");
    }
    text.push('\n');
    if status.restart_needed {
        text.push_str("               the file has settings that only a restart applies\n");
    }
    if !status.note.is_empty() {
        let _ = writeln!(text, "               {}", printable(&status.note));
    }
    let history = &status.history;
    let _ = write!(text, "history        {} versions", history.versions);
    if history.failures > 0 {
        let _ = write!(text, ", {} failures", history.failures);
    }
    match history.error.as_str() {
        "" => text.push('\n'),
        error => drop(writeln!(text, ": {}", printable(error))),
    }
    let off = status.parts.iter().filter(|(_, is_on)| !**is_on);
    let off: Vec<&str> = off.map(|(name, _)| name.as_str()).collect();
    let off = if off.is_empty() {
        "nothing".to_owned()
    } else {
        off.join(" ")
    };
    let _ = writeln!(text, "turned off     {off}");
    if status.troubles.is_empty() {
        text.push_str("trouble        none\n");
    }
    for trouble in &status.troubles {
        let _ = writeln!(text, "trouble        {}", printable(&trouble.text));
    }
    for step in status.steps.iter().rev().take(SHOWN_STEPS) {
        let at = time_text(u64::try_from(step.at).unwrap_or_default());
        let _ = writeln!(
            text,
            "did            {at}  {} ({})",
            step.step,
            printable(&step.text)
        );
    }
    for sink in &status.alerts {
        let _ = write!(
            text,
            "alerts         {} {} ({}): {} sent, {} failed, {} dropped, {} waiting",
            sink.kind,
            printable(&sink.target),
            sink.level,
            sink.sent,
            sink.failed,
            sink.dropped,
            sink.waiting
        );
        match sink.error.as_str() {
            "" => text.push('\n'),
            error => drop(writeln!(text, "; {}", printable(error))),
        }
    }
    text
}

/// Steps that are printed, the newest first.
const SHOWN_STEPS: usize = 5;

/// What `frpc config history` prints, the oldest first.
pub fn render_history(versions: &[Version], running: Option<u64>) -> String {
    let mut text = String::new();
    for version in versions {
        let mark = if running == Some(version.number) {
            "*"
        } else {
            " "
        };
        let of = version.of.map(|of| format!(" to {of}")).unwrap_or_default();
        let state = match (&version.taken_back, version.confirmed_at) {
            (Some(reason), _) => format!("taken back: {}", printable(reason)),
            (None, Some(_)) if version.only_services => "proxies and visitors confirmed".to_owned(),
            (None, Some(_)) => "confirmed".to_owned(),
            (None, None) => "unconfirmed".to_owned(),
        };
        let _ = writeln!(
            text,
            "{mark} {:>4}  {}  {:<14}  {state}",
            version.number,
            time_text(version.applied_at),
            format!("{}{of}", version.why.text()),
        );
    }
    text
}

fn time_text(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok();
    let at = at.and_then(|at| chrono::DateTime::from_timestamp(at, 0));
    let at = at.map(|at| at.with_timezone(&chrono::Local).format("%F %T").to_string());
    at.unwrap_or_default()
}

/// What a server said must not drive the terminal.
fn printable(text: &str) -> String {
    let shown = text.chars();
    shown
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
