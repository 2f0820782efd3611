//! Bytes that come in bursts, with pauses longer than any retransmission time between them.
//!
//! What protects packets in groups (KCP's error correction) has to survive a pause inside of a
//! group, and what estimates a path has to survive having nothing to estimate it by. The first
//! bytes of a transfer therefore come in [`BURST_LENS`], and the rest without a pause.

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::traffic::{connect, wait_for_receipt};
use crate::{Op, Pattern};

/// Fetches `len` bytes, the first of them in bursts, and checks each of them.
pub fn download(port: u16, len: u64, seed: u64) -> Result<()> {
    let mut conn = connect(port)?;
    conn.write_all(&Op::BurstDownload.request(len, seed))?;
    Pattern::new(seed)
        .receive(len, &mut conn)
        .with_context(|| format!("download in bursts, seed {seed}"))
}

/// Sends `len` bytes, the first of them in bursts, and waits until the service says that each of
/// them was right.
pub fn upload(port: u16, len: u64, seed: u64) -> Result<()> {
    let mut conn = connect(port)?;
    conn.write_all(&Op::Upload.request(len, seed))?;
    Pattern::new(seed).send(len, &mut Pausing::new(&conn))?;
    wait_for_receipt(&mut conn).with_context(|| format!("upload in bursts, seed {seed}"))
}

/// Pauses after each of the first bursts of what is written.
#[derive(Debug)]
pub struct Pausing<W> {
    inner: W,
    next: usize,
    n_left: usize,
}

impl<W: Write> Pausing<W> {
    /// Writes to `inner`.
    pub fn new(inner: W) -> Self {
        let n_left = BURST_LENS[0];
        Self {
            inner,
            next: 1,
            n_left,
        }
    }
}

impl<W: Write> Write for Pausing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(&bytes[..bytes.len().min(self.n_left)])?;
        self.n_left -= n;
        if self.n_left == 0 {
            self.inner.flush()?;
            if self.next <= BURST_LENS.len() {
                thread::sleep(PAUSE);
            }
            self.n_left = BURST_LENS.get(self.next).copied().unwrap_or(usize::MAX);
            self.next += 1;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The bursts: less than a packet, a few packets, parts of a group of ten, several groups with a
/// part of one, and more than is sent at once.
pub const BURST_LENS: [usize; 8] = [
    700,
    4 * 1024,
    12 * 1024,
    60 * 1024,
    300 * 1024,
    7 * 1024,
    1000 * 1024,
    17 * 1024,
];

/// Longer than the retransmission time of a path of tens of milliseconds, which is what frp's KCP
/// takes for the end of a group.
pub const PAUSE: Duration = Duration::from_millis(600);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_is_written_in_bursts_is_what_comes_out() {
        // Past the first two bursts only, since each of them takes its time.
        let len = BURST_LENS[0] as u64 + BURST_LENS[1] as u64 + 100;
        let (mut whole, mut bursts) = (Vec::new(), Vec::new());

        Pattern::new(1).send(len, &mut whole).unwrap();
        Pattern::new(1)
            .send(len, &mut Pausing::new(&mut bursts))
            .unwrap();

        assert_eq!(whole, bursts);
    }
}
