//! Bytes without content, moved as cheaply as the kernel allows: for measuring.
//!
//! The tunnel under test shares the machine's cores with what loads it, so this end must not copy:
//! zeros are sent from the page cache, and what arrives is dropped inside the kernel.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

/// Sends zeros until the peer closes.
pub fn pour(mut conn: &TcpStream) -> io::Result<()> {
    let mut zeros: File = tempfile::tempfile()?;
    zeros.set_len(FILE_LEN)?;
    // The first pass puts real pages under the file, which has none yet.
    io::copy(&mut (&zeros).take(FILE_LEN), &mut io::sink())?;
    loop {
        zeros.seek(SeekFrom::Start(0))?;
        // From a file to a socket, std uses sendfile.
        io::copy(&mut (&zeros).take(FILE_LEN), &mut conn)?;
    }
}

/// Drops what arrives, and counts it, until the peer closes.
pub fn drain(conn: &TcpStream, n_received: &AtomicU64) -> io::Result<()> {
    loop {
        #[expect(unsafe_code, reason = "std has no way to drop what a socket holds")]
        // SAFETY: with MSG_TRUNC a TCP socket drops the bytes and never writes to the buffer, so
        // that none is needed (tcp(7)). The descriptor is open as long as `conn` is borrowed.
        let n = unsafe {
            libc::recv(
                conn.as_raw_fd(),
                ptr::null_mut(),
                DRAIN_LEN,
                libc::MSG_TRUNC,
            )
        };
        match u64::try_from(n) {
            Ok(0) => return Ok(()),
            Ok(n) => n_received.fetch_add(n, Ordering::Relaxed),
            Err(_negative) => return Err(io::Error::last_os_error()),
        };
    }
}

/// How much of the page cache is sent over and over again.
const FILE_LEN: u64 = 4 * 1024 * 1024;

/// How much is dropped at once, at most.
const DRAIN_LEN: usize = 1024 * 1024;
