//! Checked configuration of how frpc gets itself out of trouble, and of whom it tells. All ours.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use url::Url;

use super::Secret;

/// How frpc recovers (`recovery`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryConfig {
    /// How long a new configuration has to show that it works. `None`: nothing is taken back.
    pub confirm: Option<Duration>,
    /// Whether a start with a changed file that cannot log in goes back to the last version that
    /// could.
    pub rollback_at_start: bool,
    /// How often frpc looks at itself. `None` is never.
    pub watch: Option<Duration>,
    /// The most that it does about what it sees, in any hour.
    pub actions_per_hour: usize,
    /// The parts that are off from the start.
    pub off: Vec<RecoveryPart>,
}

impl Default for RecoveryConfig {
    fn default() -> Self {
        Self {
            confirm: Some(Duration::from_secs(30)),
            rollback_at_start: true,
            watch: Some(Duration::from_secs(30)),
            actions_per_hour: 12,
            off: Vec::new(),
        }
    }
}

/// A part of recovery that can be turned off by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecoveryPart {
    /// Versions of the configuration are kept.
    History,
    /// A new configuration has to show that it works, or is taken back.
    Confirm,
    /// frpc looks at itself. Without it none of the steps below is taken.
    Watch,
    /// A step: try again what failed.
    Reprobe,
    /// A step: go over to another transport.
    Switch,
    /// A step: end the session and log in again.
    Login,
    /// A step: begin anew with everything, as a new process would.
    Restart,
    /// A step: go back to the last configuration that worked.
    Rollback,
    /// Somebody is told.
    Alerts,
}

impl RecoveryPart {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 9] = [
        Self::History,
        Self::Confirm,
        Self::Watch,
        Self::Reprobe,
        Self::Switch,
        Self::Login,
        Self::Restart,
        Self::Rollback,
        Self::Alerts,
    ];

    /// As in files, commands and labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::History => "history",
            Self::Confirm => "confirm",
            Self::Watch => "watch",
            Self::Reprobe => "reprobe",
            Self::Switch => "switch",
            Self::Login => "login",
            Self::Restart => "restart",
            Self::Rollback => "rollback",
            Self::Alerts => "alerts",
        }
    }

    /// The part with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }

    /// The names, for errors.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(" ")
    }
}

/// Somebody who is told of trouble (an entry of `alerts`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertConfig {
    /// How.
    pub target: AlertTarget,
    /// From which level on.
    pub level: AlertLevel,
    /// How long one message may take.
    pub timeout: Duration,
    /// How long the same trouble is not told again.
    pub repeat: Duration,
}

/// How somebody is told.
#[derive(Clone, PartialEq, Eq)]
pub enum AlertTarget {
    /// By an HTTP request.
    Webhook {
        /// `http` or `https`. May hold a secret.
        url: Url,
        /// Further headers, checked to be such.
        headers: BTreeMap<String, Secret>,
    },
    /// By a program that is started.
    Command {
        /// The program.
        program: String,
        /// Its arguments.
        args: Vec<String>,
    },
}

impl fmt::Debug for AlertTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The path of a webhook is its password, more often than not.
            Self::Webhook { url, .. } => write!(f, "webhook at {}", url.host_str().unwrap_or("?")),
            Self::Command { program, .. } => write!(f, "command {program}"),
        }
    }
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlertLevel {
    /// Worth knowing.
    Info,
    /// Somebody should look.
    Warning,
    /// Users are cut off, or about to be.
    Critical,
}

impl AlertLevel {
    /// As in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The level with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Info, Self::Warning, Self::Critical];
        all.into_iter().find(|level| level.name() == name)
    }
}
