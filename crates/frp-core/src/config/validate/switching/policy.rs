//! When to change the carrier: `policy::Config`, key by key.

use std::ops::RangeInclusive;

use frp_proto::policy::{Config, Transport};

use super::super::super::raw_switching::RawClientAuto;
use super::keys::{Keys, compare, read};

/// Between these, in seconds: a login takes several round trips, and what has not come after two
/// minutes does not come.
pub(super) const DIAL_TIMEOUT: RangeInclusive<u64> = 1..=120;

/// The longest time that anything here is waited for, a day in seconds.
const DAY: u64 = 86_400;

/// What is no number (the preference, the dry run) and what other keys say (`grace`, `quiet_after`)
/// is taken from `base`, which has the defaults otherwise.
pub(super) fn policy(keys: &mut Keys<'_, '_>, raw: &RawClientAuto, base: Config) -> Config {
    let mut config = base;
    start(keys, raw, &mut config);
    outage(keys, raw, &mut config);
    doubt(keys, raw, &mut config);
    quality(keys, raw, &mut config);
    stay(keys, raw, &mut config);
    config
}

/// The order of preference: those that are named, then the others as usual.
pub(super) fn preference(named: Vec<Transport>) -> Vec<Transport> {
    let mut order = named;
    let others = Transport::ALL.into_iter();
    let others: Vec<_> = others.filter(|kind| !order.contains(kind)).collect();
    order.extend(others);
    order
}

fn start(keys: &mut Keys<'_, '_>, raw: &RawClientAuto, config: &mut Config) {
    let waits = "the start waits for it where what goes first cannot get through";
    let looks = "the others are not opened for longer only to be looked at";
    let dials = "a login takes several round trips, and what has not come after two minutes does \
                 not";
    let costs = "an attempt costs some kilobytes, and no transport is given up";
    let stale = "what a transport was like a week ago says nothing";
    read! { keys, raw;
        ms config.kcp_after, "kcpAfterMs" kcp_after_ms, 0..=10_000, waits;
        ms config.tcp_after, "tcpAfterMs" tcp_after_ms, 0..=10_000, waits;
        ms config.ipv4_after, "ipv4AfterMs" ipv4_after_ms, 0..=10_000, waits;
        ms config.fallback_after, "fallbackAfterMs" fallback_after_ms, 0..=60_000, waits;
        ms config.start_measure, "startMeasureMs" start_measure_ms, 0..=60_000, looks;
        seconds config.dial_timeout, "dialTimeoutSeconds" dial_timeout_seconds, DIAL_TIMEOUT, dials;
        seconds config.retry_after, "retryAfterSeconds" retry_after_seconds, 1..=DAY, costs;
        seconds config.retry_max, "retryMaxSeconds" retry_max_seconds, 1..=DAY, costs;
        seconds config.retry_max_quiet, "retryMaxQuietSeconds" retry_max_quiet_seconds, 1..=DAY,
            costs;
        seconds config.health_life, "healthLifeSeconds" health_life_seconds, 0..=7 * DAY, stale;
    }
    compare! { keys, raw;
        at_least config.retry_max, "retryMaxSeconds" retry_max_seconds,
            config.retry_after, "retryAfterSeconds";
        at_least config.retry_max_quiet, "retryMaxQuietSeconds" retry_max_quiet_seconds,
            config.retry_max, "retryMaxSeconds";
    }
}

fn outage(keys: &mut Keys<'_, '_>, raw: &RawClientAuto, config: &mut Config) {
    let loads = "every attempt is a connection that the server has to look at";
    let spread = "in percent of reconnectIntervalMs";
    let tries = "a login takes several round trips, and fresh packets find a link that is back";
    let users = "users wait meanwhile";
    let rarer = "attempts become rarer, and not all at once";
    let found = "every attempt is a connection that the server has to look at, and a server that \
                 is back is to be found within a day";
    let eager = "nobody watches a start for longer than an hour";
    let [old_least, old_most] = &mut config.old_first;
    read! { keys, raw;
        ms config.reconnect_every, "reconnectIntervalMs" reconnect_interval_ms, 200..=60_000, loads;
        percent config.reconnect_spread, "reconnectSpread" reconnect_spread, 0.0..=50.0, spread;
        ms config.attempt_timeout, "attemptTimeoutMs" attempt_timeout_ms, 200..=60_000, tries;
        count config.attempts_max, "attemptsMax" attempts_max, 1_u16..=16, loads;
        ms *old_least, "oldFirstMinMs" old_first_min_ms, 0..=5000, users;
        ms *old_most, "oldFirstMaxMs" old_first_max_ms, 0..=5000, users;
        ms config.old_first_restless, "oldFirstRestlessMs" old_first_restless_ms, 0..=10_000, users;
        number config.backoff, "backoffFactor" backoff_factor, 1.0..=10.0, rarer;
        seconds config.backoff_max, "backoffMaxSeconds" backoff_max_seconds, 1..=DAY, found;
        seconds config.backoff_max_silent, "backoffMaxSilentSeconds" backoff_max_silent_seconds,
            1..=DAY, found;
        seconds config.eager_start, "eagerStartSeconds" eager_start_seconds, 0..=3600, eager;
    }
    compare! { keys, raw;
        at_least *old_most, "oldFirstMaxMs" old_first_max_ms, *old_least, "oldFirstMinMs";
        at_least config.old_first_restless, "oldFirstRestlessMs" old_first_restless_ms,
            *old_most, "oldFirstMaxMs";
        at_least config.backoff_max, "backoffMaxSeconds" backoff_max_seconds,
            config.reconnect_every, "reconnectIntervalMs";
        at_least config.backoff_max_silent, "backoffMaxSilentSeconds" backoff_max_silent_seconds,
            config.backoff_max, "backoffMaxSeconds";
    }
}

fn doubt(keys: &mut Keys<'_, '_>, raw: &RawClientAuto, config: &mut Config) {
    let burst = "fewer are lost by chance on a bad link, and more take longer than a user waits; \
                 an echo tells of 64 probes";
    let alive = "one answer at least shows that the standby lives";
    read! { keys, raw;
        count config.burst_len, "burstLen" burst_len, 3_u32..=32, burst;
        count config.confirm_len, "confirmLen" confirm_len, 1_u32..=32, burst;
        count config.alive_answers, "aliveAnswers" alive_answers, 1_u32..=32, alive;
    }
    compare! { keys, raw;
        at_most config.confirm_len, "confirmLen" confirm_len, config.burst_len, "burstLen";
        at_most config.alive_answers, "aliveAnswers" alive_answers, config.burst_len, "burstLen";
    }
}

fn quality(keys: &mut Keys<'_, '_>, raw: &RawClientAuto, config: &mut Config) {
    let loss = "a percentage: every link loses 1 % at times, and what loses 90 % is dead";
    let window = "shorter windows see single bursts of loss, and longer ones see too late";
    let samples = "fewer than 10 show nothing, and more than 1000 take too long to come";
    let better = "a percentage: equal carriers differ by chance, and hardly one is twice as good";
    let wins = "each is a window long";
    let stall = "users do not see less than 0.1 s, and do not wait longer than a minute";
    let pause = "carriers are not compared all the time, since it costs 2 kB a second";
    let bytes = "less shows no rate, and more is taken from the users' data";
    read! { keys, raw;
        percent config.loss_threshold, "lossThreshold" loss_threshold, 1.0..=90.0, loss;
        percent config.tcp_loss, "tcpLossThreshold" tcp_loss_threshold, 0.1..=90.0, loss;
        ms config.window, "windowMs" window_ms, 1000..=60_000, window;
        count config.window_samples, "windowSamples" window_samples, 10_u64..=1000, samples;
        percent config.better_by, "betterBy" better_by, 1.0..=90.0, better;
        count config.wins, "wins" wins, 1_u32..=10, wins;
        ms config.stall_max, "stallMaxMs" stall_max_ms, 100..=60_000, stall;
        seconds config.question_pause, "questionPauseSeconds" question_pause_seconds, 1..=3600,
            pause;
        seconds config.question_pause_max, "questionPauseMaxSeconds" question_pause_max_seconds,
            1..=3600, pause;
        count config.measure_bytes, "measureBytes" measure_bytes, MEASURE_BYTES, bytes;
    }
    compare! { keys, raw;
        at_least config.question_pause_max, "questionPauseMaxSeconds" question_pause_max_seconds,
            config.question_pause, "questionPauseSeconds";
    }
}

/// A burst of padding: from a few packets to what a link of 100 Mbit/s carries in a third of a
/// second.
const MEASURE_BYTES: RangeInclusive<u64> = 16 * 1024..=4 * 1024 * 1024;

fn stay(keys: &mut Keys<'_, '_>, raw: &RawClientAuto, config: &mut Config) {
    let stays = "a day at most; to stay for good, set transport.protocol to one transport";
    let never = "never to switch, set transport.protocol to one transport";
    read! { keys, raw;
        seconds config.min_stay, "minStaySeconds" min_stay_seconds, 0..=DAY, stays;
        seconds config.return_after, "returnAfterSeconds" return_after_seconds, 1..=DAY, stays;
        seconds config.return_after_max, "returnAfterMaxSeconds" return_after_max_seconds, 1..=DAY,
            stays;
        seconds config.calm, "calmSeconds" calm_seconds, 1..=DAY, "a day at most";
        seconds config.switch_period, "switchPeriodSeconds" switch_period_seconds, 1..=DAY,
            "a day at most";
        count config.switches_max, "switchesMax" switches_max, 1_u16..=1000, never;
    }
    compare! { keys, raw;
        at_least config.return_after_max, "returnAfterMaxSeconds" return_after_max_seconds,
            config.return_after, "returnAfterSeconds";
    }
}
