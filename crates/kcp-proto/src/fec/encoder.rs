//! The sending half of forward error correction.
//!
//! [`Encoder::seal`] completes the header of a data packet and adds its shard to the parity sums;
//! nothing of the packet is kept. After the last data packet of a group [`Encoder::poll_parity`]
//! hands out the parity packets.
//!
//! Every group takes the numbers of a whole group, whether parity is sent or not. kcp-go's own
//! encoder does not do that, and its decoder recovers nothing any more once it has happened.

use std::time::{Duration, Instant};

use super::{DATA_HEADER_LEN, SHARD_OFFSET, Shards, TYPE_DATA, TYPE_PARITY};
use crate::reed_solomon::ReedSolomon;

/// When the last packet of a group comes this long after the one before, the group's parity would
/// come long after the retransmissions, and is not sent. kcp-go has the same limit.
const IDLE_LIMIT: Duration = Duration::from_millis(500);

/// Numbers data packets and makes parity packets.
#[derive(Debug)]
pub struct Encoder {
    shards: Shards,
    code: ReedSolomon,
    /// The number of the group's first packet.
    group_seqid: u32,
    /// Data packets of the group so far.
    n_filled: usize,
    /// Parity shards that are summed up for this group.
    n_summed: usize,
    /// Parity shards wanted from the next group on.
    n_wanted: usize,
    /// The sums, as long as the group's longest shard.
    parity: Vec<Vec<u8>>,
    /// The parity shard that goes out next, once the group is complete.
    pending: Option<usize>,
    last_sealed_at: Option<Instant>,
}

impl Encoder {
    /// Starts with the group that `seqid` lies in (0 on the wire of frp), or returns `None` when
    /// there is no code with so many shards.
    pub fn new(shards: Shards, seqid: u32) -> Option<Self> {
        let code = ReedSolomon::new(shards.n_data, shards.n_parity)?;
        Some(Self {
            shards,
            code,
            group_seqid: seqid.min(shards.wrap() - 1) / shards.group_len() * shards.group_len(),
            n_filled: 0,
            n_summed: shards.n_parity,
            n_wanted: shards.n_parity,
            parity: Vec::new(),
            pending: None,
            last_sealed_at: None,
        })
    }

    /// Sets how many parity packets the groups have that have not begun; at most those of the code.
    pub fn set_parity(&mut self, n_parity: usize) {
        self.n_wanted = n_parity.min(self.shards.n_parity);
        if self.n_filled == 0 && self.pending.is_none() {
            self.n_summed = self.n_wanted;
        }
    }

    /// Writes the header of a data packet into the first [`DATA_HEADER_LEN`] bytes of `packet`,
    /// which are followed by its segments.
    ///
    /// Parity packets of the group before that have not been taken by then are not sent.
    ///
    /// # Panics
    ///
    /// When `packet` is shorter than its header or longer than a size field can say.
    pub fn seal(&mut self, packet: &mut [u8], now: Instant) {
        assert!(
            packet.len() >= DATA_HEADER_LEN,
            "a data packet has room for its header"
        );
        let size = u16::try_from(packet.len() - SHARD_OFFSET).expect("a datagram is below 64 KiB");
        if self.pending.is_some() {
            self.end_group();
        }
        packet[0..4].copy_from_slice(&self.seqid_at(self.n_filled).to_le_bytes());
        packet[4..6].copy_from_slice(&TYPE_DATA.to_le_bytes());
        packet[6..8].copy_from_slice(&size.to_le_bytes());

        self.add_to_parity(&packet[SHARD_OFFSET..]);
        self.n_filled += 1;
        let is_idle = self
            .last_sealed_at
            .is_some_and(|last| now.saturating_duration_since(last) >= IDLE_LIMIT);
        self.last_sealed_at = Some(now);
        if self.n_filled == self.shards.n_data {
            if self.n_summed == 0 || is_idle {
                self.end_group();
            } else {
                self.pending = Some(0);
            }
        }
    }

    /// Appends the next parity packet to `out`, and says whether there was one.
    pub fn poll_parity(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(parity_idx) = self.pending else {
            return false;
        };
        out.extend(self.seqid_at(self.shards.n_data + parity_idx).to_le_bytes());
        out.extend(TYPE_PARITY.to_le_bytes());
        out.extend(&self.parity[parity_idx]);
        if parity_idx + 1 < self.n_summed {
            self.pending = Some(parity_idx + 1);
        } else {
            self.end_group();
        }
        true
    }

    /// Whether parity packets wait to be sent.
    pub fn has_parity(&self) -> bool {
        self.pending.is_some()
    }

    /// Adds a data shard to the sums.
    fn add_to_parity(&mut self, shard: &[u8]) {
        if self.n_summed == 0 {
            return;
        }
        self.parity.resize_with(self.n_summed, Vec::new);
        for sum in &mut self.parity {
            if sum.len() < shard.len() {
                sum.resize(shard.len(), 0);
            }
        }
        self.code.add_data(self.n_filled, shard, &mut self.parity);
    }

    /// Goes on to the first number of the next group. The numbers that are left of this one stay
    /// unused: that is what keeps kcp-go's decoder in step.
    fn end_group(&mut self) {
        self.group_seqid += self.shards.group_len();
        if self.group_seqid == self.shards.wrap() {
            self.group_seqid = 0;
        }
        self.pending = None;
        self.n_filled = 0;
        self.n_summed = self.n_wanted;
        for sum in &mut self.parity {
            sum.clear();
        }
    }

    /// Returns the number of a packet of the group.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a group has 255 shards at most"
    )]
    fn seqid_at(&self, position: usize) -> u32 {
        self.group_seqid + position as u32
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// A clock, a group at a time.
    struct Run {
        encoder: Encoder,
        now: Instant,
    }

    impl Run {
        fn starting_at(seqid: u32) -> Self {
            #[expect(clippy::disallowed_methods, reason = "any instant will do")]
            let now = Instant::now();
            Self {
                encoder: Encoder::new(Shards::FRP, seqid).unwrap(),
                now,
            }
        }

        /// Seals ten packets, the last one after a pause, and returns the numbers of all packets.
        fn group(&mut self, pause: Duration) -> Vec<u32> {
            let mut seqids = Vec::new();
            for i in 0..10 {
                self.now += if i == 9 {
                    pause
                } else {
                    Duration::from_millis(1)
                };
                let mut packet = vec![i; 40];
                self.encoder.seal(&mut packet, self.now);
                seqids.push(seqid(&packet));
            }
            let mut parity = Vec::new();
            while self.encoder.poll_parity(&mut parity) {
                seqids.push(seqid(&parity));
                parity.clear();
            }
            seqids
        }
    }

    fn seqid(packet: &[u8]) -> u32 {
        u32::from_le_bytes(*packet.first_chunk().unwrap())
    }

    #[test]
    fn a_group_takes_its_numbers_whether_parity_is_sent_or_not() {
        let mut run = Run::starting_at(0);
        let prompt = Duration::from_millis(499);
        let idle = Duration::from_millis(500);
        assert_eq!(run.group(prompt), (0..13).collect::<Vec<_>>());
        assert_eq!(run.group(idle), (13..23).collect::<Vec<_>>());
        run.encoder.set_parity(1);
        assert_eq!(run.group(prompt), (26..37).collect::<Vec<_>>());
        run.encoder.set_parity(0);
        assert_eq!(run.group(prompt), (39..49).collect::<Vec<_>>());
        run.encoder.set_parity(9);
        assert_eq!(run.group(prompt), (52..65).collect::<Vec<_>>());
    }

    #[test]
    fn numbers_begin_again_before_a_group_would_be_cut() {
        let mut run = Run::starting_at(4_294_967_286);
        assert_eq!(
            run.group(Duration::ZERO),
            (4_294_967_274..4_294_967_287).collect::<Vec<_>>()
        );
        assert_eq!(run.group(Duration::ZERO), (0..13).collect::<Vec<_>>());
    }

    #[test]
    fn parity_that_nobody_takes_is_dropped_with_its_numbers() {
        let mut run = Run::starting_at(0);
        let mut packet = vec![0; 40];
        for _ in 0..10 {
            run.encoder.seal(&mut packet, run.now);
        }
        assert!(run.encoder.has_parity());
        run.encoder.seal(&mut packet, run.now);
        assert_eq!(seqid(&packet), 13);
        assert!(!run.encoder.has_parity());
    }

    #[test]
    fn a_change_of_parity_waits_for_the_group_to_end() {
        let mut run = Run::starting_at(0);
        let mut packet = vec![0; 40];
        run.encoder.seal(&mut packet, run.now);
        run.encoder.set_parity(0);
        for _ in 1..10 {
            run.encoder.seal(&mut packet, run.now);
        }
        let mut parity = Vec::new();
        let n_parity = (0..10)
            .filter(|_| run.encoder.poll_parity(&mut parity))
            .count();
        assert_eq!(n_parity, 3);
        assert_eq!(run.group(Duration::ZERO).len(), 10);
    }
}
