//! Free ports for servers that are told their port in a file.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

/// The lowest port that is given out.
const FIRST: u16 = 10_000;
/// How many ports there are to give out. The range ends below Linux's ephemeral ports (32768 and
/// up), so that no outgoing connection takes a port between its choice and its use.
const COUNT: u16 = 22_000;

/// Returns a port on loopback that nobody uses for TCP or UDP, and that this process has not
/// given out lately.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes that run at the same time begin at different places.
    let offset = (process::id() % u32::from(COUNT)).wrapping_mul(97) % u32::from(COUNT);

    for _ in 0..COUNT {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        let position = (offset + u32::from(turn)) % u32::from(COUNT);
        let port = FIRST + u16::try_from(position)?;
        let address = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port is free between {FIRST} and {}", FIRST + COUNT)
}
