//! What the files say of held streams and of the choice among transports: all keys are ours.
//!
//! Unlike frp's keys, a 0 here is a number like others: a key that is not there is `None`.

use super::shape::raw;

raw! {
    /// `transport.hold`.
    RawHold is "transport.hold" {
        "enable" enable: Option<bool>,
        "graceSeconds" grace_seconds: Option<i64>,
    }
}

raw! {
    /// `transport.auto` of frps.
    RawServerAuto is "transport.auto" {
        "enable" enable: Option<bool>,
    }
}

raw! {
    /// An entry of `transport.auto.endpoints`.
    RawAutoEndpoint is "transport.auto.endpoints" {
        "transport" transport: String,
        "port" port: isize,
    }
}

raw! {
    /// `transport.auto` of frpc. The order is that of `docs/switching.md`.
    RawClientAuto is "transport.auto" {
        "fallback" fallback: Vec<String>,
        "endpoints" endpoints: Vec<RawAutoEndpoint>,
        "preference" preference: Vec<String>,
        "requirePeer" require_peer: Option<bool>,
        "dryRun" dry_run: Option<bool>,

        "probeIntervalMs" probe_interval_ms: Option<i64>,
        "idleAfterSeconds" idle_after_seconds: Option<i64>,
        "idleIntervalMs" idle_interval_ms: Option<i64>,
        "quietAfterSeconds" quiet_after_seconds: Option<i64>,
        "quietIntervalSeconds" quiet_interval_seconds: Option<i64>,
        "asleepAfterSeconds" asleep_after_seconds: Option<i64>,
        "asleepIntervalSeconds" asleep_interval_seconds: Option<i64>,
        "standbyIntervalSeconds" standby_interval_seconds: Option<i64>,
        "standbyQuietIntervalSeconds" standby_quiet_interval_seconds: Option<i64>,
        "questionedIntervalMs" questioned_interval_ms: Option<i64>,
        "lostAfterRtts" lost_after_rtts: Option<i64>,
        "lostAfterExtraMs" lost_after_extra_ms: Option<i64>,
        "lostAfterUnknownMs" lost_after_unknown_ms: Option<i64>,
        "suspectIntervals" suspect_intervals: Option<i64>,
        "suspectMinMs" suspect_min_ms: Option<i64>,
        "burstSpacingMs" burst_spacing_ms: Option<i64>,
        "burstSpread" burst_spread: Option<f64>,
        "secondAnswerAfterMs" second_answer_after_ms: Option<i64>,

        "burstLen" burst_len: Option<i64>,
        "confirmLen" confirm_len: Option<i64>,
        "aliveAnswers" alive_answers: Option<i64>,
        "reconnectIntervalMs" reconnect_interval_ms: Option<i64>,
        "reconnectSpread" reconnect_spread: Option<f64>,
        "attemptTimeoutMs" attempt_timeout_ms: Option<i64>,
        "attemptsMax" attempts_max: Option<i64>,
        "oldFirstMinMs" old_first_min_ms: Option<i64>,
        "oldFirstMaxMs" old_first_max_ms: Option<i64>,
        "oldFirstRestlessMs" old_first_restless_ms: Option<i64>,
        "backoffFactor" backoff_factor: Option<f64>,
        "backoffMaxSeconds" backoff_max_seconds: Option<i64>,
        "backoffMaxSilentSeconds" backoff_max_silent_seconds: Option<i64>,
        "eagerStartSeconds" eager_start_seconds: Option<i64>,

        "kcpAfterMs" kcp_after_ms: Option<i64>,
        "tcpAfterMs" tcp_after_ms: Option<i64>,
        "ipv4AfterMs" ipv4_after_ms: Option<i64>,
        "fallbackAfterMs" fallback_after_ms: Option<i64>,
        "startMeasureMs" start_measure_ms: Option<i64>,
        "dialTimeoutSeconds" dial_timeout_seconds: Option<i64>,
        "retryAfterSeconds" retry_after_seconds: Option<i64>,
        "retryMaxSeconds" retry_max_seconds: Option<i64>,
        "retryMaxQuietSeconds" retry_max_quiet_seconds: Option<i64>,
        "healthLifeSeconds" health_life_seconds: Option<i64>,

        "lossThreshold" loss_threshold: Option<f64>,
        "windowMs" window_ms: Option<i64>,
        "windowSamples" window_samples: Option<i64>,
        "betterBy" better_by: Option<f64>,
        "wins" wins: Option<i64>,
        "stallMaxMs" stall_max_ms: Option<i64>,
        "tcpLossThreshold" tcp_loss_threshold: Option<f64>,
        "questionPauseSeconds" question_pause_seconds: Option<i64>,
        "questionPauseMaxSeconds" question_pause_max_seconds: Option<i64>,
        "measureBytes" measure_bytes: Option<i64>,
        "minStaySeconds" min_stay_seconds: Option<i64>,
        "returnAfterSeconds" return_after_seconds: Option<i64>,
        "returnAfterMaxSeconds" return_after_max_seconds: Option<i64>,
        "calmSeconds" calm_seconds: Option<i64>,
        "switchesMax" switches_max: Option<i64>,
        "switchPeriodSeconds" switch_period_seconds: Option<i64>,
    }
}
