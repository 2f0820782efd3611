//! What a carrier's counters say to the prober.

use frp_proto::path::{Counters, Queues, Tally, TcpControl};
use transports::PathStats;

/// Compares what is read with what was read before.
#[derive(Debug, Default)]
pub(super) struct Meter {
    before: PathStats,
}

/// What has changed.
#[derive(Debug)]
pub(super) struct Look {
    /// For the prober.
    pub(super) counters: Counters,
    /// Something has come that only the peer can have sent.
    pub(super) has_heard: bool,
    /// The peer's host has refused a packet.
    pub(super) is_refused: bool,
}

impl Meter {
    /// `user_bytes` have passed in the session's streams, `queues` wait in those on this carrier,
    /// `rate` is that of late.
    pub(super) fn look(
        &mut self,
        stats: PathStats,
        user_bytes: u64,
        mut queues: Queues,
        rate: u64,
    ) -> Look {
        let before = std::mem::replace(&mut self.before, stats);
        let waiting = queues.interactive.saturating_add(queues.bulk);
        if queues.delay.is_zero() && rate > 0 {
            let micros = u128::from(waiting) * 1_000_000 / u128::from(rate);
            let micros = u64::try_from(micros).unwrap_or(u64::MAX);
            queues.delay = std::time::Duration::from_micros(micros);
        }
        let packets = stats.packets_sent.zip(stats.packets_lost);
        Look {
            counters: Counters {
                acked_bytes: stats.acked_bytes.unwrap_or(0),
                packets: packets.map(|(total, lost)| Tally {
                    total,
                    lost: lost.min(total),
                }),
                queues,
                in_flight: stats.in_flight.unwrap_or(0),
                user_bytes,
                control: if stats.bears_loss() {
                    TcpControl::Bbr
                } else {
                    TcpControl::LossBased
                },
            },
            has_heard: stats.bytes_received > before.bytes_received
                || stats.n_heard > before.n_heard,
            is_refused: stats.n_refused > before.n_refused,
        }
    }
}

/// Packets whose fate is known, and those of them that were lost.
pub(super) fn fates(stats: &PathStats) -> Option<Tally> {
    let lost = stats.packets_lost?;
    let total = match stats.packets_acked {
        Some(acked) => acked + lost,
        None => stats.packets_sent?.max(lost),
    };
    Some(Tally { total, lost })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_the_peer_can_have_sent_is_life_and_refusals_are_told_once() {
        let mut meter = Meter::default();
        let mut look = |bytes_received, n_heard, n_refused| {
            let stats = PathStats {
                bytes_received,
                n_heard,
                n_refused,
                ..PathStats::default()
            };
            let look = meter.look(stats, 0, Queues::default(), 0);
            (look.has_heard, look.is_refused)
        };
        assert_eq!(look(10, 0, 0), (true, false));
        assert_eq!(look(10, 1, 1), (true, true));
        assert_eq!(look(10, 1, 1), (false, false));
    }

    #[test]
    fn what_sends_is_told() {
        let look = |is_bbr, adapts_to_loss| {
            let stats = PathStats {
                is_bbr,
                adapts_to_loss,
                ..PathStats::default()
            };
            let look = Meter::default().look(stats, 0, Queues::default(), 0);
            look.counters.control
        };
        assert_eq!(look(false, false), TcpControl::LossBased);
        assert_eq!(look(true, false), TcpControl::Bbr);
        assert_eq!(look(false, true), TcpControl::Bbr);
    }

    #[test]
    fn how_long_bulk_waits_follows_from_the_rate() {
        let queues = Queues {
            bulk: 500_000,
            ..Queues::default()
        };
        let look = Meter::default().look(PathStats::default(), 0, queues, 1_000_000);
        assert_eq!(look.counters.queues.delay.as_millis(), 500);
    }
}
