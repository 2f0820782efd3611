//! Measures a lab's link from the outside: with sockets in both places, as programs meet it.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::net::sockopt;

use super::{Direction, Lab, Place, system};

/// Sends `n` small datagrams from near to far, one every `interval`, and returns how long each
/// that came back has taken.
pub fn echo_times(lab: &Lab, n: u32, interval: Duration) -> Result<Vec<Duration>> {
    let service = udp_socket(lab, lab.far())?;
    let user = udp_socket(lab, lab.near())?;
    user.connect(service.local_addr()?)?;
    let is_over = AtomicBool::new(false);
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            system::run_before_others();
            echo(&service, &is_over);
        });
        let receiver = scope.spawn(|| {
            system::run_before_others();
            let mut times = Vec::new();
            let mut datagram = [0; PROBE_LEN];
            // Ends after the first silence: all that come at all have come by then.
            while let Ok(PROBE_LEN) = user.recv(&mut datagram) {
                let sent = Duration::from_nanos(u64::from_be_bytes(first_eight(&datagram)));
                times.push(start.elapsed().saturating_sub(sent));
            }
            times
        });
        for number in 0..n {
            thread::sleep((interval * number).saturating_sub(start.elapsed()));
            let mut datagram = [0; PROBE_LEN];
            let now = u64::try_from(start.elapsed().as_nanos()).unwrap_or(0);
            datagram[..8].copy_from_slice(&now.to_be_bytes());
            // Rejected or dropped by a fault: what does not come back tells.
            let _ = user.send(&datagram);
        }
        let times = receiver.join().ok().context("the receiver panicked")?;
        is_over.store(true, Ordering::Relaxed);
        Ok(times)
    })
}

/// What came out of a stream of datagrams.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// How many were sent.
    pub n_sent: u64,
    /// How many arrived.
    pub n_received: u64,
    /// The rate between the first and the last arrival, in IP bits.
    pub rate_mbit: f64,
    /// In how many bursts the missing ones got lost.
    pub n_bursts: u64,
    /// How many arrived whose bytes were not those that were sent.
    pub n_corrupt: u64,
}

impl Stream {
    /// Returns how many percent did not arrive.
    pub fn loss_pct(&self) -> f64 {
        100.0 * (1.0 - self.n_received as f64 / self.n_sent as f64)
    }

    /// Returns how many got lost in a row, on average.
    pub fn mean_burst(&self) -> f64 {
        self.n_sent.saturating_sub(self.n_received) as f64 / self.n_bursts as f64
    }
}

/// Sends full datagrams in one direction at `rate_mbit` for `duration`.
pub fn stream(lab: &Lab, way: Direction, rate_mbit: f64, duration: Duration) -> Result<Stream> {
    let (from, to) = ends(lab, way);
    let receiver = udp_socket(lab, to)?;
    let sender = udp_socket(lab, from)?;
    sender.connect(receiver.local_addr()?)?;
    thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            let mut datagram = [0; super::MTU];
            let (mut first, mut last) = (None, Instant::now());
            let (mut n_received, mut n_corrupt, mut n_bursts) = (0, 0, 0);
            let mut expected = 0;
            while let Ok(n) = receiver.recv(&mut datagram) {
                last = Instant::now();
                first.get_or_insert(last);
                n_received += 1;
                let (number, filling) = datagram[..n].split_at(NUMBER_LEN.min(n));
                n_corrupt += u64::from(filling.iter().any(|byte| *byte != FILLING));
                let number = number.try_into().map_or(0, u32::from_be_bytes);
                n_bursts += u64::from(number > expected);
                expected = number.max(expected).saturating_add(1);
            }
            let span = first.map_or(Duration::ZERO, |first| last - first);
            (n_received, n_corrupt, n_bursts, span)
        });
        let mut datagram = [FILLING; DATAGRAM_LEN];
        let gap = Duration::from_secs_f64(super::MTU as f64 * 8.0 / rate_mbit / 1e6);
        let start = Instant::now();
        let mut n_sent: u32 = 0;
        while start.elapsed() < duration {
            if let Some(early) = (gap * n_sent).checked_sub(start.elapsed()) {
                thread::sleep(early);
            }
            datagram[..NUMBER_LEN].copy_from_slice(&n_sent.to_be_bytes());
            let _ = sender.send(&datagram);
            n_sent += 1;
        }
        let (n_received, n_corrupt, n_bursts, span) =
            receiving.join().ok().context("the receiver panicked")?;
        let n_bits = super::MTU as f64 * 8.0 * n_received as f64;
        let per_packet = n_bits / n_received.max(1) as f64;
        Ok(Stream {
            n_sent: u64::from(n_sent),
            n_received,
            rate_mbit: (n_bits - per_packet) / span.as_secs_f64().max(1e-9) / 1e6,
            n_bursts,
            n_corrupt,
        })
    })
}

/// Sends over one TCP connection with this congestion control for `duration`, and returns the rate
/// of what arrived after `warm_up`, in bits of payload.
pub fn tcp_mbit(
    lab: &Lab,
    way: Direction,
    congestion: &str,
    warm_up: Duration,
    duration: Duration,
) -> Result<f64> {
    let (from, to) = ends(lab, way);
    let address = to.address();
    let listener = to.enter(|| TcpListener::bind((address, 0)))?;
    let target = listener.local_addr()?;
    let mut sender = from.enter(|| TcpStream::connect_timeout(&target, crate::PATIENCE))?;
    sockopt::set_tcp_congestion(&sender, congestion)?;
    sender.set_write_timeout(Some(crate::PATIENCE))?;
    let (mut receiver, _) = listener.accept()?;
    receiver.set_read_timeout(Some(crate::PATIENCE))?;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let block = [FILLING; BLOCK_LEN];
            while !is_over.load(Ordering::Relaxed) {
                if sender.write_all(&block).is_err() {
                    return;
                }
            }
        });
        let start = Instant::now();
        let mut block = [0; BLOCK_LEN];
        let mut n_counted = 0;
        while start.elapsed() < warm_up + duration {
            let n = receiver.read(&mut block)?;
            ensure!(n > 0, "the connection ended");
            if start.elapsed() >= warm_up {
                n_counted += n;
            }
        }
        is_over.store(true, Ordering::Relaxed);
        // Ends the sender that waits for room.
        receiver.shutdown(std::net::Shutdown::Both)?;
        drop(receiver);
        let span = start.elapsed() - warm_up;
        Ok(n_counted as f64 * 8.0 / span.as_secs_f64() / 1e6)
    })
}

/// Returns the one that a tenth of them is not above.
pub fn earliest_tenth<T: Copy + Ord>(values: &[T]) -> Option<T> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 10).copied()
}

fn ends(lab: &Lab, way: Direction) -> (&Place, &Place) {
    match way {
        Direction::ToFar => (lab.near(), lab.far()),
        Direction::ToNear => (lab.far(), lab.near()),
    }
}

fn udp_socket(lab: &Lab, place: &Place) -> io::Result<UdpSocket> {
    let socket = place.enter(|| UdpSocket::bind((place.address(), 0)))?;
    socket.set_read_timeout(Some(SILENCE + lab.link().round_trip() * 2))?;
    // Root may have more than the system's usual limit.
    sockopt::set_socket_recv_buffer_size_force(&socket, UDP_BUFFER_LEN)?;
    Ok(socket)
}

fn echo(socket: &UdpSocket, is_over: &AtomicBool) {
    let mut datagram = [0; super::MTU];
    while !is_over.load(Ordering::Relaxed) {
        if let Ok((n, from)) = socket.recv_from(&mut datagram) {
            let _ = socket.send_to(&datagram[..n], from);
        }
    }
}

fn first_eight(datagram: &[u8; PROBE_LEN]) -> [u8; 8] {
    let mut first = [0; 8];
    first.copy_from_slice(&datagram[..8]);
    first
}

/// As long as what an interactive user sends.
const PROBE_LEN: usize = 64;
/// With the headers of IPv4 and UDP, a packet of the link's full length.
const DATAGRAM_LEN: usize = super::MTU - 28;
/// Each datagram begins with its number. A corrupt number is not noticed.
const NUMBER_LEN: usize = 4;
const FILLING: u8 = 0xa5;
const BLOCK_LEN: usize = 64 * 1024;
/// Nothing has come for so long, and two round trips: nothing will.
const SILENCE: Duration = Duration::from_millis(300);
/// Room for what arrives while the receiver does not run.
const UDP_BUFFER_LEN: usize = 8 * 1024 * 1024;
