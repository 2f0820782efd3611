//! What the files say of recovery and of alerts: all keys are ours.
//!
//! Unlike frp's keys, a 0 here is a number like others: a key that is not there is `None`.

use std::collections::BTreeMap;

use super::shape::raw;

raw! {
    /// `recovery` of frpc.
    RawRecovery is "recovery" {
        "confirmSeconds" confirm_seconds: Option<i64>,
        "rollbackAtStart" rollback_at_start: Option<bool>,
        "watchSeconds" watch_seconds: Option<i64>,
        "actionsPerHour" actions_per_hour: Option<i64>,
        "off" off: Vec<String>,
    }
}

raw! {
    /// An entry of `alerts`.
    RawAlert is "alerts" {
        "type" kind: String,
        "level" level: String,
        "url" url: String,
        "headers" headers: BTreeMap<String, String>,
        "command" command: String,
        "args" args: Vec<String>,
        "timeoutSeconds" timeout_seconds: Option<i64>,
        "repeatSeconds" repeat_seconds: Option<i64>,
    }
}
