//! Bytes without content, moved as cheaply as the kernel allows: for measuring.
//!
//! The tunnel under test shares the machine's cores with what loads it, so this end must not copy:
//! zeros are sent from the page cache, and what arrives is dropped inside the kernel.

use std::fs::File;
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

/// Sends zeros until the peer closes.
pub fn pour(conn: &TcpStream) -> io::Result<()> {
    let mut zeros: File = tempfile::tempfile()?;
    // Written and not only measured out, so that there are pages to send.
    zeros.write_all(&vec![0; FILE_LEN])?;
    loop {
        let mut offset: libc::off_t = 0;
        while usize::try_from(offset).is_ok_and(|offset| offset < FILE_LEN) {
            #[expect(unsafe_code, reason = "std has no way to send from the page cache")]
            // SAFETY: both descriptors are open as long as their owners are borrowed, and `offset`
            // outlives the call.
            let n = unsafe {
                libc::sendfile(
                    conn.as_raw_fd(),
                    zeros.as_raw_fd(),
                    &raw mut offset,
                    FILE_LEN,
                )
            };
            if n < 0 {
                return Err(io::Error::last_os_error());
            }
        }
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
const FILE_LEN: usize = 4 * 1024 * 1024;

/// How much is dropped at once, at most.
const DRAIN_LEN: usize = 1024 * 1024;
