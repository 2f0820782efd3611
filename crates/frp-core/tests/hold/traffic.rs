//! Bytes whose place shows in them, both ways at once.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::task::JoinHandle;
use transports::BoxStream;

/// The bytes of a direction from `offset` on. Eight at a time, each eight different.
pub(crate) fn bytes(direction: u64, offset: u64, len: usize) -> Vec<u8> {
    let word = |i: u64| (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ direction);
    let first = offset / 8;
    let n_words = len as u64 / 8 + 2;
    let mut bytes: Vec<u8> = Vec::with_capacity(len + 16);
    for i in first..first + n_words {
        bytes.extend_from_slice(&word(i).to_le_bytes());
    }
    let skipped = (offset % 8) as usize;
    bytes.truncate(skipped + len);
    bytes.drain(..skipped);
    bytes
}

/// Writes `len` bytes in pieces of random lengths, and ends the direction.
pub(crate) async fn write(
    mut half: WriteHalf<BoxStream>,
    direction: u64,
    len: u64,
    mut random: Random,
) -> io::Result<WriteHalf<BoxStream>> {
    let mut offset = 0;
    while offset < len {
        let most = random.pick(&[1, 100, 5_000, 100_000]);
        let n = (1 + random.below(most)).min(len - offset);
        half.write_all(&bytes(direction, offset, usize::try_from(n).unwrap()))
            .await?;
        offset += n;
    }
    half.shutdown().await?;
    Ok(half)
}

/// Reads to the end, and checks every byte. Returns how many there were.
pub(crate) async fn read(mut half: ReadHalf<BoxStream>, direction: u64) -> io::Result<u64> {
    let mut offset = 0;
    let mut buf = vec![0; 50_000];
    loop {
        let n = half.read(&mut buf).await?;
        if n == 0 {
            return Ok(offset);
        }
        assert!(
            buf[..n] == bytes(direction, offset, n),
            "direction {direction}, from {offset} on"
        );
        offset += n as u64;
    }
}

/// Sends `len` bytes each way, checks them, and ends both directions in good order.
pub(crate) fn exchange(
    (ours, theirs): (BoxStream, BoxStream),
    len: u64,
    random: &mut Random,
) -> JoinHandle<()> {
    let seeds = [random.next(), random.next()];
    tokio::spawn(async move {
        let (our_reader, our_writer) = tokio::io::split(ours);
        let (their_reader, their_writer) = tokio::io::split(theirs);
        let there = tokio::spawn(write(our_writer, 1, len, Random(seeds[0])));
        let back = tokio::spawn(write(their_writer, 2, len, Random(seeds[1])));
        let read_there = tokio::spawn(read(their_reader, 1));
        let read_back = tokio::spawn(read(our_reader, 2));
        assert_eq!(read_there.await.unwrap().unwrap(), len);
        assert_eq!(read_back.await.unwrap().unwrap(), len);
        drop((there.await.unwrap().unwrap(), back.await.unwrap().unwrap()));
    })
}

/// A small generator (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// From `SEED`, or the given one; printed.
    pub(crate) fn seeded(default: u64) -> Self {
        let seed = std::env::var("SEED")
            .ok()
            .and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or(default);
        eprintln!("SEED={seed}");
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn pick(&mut self, from: &[u64]) -> u64 {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}
