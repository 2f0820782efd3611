//! Checks of recovery and of alerts.

use std::ops::RangeInclusive;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use url::Url;

use super::super::raw_recovery::{RawAlert, RawRecovery};
use super::super::{AlertConfig, AlertLevel, AlertTarget, RecoveryConfig, RecoveryPart, Secret};
use super::Context;

/// The feature that commands for alerts are, for `--allow-unsafe`: who may change the file could
/// otherwise start programs.
const ALERT_COMMAND: &str = "AlertCommand";

/// Entries of `alerts`: each has a task and a queue.
const MAX_ALERTS: usize = 16;

/// What a message that has no time of its own may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long the same trouble is not told again.
const REPEAT: Duration = Duration::from_secs(3600);

impl Context<'_> {
    pub(super) fn recovery(&mut self, raw: &RawRecovery) -> RecoveryConfig {
        let defaults = RecoveryConfig::default();
        let confirm = self.or_off("recovery.confirmSeconds", raw.confirm_seconds, 1..=3600);
        let watch = self.or_off("recovery.watchSeconds", raw.watch_seconds, 1..=3600);
        let key = "recovery.actionsPerHour";
        let actions = self.in_range(key, raw.actions_per_hour, 0..=3600);
        let mut off = Vec::new();
        for (idx, name) in raw.off.iter().enumerate() {
            match RecoveryPart::from_name(name) {
                Some(part) => off.push(part),
                None => {
                    let names = RecoveryPart::names();
                    let message = format!("invalid recovery.off, optional values are [{names}]");
                    self.error(&format!("recovery.off[{idx}]"), message);
                }
            }
        }
        let or_default = |given: Option<Option<Duration>>, default| given.unwrap_or(default);
        RecoveryConfig {
            confirm: or_default(confirm, defaults.confirm),
            rollback_at_start: raw.rollback_at_start.unwrap_or(defaults.rollback_at_start),
            watch: or_default(watch, defaults.watch),
            actions_per_hour: actions
                .and_then(|number| usize::try_from(number).ok())
                .unwrap_or(defaults.actions_per_hour),
            off,
        }
    }

    pub(super) fn alerts(&mut self, raw: &[RawAlert]) -> Vec<AlertConfig> {
        if raw.len() > MAX_ALERTS {
            self.error("alerts", format!("alerts: at most {MAX_ALERTS} entries"));
        }
        let entries = raw.iter().enumerate();
        let checked = entries.filter_map(|(idx, raw)| self.alert(&format!("alerts[{idx}]"), raw));
        checked.collect()
    }

    fn alert(&mut self, path: &str, raw: &RawAlert) -> Option<AlertConfig> {
        let level = match raw.level.as_str() {
            "" => AlertLevel::Warning,
            name => AlertLevel::from_name(name).unwrap_or_else(|| {
                let names = "[info warning critical]";
                let message = format!("invalid alerts.level, optional values are {names}");
                self.error(&format!("{path}.level"), message);
                AlertLevel::Warning
            }),
        };
        let timeout_key = format!("{path}.timeoutSeconds");
        let timeout = self.in_range(&timeout_key, raw.timeout_seconds, 1..=120);
        let repeat_key = format!("{path}.repeatSeconds");
        let repeat = self.in_range(&repeat_key, raw.repeat_seconds, 1..=86_400 * 30);
        let seconds = |given: Option<u64>, default| given.map_or(default, Duration::from_secs);
        let target = match raw.kind.as_str() {
            "webhook" => self.webhook(path, raw)?,
            "command" => self.command(path, raw)?,
            _ => {
                let message = "invalid alerts.type, optional values are [webhook command]";
                self.error(&format!("{path}.type"), message);
                return None;
            }
        };
        Some(AlertConfig {
            target,
            level,
            timeout: seconds(timeout, TIMEOUT),
            repeat: seconds(repeat, REPEAT),
        })
    }

    fn webhook(&mut self, path: &str, raw: &RawAlert) -> Option<AlertTarget> {
        for (key, is_given) in [
            ("command", !raw.command.is_empty()),
            ("args", !raw.args.is_empty()),
        ] {
            if is_given {
                let message = format!("alerts.{key} is for type = \"command\"");
                self.error(&format!("{path}.{key}"), message);
            }
        }
        let mut headers = std::collections::BTreeMap::new();
        for (name, value) in &raw.headers {
            // What is wrong is not repeated: it may be a secret.
            if HeaderName::try_from(name).is_err() || HeaderValue::try_from(value).is_err() {
                let message = format!("alerts.headers: {name:?} is no header, or its value none");
                self.error(&format!("{path}.headers"), message);
            } else {
                headers.insert(name.clone(), Secret::new(value.as_str()));
            }
        }
        match Url::parse(&raw.url) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
                Some(AlertTarget::Webhook { url, headers })
            }
            _ => {
                let message = "alerts.url must be an http or https URL";
                self.error(&format!("{path}.url"), message);
                None
            }
        }
    }

    fn command(&mut self, path: &str, raw: &RawAlert) -> Option<AlertTarget> {
        if !raw.url.is_empty() {
            let message = "alerts.url is for type = \"webhook\"";
            self.error(&format!("{path}.url"), message);
        }
        if raw.command.is_empty() {
            let message = "alerts.command: the program to start is missing";
            self.error(&format!("{path}.command"), message);
            return None;
        }
        let allowed = &self.options.allow_unsafe;
        if !allowed.iter().any(|feature| feature == ALERT_COMMAND) {
            let message = format!(
                "unsafe feature {ALERT_COMMAND:?} is not enabled. To enable it, ensure it is \
                 allowed in the configuration or command line flags"
            );
            self.error(&format!("{path}.command"), message);
        }
        Some(AlertTarget::Command {
            program: raw.command.clone(),
            args: raw.args.clone(),
        })
    }

    /// Seconds, of which 0 means never.
    fn or_off(
        &mut self,
        key: &str,
        given: Option<i64>,
        range: RangeInclusive<u64>,
    ) -> Option<Option<Duration>> {
        if given == Some(0) {
            return Some(None);
        }
        let seconds = self.in_range(key, given, range)?;
        Some(Some(Duration::from_secs(seconds)))
    }

    fn in_range(
        &mut self,
        key: &str,
        given: Option<i64>,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let given = given?;
        let number = u64::try_from(given).ok();
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let (start, end) = (range.start(), range.end());
            let message = format!("{key}: {given} must be in the range {start}..{end}");
            self.error(key, message);
        }
        number
    }
}
