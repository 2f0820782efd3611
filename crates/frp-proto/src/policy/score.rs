//! What a carrier can be expected to do, from what was measured of it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::window::rate;
use super::words::Family;
use crate::path::{PathReport, TcpControl};

/// TCP's usual segment with timestamps.
const MSS: f64 = 1448.0;
/// What TCP sends before the first acknowledgement, also after a rest (RFC 6928).
const INITIAL_SEGMENTS: f64 = 10.0;
/// More is not reckoned with: a path that loses as much carries nothing worth a reckoning.
const LOSS_MAX: f64 = 0.5;
/// What `lossy` sends before the first acknowledgement.
const INITIAL_UDP_PACKETS: f64 = 32.0;
/// What bbr loses of what arrives, for each part that is lost: in the lab it carried two thirds at
/// 10 % and nine tenths at 5 %. Its repairs hold up what comes after them.
const BBR_COST: f64 = 3.0;
/// Above it bbr's bandwidth filter takes loss for a slower link.
const BBR_LOSS_MAX: f64 = 0.15;
/// Over which bbr then falls to nearly nothing.
const BBR_FALL: f64 = 0.10;
/// What is left of a sender that has collapsed.
const COLLAPSED: f64 = 0.02;

/// Bytes a second that bulk can expect over a link of `capacity`.
///
/// UDP carriers send at the rate of the link whatever it loses. TCP is judged by its sender:
/// Mathis' formula (1.22 · MSS / (RTT · √loss)) for one that takes loss for congestion.
pub(crate) fn bulk_rate(
    family: Family,
    control: TcpControl,
    capacity: f64,
    loss: f64,
    rtt: Duration,
) -> f64 {
    let arriving = capacity * (1.0 - loss);
    match (family, control) {
        (Family::Udp, _) => arriving,
        (Family::Tcp, TcpControl::LossBased) => arriving.min(mathis_rate(loss, rtt)),
        (Family::Tcp, TcpControl::Bbr) => {
            let borne = 1.0 - BBR_COST * loss.min(BBR_LOSS_MAX);
            let left = 1.0 - (loss - BBR_LOSS_MAX).max(0.0) / BBR_FALL;
            arriving * (borne * left).max(COLLAPSED)
        }
    }
}

/// Without loss there is no limit.
pub(crate) fn mathis_rate(loss: f64, rtt: Duration) -> f64 {
    1.22 * MSS / (rtt.as_secs_f64().max(0.000_1) * loss.sqrt())
}

/// At what rate a burst of `bytes` arrives, from its first byte to its last, over a TCP carrier that
/// has rested and that nothing but its own slow start holds back: ten segments first, and twice as
/// many in each round trip after. What is measured near it says that the path gives more.
pub(crate) fn slow_start_rate(bytes: u64, rtt: Duration) -> f64 {
    rounds_rate(bytes, slow_start_rounds(bytes, INITIAL_SEGMENTS), rtt)
}

/// The same over a UDP carrier whose path loses packets: what is lost is sent again, some of that is
/// lost as well, and the last byte arrives when the last repair has.
pub(crate) fn repaired_rate(bytes: u64, loss: f64, rtt: Duration) -> f64 {
    let n_packets = rate(bytes) / MSS;
    let n_repairs = match loss.min(LOSS_MAX) {
        loss if loss * n_packets < 1.0 => 0.0,
        loss => (n_packets.ln() / (1.0 / loss).ln()).ceil(),
    };
    let n_rounds = slow_start_rounds(bytes, INITIAL_UDP_PACKETS) + n_repairs;
    rounds_rate(bytes, n_rounds, rtt)
}

fn slow_start_rounds(bytes: u64, initial_packets: f64) -> f64 {
    let n_rounds = (rate(bytes) / (initial_packets * MSS) + 1.0).log2().ceil() - 1.0;
    n_rounds.max(1.0)
}

fn rounds_rate(bytes: u64, n_rounds: f64, rtt: Duration) -> f64 {
    rate(bytes) / (n_rounds * rtt.as_secs_f64().max(0.000_1))
}

/// How long interactive data takes: the round trip with its variation, what losing it costs, and
/// the stalls. A loss costs a UDP carrier about two round trips (noticing it, sending again); on
/// TCP that shows in the round-trip times themselves.
pub(crate) fn interactive(
    family: Family,
    spread_rtt: Duration,
    srtt: Duration,
    loss: f64,
    stall: Duration,
) -> Duration {
    let again = match family {
        Family::Udp => srtt.mul_f64(2.0 * loss / (1.0 - loss.min(0.95))),
        Family::Tcp => Duration::ZERO,
    };
    let noticed = if stall < STALL_MIN {
        Duration::ZERO
    } else {
        stall
    };
    spread_rtt + again + noticed
}

/// Between two acknowledgements a transfer always waits; below this it is no stall.
const STALL_MIN: Duration = Duration::from_millis(250);

/// Whether packets overtake each other on the path, as far as the round trips of probes over UDP
/// tell while no bulk data lengthens them.
///
/// To KCP between Holdfasts that is nothing. A sender over QUIC takes what was overtaken for lost,
/// and a receiver (quinn 0.11) what comes very late for repeated: on a phone's link with 15 ms of
/// jitter each way QUIC carried a fifth of the rate and KCP all of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Overtaking {
    /// Smoothed, of the round trip.
    variation: f64,
    n_reports: u32,
    is_common: bool,
}

/// A variation above it makes overtaking common.
const VARIATION_HIGH: f64 = 0.10;
/// One below it makes it rare again.
const VARIATION_LOW: f64 = 0.04;
/// Below it the programs' own delays are what varies.
const VARIATION_MIN: Duration = Duration::from_micros(1_500);
/// What one report says about the variation; the first ones count evenly.
const VARIATION_WEIGHT: f64 = 1.0 / 32.0;
/// Fewer reports decide nothing.
const VARIATION_REPORTS: u32 = 6;
/// A carrier says nothing of it with fewer round trips.
const ROUND_TRIPS_MIN: u64 = 4;

impl Overtaking {
    /// A carrier over UDP without bulk data has been looked at.
    pub(crate) fn handle_report(&mut self, report: &PathReport) {
        let heartbeats = &report.heartbeats;
        let n_round_trips = heartbeats.total.saturating_sub(heartbeats.lost).min(100);
        if report.srtt.is_zero() || n_round_trips < ROUND_TRIPS_MIN {
            return;
        }
        // RFC 6298 begins with half of the first round trip and forgets a quarter with each.
        let n_forgotten = i32::try_from(n_round_trips).unwrap_or(i32::MAX) - 1;
        let first = 0.75_f64.powi(n_forgotten);
        let share = report.rttvar.as_secs_f64() / report.srtt.as_secs_f64();
        let share = ((share - 0.5 * first) / (1.0 - first)).clamp(0.0, 1.0);
        let is_own = share * report.srtt.as_secs_f64() < VARIATION_MIN.as_secs_f64();

        self.n_reports = self.n_reports.saturating_add(1);
        let weight = VARIATION_WEIGHT.max(1.0 / f64::from(self.n_reports));
        let share = if is_own { 0.0 } else { share };
        self.variation += weight * (share - self.variation);
        if self.n_reports >= VARIATION_REPORTS {
            let limit = match self.is_common {
                true => VARIATION_LOW,
                false => VARIATION_HIGH,
            };
            self.is_common = self.variation >= limit;
        }
    }

    pub(crate) fn is_common(&self) -> bool {
        self.is_common
    }
}

/// The rate that the link has shown of late, over whichever carrier.
#[derive(Clone, Debug, Default)]
pub(crate) struct Capacity {
    /// The newest last.
    epochs: VecDeque<Epoch>,
}

#[derive(Clone, Copy, Debug)]
struct Epoch {
    start: Instant,
    /// Maximum of what the link must have carried, with what was lost.
    carried: f64,
    /// Maximum of what arrived.
    arrived: f64,
}

/// Ten of these are remembered: a link that has become slower is believed after this long.
const EPOCH: Duration = Duration::from_secs(10);
const MAX_EPOCHS: usize = 6;

impl Capacity {
    /// What was delivered, with the loss at the time.
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more precision")]
    pub(crate) fn add(&mut self, now: Instant, delivered: u64, loss: f64) {
        let arrived = delivered as f64;
        let carried = arrived / (1.0 - loss.clamp(0.0, 0.5));
        match self.epochs.back_mut() {
            Some(epoch) if now.saturating_duration_since(epoch.start) < EPOCH => {
                epoch.carried = epoch.carried.max(carried);
                epoch.arrived = epoch.arrived.max(arrived);
            }
            _ => {
                if self.epochs.len() == MAX_EPOCHS {
                    self.epochs.pop_front();
                }
                self.epochs.push_back(Epoch {
                    start: now,
                    carried,
                    arrived,
                });
            }
        }
    }

    pub(crate) fn get(&self) -> f64 {
        let carried = self.epochs.iter().map(|epoch| epoch.carried);
        carried.fold(0.0, f64::max)
    }

    /// The most that has arrived.
    pub(crate) fn arrived(&self) -> f64 {
        let arrived = self.epochs.iter().map(|epoch| epoch.arrived);
        arrived.fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MBIT: f64 = 125_000.0;

    fn tcp(control: TcpControl, loss: f64) -> f64 {
        let rtt = Duration::from_millis(100);
        bulk_rate(Family::Tcp, control, 100.0 * MBIT, loss, rtt) / MBIT
    }

    #[test]
    fn cubic_is_judged_by_mathis() {
        // The figures of 100 ms: 1.4, 0.63, 0.45 and 0.26 Mbit/s.
        for (loss, mbit) in [(0.01, 1.41), (0.05, 0.63), (0.10, 0.45), (0.30, 0.26)] {
            assert!((tcp(TcpControl::LossBased, loss) - mbit).abs() < 0.01);
        }
        assert!((tcp(TcpControl::LossBased, 0.0) - 100.0).abs() < 0.01);
    }

    #[test]
    fn bbr_bears_some_loss_and_nothing_is_left_above_25_percent() {
        assert!((tcp(TcpControl::Bbr, 0.05) - 80.75).abs() < 0.01);
        assert!((tcp(TcpControl::Bbr, 0.10) - 63.0).abs() < 0.01);
        assert!((tcp(TcpControl::Bbr, 0.20) - 22.0).abs() < 0.01);
        assert!(tcp(TcpControl::Bbr, 0.30) < 2.0);
    }

    /// Round trips of which each differs by `variation` from `srtt`.
    fn round_trips(srtt: u64, variation: u64) -> impl Iterator<Item = PathReport> {
        let (srtt, variation) = (
            Duration::from_millis(srtt),
            Duration::from_millis(variation),
        );
        let mut report = PathReport {
            srtt,
            rttvar: srtt / 2,
            ..PathReport::default()
        };
        std::iter::repeat_with(move || {
            report.heartbeats.add(false);
            if report.heartbeats.total > 1 {
                report.rttvar = (report.rttvar * 3 + variation) / 4;
            }
            report
        })
    }

    #[test]
    fn packets_overtake_each_other_where_round_trips_vary_by_a_tenth() {
        let mut overtaking = Overtaking::default();
        let mut see = |srtt, variation, n| {
            let reports = round_trips(srtt, variation).take(n);
            reports.for_each(|report| overtaking.handle_report(&report));
            overtaking.is_common()
        };
        assert!(!see(60, 2, 12), "a usual path, at its start");
        assert!(see(60, 10, 60), "15 ms of jitter each way");
        assert!(see(60, 4, 200), "in between nothing changes");
        assert!(!see(60, 2, 200));
        assert!(!see(2, 1, 200), "a busy computer does that");

        let mut overtaking = Overtaking::default();
        for report in round_trips(60, 10).take(12) {
            overtaking.handle_report(&report);
        }
        assert!(overtaking.is_common(), "within three seconds of the start");
    }

    #[test]
    fn a_burst_of_256_kib_needs_four_round_trips_after_the_first() {
        let rate = slow_start_rate(256 * 1024, Duration::from_millis(50));
        assert!((rate / MBIT - 10.49).abs() < 0.01, "{rate}");
        let one_round = slow_start_rate(14_480, Duration::from_millis(50));
        assert!((one_round / MBIT - 2.32).abs() < 0.01, "{one_round}");
    }

    #[test]
    fn repairs_of_a_burst_take_a_round_trip_each_until_none_is_lost() {
        let rtt = Duration::from_millis(50);
        let rate = |bytes, loss| repaired_rate(bytes, loss, rtt) / MBIT;
        // Of 181 packets the first 32 take no round trip, and the others two.
        assert!((rate(256 * 1024, 0.0) - 20.97).abs() < 0.01);
        // Three more: 18 are sent again, then 2.
        assert!((rate(256 * 1024, 0.1) - 8.39).abs() < 0.01);
        // Four and three.
        assert!((rate(1024 * 1024, 0.1) - 23.97).abs() < 0.01);
    }

    #[test]
    fn the_capacity_is_what_was_seen_in_the_last_minute() {
        let start = crate::path::test_start();
        let mut capacity = Capacity::default();
        for second in 0..100 {
            let now = start + Duration::from_secs(second);
            capacity.add(now, if second < 10 { 1000 } else { 90 }, 0.1);
            if second == 50 {
                assert!((capacity.get() - 1000.0 / 0.9).abs() < 0.1);
            }
        }
        assert!((capacity.get() - 100.0).abs() < 0.1);
    }
}
