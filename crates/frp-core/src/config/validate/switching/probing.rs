//! How often to probe, and what the echoes mean: `ProberConfig`, key by key.

use std::time::Duration;

use frp_proto::path::{CadenceConfig, ProberConfig};

use super::super::super::raw_switching::RawClientAuto;
use super::keys::{Keys, compare, read};

/// The shortest time between two probes that any setting leads to: 50 a second are a measurement,
/// more are a load.
const MIN_INTERVAL_MS: u64 = 20;

/// In seconds: NATs keep a UDP mapping for 30 s at least, and QUIC gives up after as much silence.
const MAX_QUIET_INTERVAL: u64 = 25;

/// The longest time without traffic or users, a day.
const MAX_AFTER: u64 = 86_400;

pub(super) fn prober(keys: &mut Keys<'_, '_>, raw: &RawClientAuto) -> ProberConfig {
    let mut config = ProberConfig::default();
    cadence(keys, raw, &mut config.cadence);
    let rtts = "after one round trip ordinary jitter would count as loss, and after twenty a fault \
                would not";
    let extra = "acknowledgements are delayed by 20 ms and more, and a user notices 5 s";
    let unknown = "a first round trip may take as long as any, and a user notices 10 s";
    let single = "single losses are no fault";
    let repair = "TCP needs some 200 ms to repair a loss, and a user notices 10 s";
    let spacing = "closer probes fall into one burst of loss, and wider ones make it late";
    let spread = "in percent of burstSpacingMs";
    let second = "what is sent at once is lost at once, and later than that it is too late";
    read! { keys, raw;
        count config.lost_after_rtts, "lostAfterRtts" lost_after_rtts, 2_u32..=20, rtts;
        ms config.lost_after_extra, "lostAfterExtraMs" lost_after_extra_ms, 20..=5000, extra;
        ms config.lost_after_unknown, "lostAfterUnknownMs" lost_after_unknown_ms, 100..=10_000,
            unknown;
        count config.suspect_intervals, "suspectIntervals" suspect_intervals, 2_u32..=20, single;
        ms config.suspect_min, "suspectMinMs" suspect_min_ms, 200..=10_000, repair;
        ms config.burst_spacing, "burstSpacingMs" burst_spacing_ms, MIN_INTERVAL_MS..=1000, spacing;
        percent config.burst_spread, "burstSpread" burst_spread, 0.0..=50.0, spread;
        ms config.second_answer_after, "secondAnswerAfterMs" second_answer_after_ms,
            MIN_INTERVAL_MS..=500, second;
    }
    let shortest = config.burst_spacing.mul_f64(1.0 - config.burst_spread);
    if shortest < Duration::from_millis(MIN_INTERVAL_MS) {
        let key = match raw.burst_spacing_ms {
            Some(_) => "burstSpacingMs",
            None => "burstSpread",
        };
        let message = format!(
            "with burstSpread, probes of a burst would come every {} ms; not more often than every \
             {MIN_INTERVAL_MS} ms",
            shortest.as_millis()
        );
        keys.error(key, message);
    }
    config
}

fn cadence(keys: &mut Keys<'_, '_>, raw: &RawClientAuto, config: &mut CadenceConfig) {
    let fast = MIN_INTERVAL_MS..=10_000;
    let quiet = 1..=MAX_QUIET_INTERVAL;
    let load = "more often is a load of its own, and a fault is noticed after three of them";
    let nat = "more often is a load of its own, and NATs forget a UDP mapping after 30 s";
    let hour = "a standby that is not asked for an hour is none";
    let day = "a day at most";
    read! { keys, raw;
        ms config.in_use, "probeIntervalMs" probe_interval_ms, fast.clone(), load;
        ms config.questioned, "questionedIntervalMs" questioned_interval_ms, fast, load;
        ms config.idle, "idleIntervalMs" idle_interval_ms,
            MIN_INTERVAL_MS..=MAX_QUIET_INTERVAL * 1000, nat;
        seconds config.quiet, "quietIntervalSeconds" quiet_interval_seconds, quiet.clone(), nat;
        seconds config.asleep, "asleepIntervalSeconds" asleep_interval_seconds, quiet, nat;
        seconds config.standby, "standbyIntervalSeconds" standby_interval_seconds, 1..=3600, hour;
        seconds config.standby_quiet, "standbyQuietIntervalSeconds" standby_quiet_interval_seconds,
            1..=3600, hour;
        seconds config.idle_after, "idleAfterSeconds" idle_after_seconds, 1..=MAX_AFTER, day;
        seconds config.quiet_after, "quietAfterSeconds" quiet_after_seconds, 1..=MAX_AFTER, day;
        seconds config.asleep_after, "asleepAfterSeconds" asleep_after_seconds, 1..=MAX_AFTER, day;
    }
    // The less a tunnel is used, the less it is asked.
    compare! { keys, raw;
        at_least config.idle, "idleIntervalMs" idle_interval_ms, config.in_use, "probeIntervalMs";
        at_least config.quiet, "quietIntervalSeconds" quiet_interval_seconds,
            config.idle, "idleIntervalMs";
        at_least config.asleep, "asleepIntervalSeconds" asleep_interval_seconds,
            config.quiet, "quietIntervalSeconds";
        at_least config.standby_quiet, "standbyQuietIntervalSeconds" standby_quiet_interval_seconds,
            config.standby, "standbyIntervalSeconds";
        at_least config.quiet_after, "quietAfterSeconds" quiet_after_seconds,
            config.idle_after, "idleAfterSeconds";
        at_least config.asleep_after, "asleepAfterSeconds" asleep_after_seconds,
            config.quiet_after, "quietAfterSeconds";
    }
}
