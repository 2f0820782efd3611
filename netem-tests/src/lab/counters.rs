//! What a link has done.

use std::fmt;

use super::Direction;

/// What has happened to the packets of both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// What was sent by the near side.
    pub to_far: WayCounters,
    /// What was sent by the far side.
    pub to_near: WayCounters,
}

/// What has happened to the packets of one direction. Bytes are those of IP packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WayCounters {
    /// Packets sent into the link.
    pub packets_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Packets that came out, copies included.
    pub packets_delivered: u64,
    /// Their bytes.
    pub bytes_delivered: u64,
    /// Packets that the link lost.
    pub lost: u64,
    /// Packets that found the queue full.
    pub overflowed: u64,
    /// Packets that [`super::Fault::police_all`] or its like has dropped, where the link does that.
    pub policed: u64,
    /// Packets of which there was a copy.
    pub duplicated: u64,
    /// Packets with a flipped bit.
    pub corrupted: u64,
    /// Packets that skipped the delay.
    pub reordered: u64,
    /// The most packets that have stood in the queue.
    pub longest_queue: usize,
    /// Packets that the machine was too slow for: they were dropped before the link saw them. A
    /// measurement during which this grows is worth nothing.
    pub missed: u64,
}

impl Counters {
    /// Returns one direction.
    pub fn way(&self, direction: Direction) -> &WayCounters {
        match direction {
            Direction::ToFar => &self.to_far,
            Direction::ToNear => &self.to_near,
        }
    }
}

impl WayCounters {
    /// Returns how many percent of the packets that passed the queue got lost.
    pub fn loss_pct(&self) -> f64 {
        let n_passed = self.packets_in.saturating_sub(self.overflowed);
        if n_passed == 0 {
            return 0.0;
        }
        100.0 * self.lost as f64 / n_passed as f64
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "to far:  {}", self.to_far)?;
        write!(f, "to near: {}", self.to_near)
    }
}

impl fmt::Display for WayCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} packets in ({} bytes), {} delivered ({} bytes), {} lost ({:.2} %), \
             {} overflowed, longest queue {}",
            self.packets_in,
            self.bytes_in,
            self.packets_delivered,
            self.bytes_delivered,
            self.lost,
            self.loss_pct(),
            self.overflowed,
            self.longest_queue
        )?;
        for (n, what) in [
            (self.policed, "policed"),
            (self.duplicated, "duplicated"),
            (self.corrupted, "corrupted"),
            (self.reordered, "reordered"),
            (self.missed, "MISSED: the machine was too slow"),
        ] {
            if n > 0 {
                write!(f, ", {n} {what}")?;
            }
        }
        Ok(())
    }
}
