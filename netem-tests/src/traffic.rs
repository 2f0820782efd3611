//! What users do: connect to a port and check every byte that comes back.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::service::RECEIVED;
use crate::{Op, PATIENCE, Pattern};

/// An open connection to the service's echo. Every message carries its number.
#[derive(Debug)]
pub struct EchoConn {
    conn: TcpStream,
    n_sent: u64,
}

impl EchoConn {
    /// Connects to `port`, and returns once the first echo has come back.
    pub fn open(port: u16) -> Result<Self> {
        let mut conn = connect(port)?;
        conn.write_all(&Op::Echo.request(0, 0))?;
        let mut echo = Self { conn, n_sent: 0 };
        echo.round()?;
        Ok(echo)
    }

    /// Sends the next number and waits for it.
    pub fn round(&mut self) -> Result<Duration> {
        self.n_sent += 1;
        let start = Instant::now();
        self.conn.write_all(&self.n_sent.to_be_bytes())?;
        let mut echo = [0; 8];
        self.conn
            .read_exact(&mut echo)
            .with_context(|| format!("no echo of message {}", self.n_sent))?;
        let number = u64::from_be_bytes(echo);
        ensure!(
            number == self.n_sent,
            "message {} came as {number}",
            self.n_sent
        );
        Ok(start.elapsed())
    }

    /// Waits until the other side closes, and fails if it sends anything instead.
    pub fn wait_for_close(mut self) -> Result<()> {
        match self.conn.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => bail!("there was a byte that nobody asked for"),
            Err(error) if is_timeout(&error) => bail!("it was still open after {PATIENCE:?}"),
            Err(_reset) => Ok(()),
        }
    }
}

/// Fetches `len` bytes and checks each of them.
pub fn download(port: u16, len: u64, seed: u64) -> Result<()> {
    let mut conn = connect(port)?;
    conn.write_all(&Op::Download.request(len, seed))?;
    Pattern::new(seed)
        .receive(len, &mut conn)
        .with_context(|| format!("download of seed {seed}"))
}

/// Sends `len` bytes and waits until the service says that each of them was right.
pub fn upload(port: u16, len: u64, seed: u64) -> Result<()> {
    let mut conn = connect(port)?;
    conn.write_all(&Op::Upload.request(len, seed))?;
    Pattern::new(seed).send(len, &mut conn)?;
    wait_for_receipt(&mut conn).with_context(|| format!("upload of seed {seed}"))
}

/// Sends and fetches `len` bytes at the same time on one connection.
pub fn both_ways(port: u16, len: u64, seed: u64) -> Result<()> {
    let mut conn = connect(port)?;
    conn.write_all(&Op::Both.request(len, seed))?;
    thread::scope(|scope| {
        let sender = scope.spawn(|| Pattern::new(seed).send(len, &mut &conn));
        Pattern::new(!seed).receive(len, &mut &conn)?;
        sender.join().ok().context("the sender panicked")??;
        wait_for_receipt(&mut &conn)
    })
    .with_context(|| format!("both ways with seed {seed}"))
}

/// Opens `n` connections at the same time, each of which moves `len` bytes both ways while all
/// others are open.
pub fn in_parallel(port: u16, n: u64, len: u64) -> Result<()> {
    let threads: Vec<_> = (0..n)
        .map(|seed| {
            thread::spawn(move || {
                let mut echo = EchoConn::open(port)?;
                both_ways(port, len, seed)?;
                echo.round()
            })
        })
        .collect();
    for (number, thread) in threads.into_iter().enumerate() {
        thread
            .join()
            .ok()
            .context("a user panicked")?
            .with_context(|| format!("user {number} of {n}"))?;
    }
    Ok(())
}

/// Sends datagrams of different lengths and waits for the echo of each. A datagram may get lost,
/// as UDP allows, and is then sent again.
pub fn datagrams(port: u16) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect((Ipv4Addr::LOCALHOST, port))?;
    socket.set_read_timeout(Some(DATAGRAM_RESEND_INTERVAL))?;
    for (number, len) in DATAGRAM_LENS.into_iter().enumerate() {
        let mut datagram = Vec::new();
        Pattern::new(number as u64 + 1).send(len, &mut datagram)?;
        echo_datagram(&socket, &datagram).with_context(|| format!("datagram of {len} bytes"))?;
    }
    Ok(())
}

fn echo_datagram(socket: &UdpSocket, datagram: &[u8]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut received = [0; 2048];
    while Instant::now() < deadline {
        // Refused while the proxy's port is not open yet.
        if socket.send(datagram).is_err() {
            thread::sleep(DATAGRAM_RESEND_INTERVAL);
            continue;
        }
        loop {
            match socket.recv(&mut received) {
                Ok(n) if &received[..n] == datagram => return Ok(()),
                Ok(n) if n == datagram.len() => bail!("it came back changed"),
                // The echo of an earlier one that had been sent twice.
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }
    bail!("no echo within {PATIENCE:?}")
}

/// Connects to a port on loopback.
pub fn connect(port: u16) -> Result<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let conn = TcpStream::connect_timeout(&address, PATIENCE)
        .with_context(|| format!("cannot connect to port {port}"))?;
    conn.set_nodelay(true)?;
    conn.set_read_timeout(Some(PATIENCE))?;
    conn.set_write_timeout(Some(PATIENCE))?;
    Ok(conn)
}

/// Waits until `port` on loopback accepts connections (`open`) or refuses them.
pub fn wait_for_port(port: u16, open: bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() == open {
            return Ok(());
        }
        thread::sleep(PORT_INTERVAL);
    }
    let state = if open { "open" } else { "closed" };
    bail!("port {port} was not {state} within {PATIENCE:?}")
}

/// Waits until somebody who connects to `port` gets an echo, and returns when that was; nothing if
/// nobody has got one by `deadline`.
pub fn wait_until_served(port: u16, deadline: Instant) -> Option<Instant> {
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        if ask_for_an_echo(port, left.min(ATTEMPT_PATIENCE)).is_ok() {
            return Some(Instant::now());
        }
        thread::sleep(PORT_INTERVAL);
    }
    None
}

fn ask_for_an_echo(port: u16, patience: Duration) -> Result<()> {
    let mut conn = connect(port)?;
    conn.set_read_timeout(Some(patience.max(PORT_INTERVAL)))?;
    conn.write_all(&Op::Echo.request(0, 0))?;
    conn.write_all(b"?")?;
    Ok(conn.read_exact(&mut [0])?)
}

pub(crate) fn wait_for_receipt(conn: &mut impl Read) -> Result<()> {
    let mut answer = [0; RECEIVED.len()];
    conn.read_exact(&mut answer)
        .context("the service did not confirm what it got")?;
    ensure!(&answer == RECEIVED, "the service answered {answer:?}");
    Ok(())
}

fn is_timeout(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    matches!(error.kind(), TimedOut | WouldBlock)
}

/// From empty to as much as frp carries by default (`udpPacketSize` 1500).
const DATAGRAM_LENS: [u64; 7] = [1, 2, 64, 500, 1024, 1400, 1500];

/// How long the echo of a datagram may take before it counts as lost.
const DATAGRAM_RESEND_INTERVAL: Duration = Duration::from_millis(300);

/// How long one attempt waits before another is made: a server may have taken it to its grave.
const ATTEMPT_PATIENCE: Duration = Duration::from_secs(5);

/// Nothing tells when another process opens a port: it is asked for.
const PORT_INTERVAL: Duration = Duration::from_millis(10);
