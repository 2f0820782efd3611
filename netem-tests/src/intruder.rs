//! Somebody on the path: hears every UDP packet of one side of a lab, and sends packets under any
//! name.
//!
//! What is sent leaves through the lab's link like everything else. Answers go to the name that was
//! used; the intruder hears them on the way and counts them, which is how amplification is
//! measured.

use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketType, ipproto, recv, sendto, socket,
};

use crate::Place;

pub use packet::Packet;

pub mod forge;
mod packet;

/// A running intruder.
#[derive(Debug)]
pub struct Intruder {
    heard: Arc<Mutex<Heard>>,
    out: OwnedFd,
    stopping: Arc<AtomicBool>,
    hearing: Option<JoinHandle<()>>,
}

/// What has been heard.
#[derive(Debug, Default)]
struct Heard {
    packets: Vec<Packet>,
    newest: HashMap<SocketAddrV4, Packet>,
    tallies: HashMap<(SocketAddrV4, SocketAddrV4), Tally>,
}

/// How much has gone from one address to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// UDP packets.
    pub n_packets: u64,
    /// What is in them, without any headers.
    pub n_bytes: u64,
}

impl Intruder {
    /// Begins to hear what `place` sends and receives.
    pub fn listen(place: &Place) -> Result<Self> {
        let (ears, out) = place.enter(open_sockets)?;
        let heard = Arc::new(Mutex::new(Heard::default()));
        let stopping = Arc::new(AtomicBool::new(false));
        let (all, stop) = (Arc::clone(&heard), Arc::clone(&stopping));
        let hearing = thread::spawn(move || {
            let mut buffer = vec![0; LONGEST_PACKET];
            while !stop.load(Ordering::Relaxed) {
                // It fails when nothing comes for a while.
                if let Ok((n, _)) = recv(&ears, &mut buffer[..], RecvFlags::empty())
                    && let Some(packet) = Packet::parse(&buffer[..n])
                {
                    lock(&all).add(packet, packet::is_own(&buffer[..n]));
                }
            }
        });
        Ok(Self {
            heard,
            out,
            stopping,
            hearing: Some(hearing),
        })
    }

    /// Returns the first packets that were heard, in order: [`MAX_KEPT`] at most, and none of his
    /// own.
    pub fn packets(&self) -> Vec<Packet> {
        lock(&self.heard).packets.clone()
    }

    /// Returns the last packet of `from` that was heard and is not his own.
    pub fn newest_of(&self, from: SocketAddrV4) -> Option<Packet> {
        lock(&self.heard).newest.get(&from).cloned()
    }

    /// Returns how much has gone from where to where so far, his own packets included.
    pub fn tallies(&self) -> HashMap<(SocketAddrV4, SocketAddrV4), Tally> {
        lock(&self.heard).tallies.clone()
    }

    /// Sends a UDP packet in the name of `from`.
    pub fn send(&self, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Result<()> {
        let bytes = packet::build(from, to, payload);
        match sendto(&self.out, &bytes, SendFlags::empty(), &to) {
            // The interface's queue is full: lost, as packets may be.
            Err(rustix::io::Errno::NOBUFS) | Ok(_) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot send as {from}")),
        }
    }
}

impl Drop for Intruder {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(hearing) = self.hearing.take() {
            // It can only have panicked for want of memory.
            let _ = hearing.join();
        }
    }
}

impl Heard {
    fn add(&mut self, packet: Packet, is_own: bool) {
        let tally = self.tallies.entry((packet.from, packet.to)).or_default();
        tally.n_packets += 1;
        tally.n_bytes += packet.payload.len() as u64;
        if is_own {
            return;
        }
        if self.packets.len() < MAX_KEPT {
            self.packets.push(packet.clone());
        }
        self.newest.insert(packet.from, packet);
    }
}

/// Opens a socket that hears everything, and one that sends whole IP packets.
fn open_sockets() -> Result<(OwnedFd, OwnedFd)> {
    let every_protocol = NonZeroU32::new(u32::from(ETH_P_ALL.to_be())).map(Protocol::from_raw);
    let ears = socket(AddressFamily::PACKET, SocketType::DGRAM, every_protocol)
        .context("cannot listen to the link")?;
    sockopt::set_socket_recv_buffer_size_force(&ears, EARS_BUFFER_LEN)?;
    sockopt::set_socket_timeout(&ears, Timeout::Recv, Some(STOP_INTERVAL))?;
    let out = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW))
        .context("cannot send whole packets")?;
    Ok((ears, out))
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many packets are kept, the first ones: some tens of MiB. The tallies go on.
pub const MAX_KEPT: usize = 20_000;

/// Room for what arrives while the thread does not get its turn. A packet without room is not
/// heard.
const EARS_BUFFER_LEN: usize = 64 * 1024 * 1024;

/// How often the thread looks whether it should end.
const STOP_INTERVAL: Duration = Duration::from_millis(100);

const LONGEST_PACKET: usize = 64 * 1024;

/// `linux/if_ether.h`: every protocol.
const ETH_P_ALL: u16 = 3;
