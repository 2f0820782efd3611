//! What two carriers were like in a window of a comparison, and what of that is chance.

use std::time::{Duration, Instant};

use super::carrier::Carrier;
use super::words::Family;
use crate::path::{PathReport, Tally};

/// Some seconds in which two carriers are compared.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) start: Instant,
    pub(super) from: Sums,
    pub(super) to: Sums,
    pub(super) n_bulk: u32,
}

/// One carrier's part of a window.
#[derive(Clone, Debug)]
pub(super) struct Sums {
    pub(super) base: PathReport,
    /// Where the packets are counted from that say what it loses. Those of a burst of padding count
    /// for as long as its rate does: a TCP carrier at rest sends too few others.
    pub(super) packets_from: Tally,
    pub(super) n_reports: u32,
    /// Sum of srtt + 2·rttvar.
    pub(super) spread_rtt: Duration,
    pub(super) delivered: f64,
    pub(super) stall: Duration,
}

/// Heartbeats that a look at the last seconds needs.
const LOOK_HEARTBEATS: u64 = 4;
/// How many standard deviations more than the share that a carrier may lose have to be lost: of four
/// heartbeats two, of twelve four. One of four is lost by chance every few seconds at 5 % each way,
/// and a comparison costs a narrow link some percent.
const BEYOND_CHANCE: f64 = 1.5;

/// How many standard deviations two shares have to be apart. Of a dozen probes each, those are none and
/// nine; less comes by chance where much is lost.
const DIFFERENT: f64 = 3.5;

impl Window {
    pub(super) fn is_full(
        &self,
        now: Instant,
        from: &Carrier,
        to: &Carrier,
        config: &super::Config,
    ) -> bool {
        let has_enough = |sums: &Sums, entry: &Carrier| {
            let heartbeats = entry.report.heartbeats.since(&sums.base.heartbeats).total;
            heartbeats.max(sums.packets(entry).total) >= config.window_samples
        };
        now.saturating_duration_since(self.start) >= config.window
            && self.from.n_reports > 0
            && self.to.n_reports > 0
            && has_enough(&self.from, from)
            && has_enough(&self.to, to)
    }
}

impl Sums {
    pub(super) fn new(entry: &Carrier) -> Self {
        Self {
            base: entry.report,
            packets_from: entry.report.packets.unwrap_or_default(),
            n_reports: 0,
            spread_rtt: Duration::ZERO,
            delivered: 0.0,
            stall: Duration::ZERO,
        }
    }

    pub(super) fn add(&mut self, now: Instant, entry: &Carrier) {
        self.n_reports += 1;
        self.spread_rtt += entry.report.srtt + entry.report.rttvar * 2;
        self.delivered += rate(entry.delivered());
        self.stall = self.stall.max(entry.stall(now));
    }

    fn packets(&self, entry: &Carrier) -> Tally {
        let base = self.base.packets.unwrap_or_default();
        entry.report.packets.unwrap_or_default().since(&base)
    }

    /// From data packets where there were enough, from probes otherwise.
    pub(super) fn packet_loss(&self, entry: &Carrier, family: Family, samples: u64) -> f64 {
        let packets = entry.report.packets.unwrap_or_default();
        let packets = packets.since(&self.packets_from);
        match family {
            _ if packets.total >= samples => packets.share(),
            Family::Udp => one_way_loss(&entry.report, &self.base),
            // What TCP has sent again counts, however little: its probes arrive all.
            Family::Tcp if entry.report.packets.is_some() => packets.share(),
            Family::Tcp => entry.report.heartbeats.since(&self.base.heartbeats).share(),
        }
    }
}

/// Whether chance does not explain what was lost on a carrier that may lose the share `may_lose`.
pub(super) fn loses_too_many(heartbeats: &Tally, may_lose: f64) -> bool {
    let expected = rate(heartbeats.total) * may_lose;
    let deviation = (expected * (1.0 - may_lose)).sqrt();
    heartbeats.total >= LOOK_HEARTBEATS
        && rate(heartbeats.lost) > expected + BEYOND_CHANCE * deviation
}

/// Whether of the probes of two carriers so different shares were lost, in either direction, that
/// chance does not explain it.
pub(super) fn lose_differently(one: &PathReport, other: &PathReport) -> bool {
    let differ = |one: Tally, other: Tally| {
        if one.total == 0 || other.total == 0 {
            return false;
        }
        let both = one.and(&other).share();
        let variance = both * (1.0 - both) * (1.0 / rate(one.total) + 1.0 / rate(other.total));
        (one.share() - other.share()).abs() > DIFFERENT * variance.sqrt()
    };
    differ(one.outbound, other.outbound) || differ(one.inbound, other.inbound)
}

/// The loss of probes in the direction that loses more.
pub(super) fn one_way_loss(report: &PathReport, base: &PathReport) -> f64 {
    let outbound = report.outbound.since(&base.outbound).share();
    outbound.max(report.inbound.since(&base.inbound).share())
}

/// The same for the last seconds.
pub(super) fn recent_loss(entry: &Carrier, now: Instant) -> f64 {
    let base = entry.a_moment_ago(now).copied().unwrap_or_default();
    one_way_loss(&entry.report, &base)
}

/// A number of bytes, or of something else, to reckon with.
#[expect(clippy::cast_precision_loss, reason = "a rate needs no more precision")]
pub(super) fn rate(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_at_few_heartbeats_leaves_room_for_chance() {
        let loses = |lost, total| loses_too_many(&Tally { total, lost }, 0.15);
        assert!(!loses(1, 4), "every few seconds at 5 % each way");
        assert!(loses(2, 4));
        assert!(!loses(3, 12));
        assert!(loses(4, 12));
        assert!(!loses(3, 3), "too few to tell");
    }

    #[test]
    fn a_dozen_probes_of_two_carriers_tell_blocked_from_unlucky() {
        let report = |lost, total| PathReport {
            outbound: Tally { total, lost },
            ..PathReport::default()
        };
        let differ = |one, other| lose_differently(&one, &other);
        assert!(!differ(report(2, 12), report(6, 12)), "30 % on both");
        assert!(differ(report(0, 12), report(9, 12)));
        assert!(!differ(report(0, 12), report(0, 0)), "nothing is known");
        assert!(!differ(report(0, 12), report(0, 12)));
    }
}
