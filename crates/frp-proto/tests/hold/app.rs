//! Who writes to and reads from one end of a held stream, and knows what must come out.

use std::sync::OnceLock;

use bytes::Bytes;
use frp_proto::hold::frame::ResetCode;

use crate::random::Random;

/// One end's program.
#[derive(Debug)]
pub struct App {
    key: u64,
    peers_key: u64,
    pub to_write: u64,
    pub written: u64,
    pub has_finished: bool,
    /// It was told that there is no room, and waits for word.
    pub is_waiting: bool,
    pub read: u64,
    pub is_read_planned: bool,
    pub saw_end: bool,
    pub saw_reset: Option<ResetCode>,
    pub did_reset: bool,
    /// Longest pause before a read, in microseconds.
    pub read_pause: u64,
    pub write_pause: u64,
    pub largest_write: u64,
}

impl App {
    pub fn new(stream: u64, end: usize, random: &mut Random) -> Self {
        let to_write = match random.below(10) {
            0 => 0,
            1..=4 => random.below(300),
            5..=8 => random.below(60_000),
            _ => random.below(600_000),
        };
        Self {
            key: stream * 2 + end as u64,
            peers_key: stream * 2 + 1 - end as u64,
            to_write,
            written: 0,
            has_finished: false,
            is_waiting: false,
            read: 0,
            is_read_planned: false,
            saw_end: false,
            saw_reset: None,
            did_reset: false,
            read_pause: random.pick(&[1, 1, 500, 20_000, 200_000]),
            write_pause: random.pick(&[1, 1, 1000, 50_000]),
            largest_write: random.pick(&[100, 5_000, 70_000]).max(to_write / 200),
        }
    }

    /// What it writes next.
    pub fn next_chunk(&self, random: &mut Random) -> Bytes {
        let len = 1 + random.below(self.largest_write);
        let len = len.min(self.to_write - self.written);
        pattern(self.key, self.written, len as usize)
    }

    /// Checks what it reads.
    pub fn check_read(&mut self, bytes: &Bytes) {
        assert!(!self.saw_end && self.saw_reset.is_none(), "after the end");
        let expected = pattern(self.peers_key, self.read, bytes.len());
        assert!(*bytes == expected, "wrong bytes at {}", self.read);
        self.read += bytes.len() as u64;
    }

    pub fn is_done(&self) -> bool {
        let is_cut = self.saw_reset.is_some() || self.did_reset;
        is_cut || (self.has_finished && self.saw_end)
    }
}

/// Longer than any write.
const LEN: usize = 1 << 18;

/// Bytes of a stream's direction: slices of one random block, so that a run copies nothing.
fn pattern(key: u64, offset: u64, len: usize) -> Bytes {
    static BLOCK: OnceLock<Bytes> = OnceLock::new();
    let block = BLOCK.get_or_init(|| {
        let mut random = Random::new(99);
        (0..2 * LEN)
            .map(|_| random.next() as u8)
            .collect::<Vec<u8>>()
            .into()
    });
    let at = (key * 7919 + offset) as usize % LEN;
    if at + len <= block.len() && len <= LEN && at / LEN == (at + len) / LEN {
        return block.slice(at..at + len);
    }
    (0..len)
        .map(|i| block[(at + i) % LEN])
        .collect::<Vec<u8>>()
        .into()
}
