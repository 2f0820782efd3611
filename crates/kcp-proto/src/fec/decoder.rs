//! The receiving half of forward error correction.
//!
//! Packets are kept for a while by number. When one arrives, the group it belongs to is looked for,
//! and when that has enough packets, the missing ones are computed.
//!
//! **Where a group lies** cannot be told from its numbers: kcp-go's encoder uses none for parity
//! that it skips, so its groups wander. But a group always ends with a run of as many numbers as
//! it has parity shards, and as many data packets stand before that run. So the neighbours of a
//! parity packet tell its place in the run. Where loss has left too few of them, the place that
//! earlier groups had is taken, unless something speaks against it: a packet of the wrong type, or
//! a pause, since kcp-go skips parity only after one.
//!
//! **A shard from a wrong group looks good in part**: where all packets agree, such as in the
//! conversation's number, any combination of them agrees too. Therefore lengths must fit exactly,
//! padding must be zero, spare parity must agree, and every segment must parse to the last byte.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{MAX_SHARD_LEN, MIN_SHARD_LEN, SHARD_OFFSET, SIZE_LEN, Shards};
use crate::reed_solomon::ReedSolomon;
use crate::segment::{Segments, distance};

/// Packets that are kept, by number. kcp-go keeps 39; more reordering than this only costs
/// recovery. Nine groups.
const WINDOW: u32 = 128;

/// Without packets for this long, what is kept is of no use: it has been sent again since.
const EXPIRY: Duration = Duration::from_secs(5);

/// After a pause this long, groups may have moved. kcp-go moves them after 500 ms at the sender,
/// of which jitter may take away some.
const ALIGNMENT_PAUSE: Duration = Duration::from_millis(250);

/// Keeps packets and recovers lost ones.
#[derive(Debug)]
pub struct Decoder {
    conv: u32,
    shards: Shards,
    code: ReedSolomon,
    /// Packets at their number modulo [`WINDOW`]. Empty until the first packet.
    slots: Vec<Slot>,
    /// The highest number seen.
    newest: u32,
    /// A number far from `newest`, seen once. A second one near it moves the window there.
    stray: Option<u32>,
    alignment: Option<Alignment>,
    last_arrival: Option<Instant>,
    stats: DecoderStats,
}

/// What a decoder has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecoderStats {
    /// Data packets recovered.
    pub n_recovered: u64,
    /// Groups whose shards turned out not to belong together.
    pub n_rejected: u64,
    /// Parity packets received, duplicates included.
    pub n_parity: u64,
}

/// Where groups have been found.
#[derive(Clone, Copy, Debug)]
struct Alignment {
    /// The number of a group's first parity packet: the newest one that was certain.
    first_parity: u32,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    seqid: u32,
    kind: Option<Kind>,
    /// Empty once the group needs it no more.
    shard: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Data,
    Parity,
}

impl Decoder {
    /// Starts without packets, or returns `None` when there is no code with so many shards, or
    /// when a group would not fit into the window.
    pub fn new(shards: Shards, conv: u32) -> Option<Self> {
        if shards.n_parity == 0 || shards.group_len() > WINDOW / 2 {
            return None;
        }
        Some(Self {
            conv,
            shards,
            code: ReedSolomon::new(shards.n_data, shards.n_parity)?,
            slots: Vec::new(),
            newest: 0,
            stray: None,
            alignment: None,
            last_arrival: None,
            stats: DecoderStats::default(),
        })
    }

    /// Takes a data packet whose segments have been checked, header included. Returns the KCP part
    /// of each packet that can be recovered with it.
    pub fn handle_data(&mut self, seqid: u32, packet: &Bytes, now: Instant) -> Vec<Bytes> {
        let shard = packet.slice(SHARD_OFFSET.min(packet.len())..);
        // A size that lies says that this is not from an encoder like ours: parity over it would
        // recover nonsense. The packet itself may still be good.
        let is_sound = stated_size(&shard) == Some(shard.len());
        if !is_sound || !self.insert(seqid, Kind::Data, shard, now) {
            return Vec::new();
        }
        if seqid == self.newest {
            // The usual case: the parity of its group is yet to come.
            return Vec::new();
        }
        let n_ahead = self.shards.group_len();
        let parity = (1..=n_ahead)
            .map(|i| seqid.wrapping_add(i))
            .find(|&s| self.is(s, Kind::Parity));
        parity.map_or_else(Vec::new, |parity| self.recover_around(parity))
    }

    /// Takes a parity packet, header included. Returns the KCP part of each packet that can be
    /// recovered with it.
    pub fn handle_parity(&mut self, seqid: u32, packet: &Bytes, now: Instant) -> Vec<Bytes> {
        self.stats.n_parity += 1;
        let shard = packet.slice(SHARD_OFFSET.min(packet.len())..);
        if !self.insert(seqid, Kind::Parity, shard, now) {
            return Vec::new();
        }
        self.recover_around(seqid)
    }

    /// Forgets packets that are of no use any more. To be called at [`Decoder::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|at| now >= at) {
            self.slots = Vec::new();
            self.alignment = None;
            self.last_arrival = None;
        }
    }

    /// Returns when packets that are kept can be forgotten.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.last_arrival.map(|last| last + EXPIRY)
    }

    /// Returns what has been done so far.
    pub fn stats(&self) -> DecoderStats {
        self.stats
    }

    /// Keeps a packet, unless it is a duplicate, too old, of an impossible length, or far away.
    fn insert(&mut self, seqid: u32, kind: Kind, shard: Bytes, now: Instant) -> bool {
        if !(MIN_SHARD_LEN..=MAX_SHARD_LEN).contains(&shard.len()) {
            return false;
        }
        if self.slots.is_empty() {
            if kind == Kind::Parity {
                return false;
            }
            self.slots = vec![Slot::default(); WINDOW as usize];
            self.newest = seqid;
        }
        if !self.admit(seqid, kind) {
            return false;
        }
        let pause = self
            .last_arrival
            .map(|last| now.saturating_duration_since(last));
        if pause.is_some_and(|pause| pause >= ALIGNMENT_PAUSE) {
            self.alignment = None;
        }
        self.last_arrival = Some(now);
        self.check_alignment(seqid, kind);

        let slot = &mut self.slots[(seqid % WINDOW) as usize];
        if slot.seqid == seqid && slot.kind.is_some() {
            return false;
        }
        *slot = Slot {
            seqid,
            kind: Some(kind),
            shard,
        };
        true
    }

    /// Whether `seqid` lies in the window, which follows it forward. Further away than the window
    /// is long it takes two data packets that agree. Parity cannot move it so far: unlike data,
    /// which names its conversation, anybody could have made it.
    fn admit(&mut self, seqid: u32, kind: Kind) -> bool {
        let ahead = distance(seqid, self.newest);
        if ahead.unsigned_abs() >= WINDOW {
            if kind == Kind::Parity {
                return false;
            }
            let is_confirmed = self.stray.is_some_and(|stray| {
                distance(seqid, stray).unsigned_abs() < WINDOW && stray != seqid
            });
            self.stray = Some(seqid);
            if !is_confirmed {
                return false;
            }
            self.slots.fill(Slot::default());
            self.alignment = None;
            self.newest = seqid;
        } else if ahead > 0 {
            if seqid < self.newest {
                // Around the wrap groups keep their place only if they have not moved before.
                self.alignment = None;
            }
            self.newest = seqid;
        }
        self.stray = None;
        true
    }

    /// Gives the alignment up when a packet from after it was found has the wrong type for it.
    fn check_alignment(&mut self, seqid: u32, kind: Kind) {
        let Some(alignment) = self.alignment else {
            return;
        };
        if distance(seqid, alignment.first_parity) < 0 {
            return;
        }
        let position = seqid.wrapping_sub(alignment.first_parity) % self.shards.group_len();
        let expected = if (position as usize) < self.shards.n_parity {
            Kind::Parity
        } else {
            Kind::Data
        };
        if kind != expected {
            self.alignment = None;
        }
    }

    /// Recovers what it can of the group that the parity packet `seqid` ends.
    fn recover_around(&mut self, seqid: u32) -> Vec<Bytes> {
        let Some(first_parity) = self.locate(seqid) else {
            return Vec::new();
        };
        self.recover(first_parity)
    }

    /// Finds the first number of the parity run that `seqid` is in, or `None` when that is not
    /// certain.
    fn locate(&mut self, seqid: u32) -> Option<u32> {
        let mut places = (0..self.n_parity())
            .map(|i| seqid.wrapping_sub(i))
            .filter(|&first_parity| self.may_start_run(first_parity));
        let (first, second) = (places.next()?, places.next());
        if second.is_none() {
            let is_newer = self
                .alignment
                .is_none_or(|alignment| distance(first, alignment.first_parity) > 0);
            if is_newer {
                self.alignment = Some(Alignment {
                    first_parity: first,
                });
            }
            return Some(first);
        }
        let aligned = self.alignment?.first_parity;
        let group_len = self.shards.group_len().cast_signed();
        (0..self.n_parity())
            .map(|i| seqid.wrapping_sub(i))
            .find(|&first_parity| {
                distance(first_parity, aligned).rem_euclid(group_len) == 0
                    && self.may_start_run(first_parity)
            })
    }

    /// Whether nothing that has arrived speaks against a parity run that starts at `first_parity`.
    fn may_start_run(&self, first_parity: u32) -> bool {
        let n_parity = self.n_parity();
        let data = (1..=self.n_data()).map(|i| first_parity.wrapping_sub(i));
        let mut run = (0..n_parity).map(|i| first_parity.wrapping_add(i));
        let after = first_parity.wrapping_add(n_parity);
        !run.any(|seqid| self.is(seqid, Kind::Data))
            && !data.into_iter().any(|seqid| self.is(seqid, Kind::Parity))
            && !self.is(after, Kind::Parity)
    }

    /// Recovers the data packets that are missing before `first_parity`, if there is enough.
    fn recover(&mut self, first_parity: u32) -> Vec<Bytes> {
        let first_data = first_parity.wrapping_sub(self.n_data());
        let data: Vec<Option<&[u8]>> = (0..self.n_data())
            .map(|i| self.shard(first_data.wrapping_add(i)))
            .collect();
        let n_missing = data.iter().filter(|shard| shard.is_none()).count();
        if n_missing == 0 {
            self.release(first_data);
            return Vec::new();
        }
        let parity: Vec<Option<&[u8]>> = (0..self.n_parity())
            .map(|i| self.shard(first_parity.wrapping_add(i)))
            .collect();
        if parity.iter().flatten().count() < n_missing {
            return Vec::new();
        }
        let Some(recovered) = self.reconstruct(&data, &parity) else {
            self.stats.n_rejected += 1;
            self.alignment = None;
            self.release(first_data);
            return Vec::new();
        };
        self.stats.n_recovered += recovered.len() as u64;
        let missing = (0..self.n_data())
            .map(|i| first_data.wrapping_add(i))
            .filter(|&seqid| self.shard(seqid).is_none())
            .collect::<Vec<_>>();
        for seqid in missing {
            self.slots[(seqid % WINDOW) as usize] = Slot {
                seqid,
                kind: Some(Kind::Data),
                shard: Bytes::new(),
            };
        }
        self.release(first_data);
        recovered
    }

    /// Returns the KCP parts of the missing packets, if all of them are beyond doubt.
    fn reconstruct(&self, data: &[Option<&[u8]>], parity: &[Option<&[u8]>]) -> Option<Vec<Bytes>> {
        // Every parity shard is as long as the longest data shard of its group.
        let shard_len = parity.iter().flatten().map(|shard| shard.len()).max()?;
        let fits = parity
            .iter()
            .flatten()
            .all(|shard| shard.len() == shard_len)
            && data
                .iter()
                .flatten()
                .all(|shard| !shard.is_empty() && shard.len() <= shard_len);
        if !fits {
            return None;
        }
        let recovered = self.code.reconstruct(data, parity, shard_len)?;
        recovered
            .into_iter()
            .map(|shard| self.payload(shard))
            .collect()
    }

    /// Returns the KCP part of a recovered shard, if it is one.
    fn payload(&self, shard: Vec<u8>) -> Option<Bytes> {
        let size = stated_size(&shard).filter(|&size| size >= MIN_SHARD_LEN)?;
        let (sound, padding) = shard.split_at_checked(size)?;
        if padding.iter().any(|&byte| byte != 0) {
            return None;
        }
        let mut segments = Segments::new(&sound[SIZE_LEN..], self.conv);
        if !segments.all(|segment| segment.is_ok()) || !segments.rest().is_empty() {
            return None;
        }
        Some(Bytes::from(shard).slice(SIZE_LEN..size))
    }

    /// Lets go of the shards of a group. The types stay, as the neighbours of other groups.
    fn release(&mut self, first_data: u32) {
        for i in 0..self.shards.group_len() {
            let seqid = first_data.wrapping_add(i);
            let slot = &mut self.slots[(seqid % WINDOW) as usize];
            if slot.seqid == seqid {
                slot.shard = Bytes::new();
            }
        }
    }

    /// Returns the shard of packet `seqid`: empty when it has been released, `None` when the packet
    /// has not arrived.
    fn shard(&self, seqid: u32) -> Option<&[u8]> {
        let slot = &self.slots[(seqid % WINDOW) as usize];
        (slot.seqid == seqid && slot.kind.is_some()).then_some(&*slot.shard)
    }

    fn is(&self, seqid: u32, kind: Kind) -> bool {
        let slot = &self.slots[(seqid % WINDOW) as usize];
        slot.seqid == seqid && slot.kind == Some(kind)
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "a group has 255 shards at most"
    )]
    fn n_data(&self) -> u32 {
        self.shards.n_data as u32
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "a group has 255 shards at most"
    )]
    fn n_parity(&self) -> u32 {
        self.shards.n_parity as u32
    }
}

/// Returns the size that a shard says it has.
fn stated_size(shard: &[u8]) -> Option<usize> {
    shard
        .first_chunk::<SIZE_LEN>()
        .map(|size| usize::from(u16::from_le_bytes(*size)))
}
