//! Checked configuration that both programs have: logs, web server, certificate files.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::Secret;

/// Where logs go, and which (`log`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Where to.
    pub to: LogTarget,
    /// What is left out.
    pub level: LogLevel,
    /// How long rotated files are kept. Negative keeps them all.
    pub max_days: i64,
    /// Whether a console gets plain text.
    pub disable_print_color: bool,
    /// How a line looks. Ours: frp has only text.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            to: LogTarget::Console,
            level: LogLevel::Info,
            max_days: 3,
            disable_print_color: false,
            format: LogFormat::Text,
        }
    }
}

/// Where logs go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output (`console`).
    Console,
    /// A file that is rotated every day.
    File(PathBuf),
}

/// What is logged: this level and all that are more urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// Turns off the main path.
    Debug,
    /// Logins, proxies.
    Info,
    /// What an operator should look at.
    Warn,
    /// What ends the program.
    Error,
}

impl LogLevel {
    /// frp's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LogLevel {
    type Err = UnknownLogLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLogLevel> {
        [
            Self::Trace,
            Self::Debug,
            Self::Info,
            Self::Warn,
            Self::Error,
        ]
        .into_iter()
        .find(|level| level.as_str() == text)
        .ok_or(UnknownLogLevel)
    }
}

/// The name is not one of the five levels. The text is frp's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid log level, optional values are [trace debug info warn error]")]
pub struct UnknownLogLevel;

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// frp's lines.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The admin API or the dashboard (`webServer`). Off while `port` is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebServerConfig {
    /// The address to listen on.
    pub addr: String,
    /// The port to listen on; 0 is off.
    pub port: u16,
    /// User name. With an empty password too, there is no authentication.
    pub user: String,
    /// Password.
    pub password: Secret,
    /// Whether `/debug/pprof/` answers. frps only.
    pub pprof_enable: bool,
}

impl Default for WebServerConfig {
    fn default() -> Self {
        Self {
            addr: "127.0.0.1".to_owned(),
            port: 0,
            user: String::new(),
            password: Secret::default(),
            pprof_enable: false,
        }
    }
}
