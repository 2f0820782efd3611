//! What one carrier has been like lately, in numbers, and how frps tells frpc.

use std::time::Duration;

use super::probe::Queues;
use super::wire::{PathDecodeError, Reader, put_micros, put_varint};

/// What one end knows of one carrier. The policy takes its own end's from the prober; frps sends
/// its own to frpc, over any carrier of the session.
///
/// Tallies count from the carrier's beginning: the difference of two reports is a window, whatever
/// came between them, and a report that is lost costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathReport {
    /// The number by which both ends know the carrier.
    pub carrier: u64,
    /// For how long nothing authenticated has arrived, though something should have.
    pub inbound_silence: Duration,
    /// For how long nothing that was sent has been echoed or acknowledged.
    pub outbound_silence: Duration,
    /// Smoothed round-trip time and its variation; zero while nothing was measured.
    pub srtt: Duration,
    /// See `srtt`.
    pub rttvar: Duration,
    /// The smallest of late.
    pub min_rtt: Duration,
    /// Probes that asked for an answer; lost are those whose echo was late or never came.
    pub heartbeats: Tally,
    /// Probes to the peer, of any kind, by what the peer says it has.
    pub outbound: Tally,
    /// Probes from the peer, by the gaps in their numbers.
    pub inbound: Tally,
    /// How much longer than at best the peer's probes take, smoothed: the queue on their way.
    pub inbound_queueing: Duration,
    /// Data packets to the peer, where the transport counts them.
    pub packets: Option<Tally>,
    /// Bytes a second that the peer has acknowledged over the last second.
    pub delivered_rate: u64,
    /// What waits at this end.
    pub queues: Queues,
    /// The longest time of the last seconds in which data waited and none was acknowledged.
    pub stall: Duration,
    /// What sends at this end, where the carrier runs over TCP.
    pub control: TcpControl,
}

/// What the sender of a TCP carrier makes of loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TcpControl {
    /// Cubic, Reno and what is unknown: every loss is congestion.
    #[default]
    LossBased,
    /// bbr: loses little below 15 %, and collapses above.
    Bbr,
}

/// How many of something, and how many of these were lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All of which the fate is known.
    pub total: u64,
    /// Those that were lost, or late.
    pub lost: u64,
}

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, is_lost: bool) {
        self.total += 1;
        self.lost += u64::from(is_lost);
    }

    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            total: self.total.saturating_sub(earlier.total),
            lost: self.lost.saturating_sub(earlier.lost),
        }
    }

    /// Both together.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            total: self.total.saturating_add(other.total),
            lost: self.lost.saturating_add(other.lost),
        }
    }

    /// The lost share, 0 where nothing was counted.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share needs no more precision"
    )]
    pub fn share(&self) -> f64 {
        if self.total == 0 {
            return 0.0;
        }
        // What is late and then taken for sent again can count as lost twice.
        (self.lost as f64 / self.total as f64).min(1.0)
    }
}

impl PathReport {
    /// The longest encoded report.
    pub const MAX_LEN: usize = 1 + 8 * 20;

    /// Appends the payload to `out`. Numbers beyond the bounds are cut to them.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let packets = if self.packets.is_some() { PACKETS } else { 0 };
        let bbr = if self.control == TcpControl::Bbr {
            BBR
        } else {
            0
        };
        out.push(packets | bbr);
        put_varint(out, self.carrier);
        for time in [
            self.inbound_silence,
            self.outbound_silence,
            self.srtt,
            self.rttvar,
            self.min_rtt,
        ] {
            put_micros(out, time, MAX_TIME);
        }
        for tally in [self.heartbeats, self.outbound, self.inbound] {
            put_tally(out, tally);
        }
        if let Some(packets) = self.packets {
            put_tally(out, packets);
        }
        put_micros(out, self.inbound_queueing, MAX_TIME);
        put_varint(out, self.delivered_rate);
        put_varint(out, self.queues.interactive);
        put_varint(out, self.queues.bulk);
        put_micros(out, self.queues.delay, MAX_TIME);
        put_micros(out, self.stall, MAX_TIME);
    }

    /// Reads a payload, which must be one report and nothing else. Flags that this version does not
    /// know say nothing to it, nor does what they may have put behind the rest.
    pub fn decode(bytes: &[u8]) -> Result<Self, PathDecodeError> {
        let mut reader = Reader::new(bytes);
        let flags = reader.byte()?;
        let report = Self {
            carrier: reader.varint()?,
            inbound_silence: reader.micros(MAX_TIME, "inbound silence")?,
            outbound_silence: reader.micros(MAX_TIME, "outbound silence")?,
            srtt: reader.micros(MAX_TIME, "srtt")?,
            rttvar: reader.micros(MAX_TIME, "rttvar")?,
            min_rtt: reader.micros(MAX_TIME, "min_rtt")?,
            heartbeats: read_tally(&mut reader)?,
            outbound: read_tally(&mut reader)?,
            inbound: read_tally(&mut reader)?,
            packets: match flags & PACKETS {
                0 => None,
                _ => Some(read_tally(&mut reader)?),
            },
            inbound_queueing: reader.micros(MAX_TIME, "inbound queueing")?,
            delivered_rate: reader.varint()?,
            queues: Queues {
                interactive: reader.varint()?,
                bulk: reader.varint()?,
                delay: reader.micros(MAX_TIME, "queueing delay")?,
            },
            stall: reader.micros(MAX_TIME, "stall")?,
            control: match flags & BBR {
                0 => TcpControl::LossBased,
                _ => TcpControl::Bbr,
            },
        };
        if flags & !(PACKETS | BBR) == 0 {
            reader.finish()?;
        }
        Ok(report)
    }
}

const PACKETS: u8 = 0x01;
const BBR: u8 = 0x02;

/// A day. What lasts longer is as bad as what lasts so long, and sums of it cannot overflow.
const MAX_TIME: Duration = Duration::from_secs(86_400);

fn put_tally(out: &mut Vec<u8>, tally: Tally) {
    put_varint(out, tally.total);
    put_varint(out, tally.lost.min(tally.total));
}

/// More lost than there were would make a share that no rule expects.
fn read_tally(reader: &mut Reader<'_>) -> Result<Tally, PathDecodeError> {
    let total = reader.varint()?;
    let lost = reader.bounded(total, "lost packets")?;
    Ok(Tally { total, lost })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> PathReport {
        PathReport {
            carrier: 3,
            inbound_silence: Duration::from_millis(20),
            outbound_silence: MAX_TIME,
            srtt: Duration::from_micros(50_123),
            rttvar: Duration::from_micros(4),
            min_rtt: Duration::from_millis(50),
            heartbeats: Tally { total: 40, lost: 4 },
            outbound: Tally { total: 99, lost: 1 },
            inbound: Tally {
                total: 98,
                lost: 98,
            },
            inbound_queueing: Duration::from_millis(3),
            packets: Some(Tally {
                total: 1 << 40,
                lost: 70_000,
            }),
            delivered_rate: 12_500_000,
            queues: Queues {
                interactive: 100,
                bulk: 1 << 30,
                delay: Duration::from_millis(7),
            },
            stall: Duration::from_secs(2),
            control: TcpControl::Bbr,
        }
    }

    #[test]
    fn a_report_survives_the_wire() {
        let without_packets = PathReport {
            packets: None,
            ..full()
        };
        for report in [PathReport::default(), without_packets, full()] {
            let mut bytes = Vec::new();
            report.encode(&mut bytes);
            assert!(bytes.len() <= PathReport::MAX_LEN);
            assert_eq!(PathReport::decode(&bytes), Ok(report));
            for len in 0..bytes.len() {
                assert_eq!(
                    PathReport::decode(&bytes[..len]),
                    Err(PathDecodeError::Incomplete)
                );
            }
        }
    }

    #[test]
    fn flags_of_later_versions_and_what_comes_with_them_are_passed_over() {
        let mut bytes = Vec::new();
        full().encode(&mut bytes);
        bytes.push(7);
        assert_eq!(
            PathReport::decode(&bytes),
            Err(PathDecodeError::TrailingData(1))
        );
        bytes[0] |= 0x40;
        assert_eq!(PathReport::decode(&bytes), Ok(full()));
        bytes.pop();
        assert_eq!(PathReport::decode(&bytes), Ok(full()));
    }

    #[test]
    fn more_lost_than_sent_is_refused() {
        let mut bytes = Vec::new();
        PathReport::default().encode(&mut bytes);
        // Flags, the carrier and five times come before the first tally.
        bytes[8] = 1;
        assert_eq!(
            PathReport::decode(&bytes),
            Err(PathDecodeError::OutOfRange("lost packets"))
        );
    }

    #[test]
    fn a_window_is_the_difference_of_two_tallies() {
        let earlier = Tally {
            total: 100,
            lost: 10,
        };
        let later = Tally {
            total: 140,
            lost: 16,
        };
        assert!((later.since(&earlier).share() - 0.15).abs() < 1e-9);
        assert!(Tally::default().share() < 1e-9);
    }
}
